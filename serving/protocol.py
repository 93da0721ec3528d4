"""HTTP/1.1 as uvicorn and httptools speak it, with five differences.

* Clients that do not speak are cut off: uvicorn waits for ever for the rest of a request.
* The end loses nothing: uvicorn closes idle connections at once, and with them a request that is already on its way.
  Here a connection is told by its next answer (`Connection: close`), or closed when nothing came for `LINGER` seconds.
* Whoever does not read is cut off as well.
* Head and body of an answer are one system call and one packet, not two; headers that many answers share are lines
  already (headers.py).
* What turnstile.py stops is refused as soon as its head is there; its body is read, and goes nowhere.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from serving.headers import ADD_LINES, SECURITY_HEADERS, Block
from serving.turnstile import TURNSTILE, Turnstile

_WEBSOCKET_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")
MAX_HEAD = 32_768
"""Bytes of the head of a request, its first line included; uvicorn has no limit."""
LINGER = 1.0
"""Seconds for which an idle connection stays open after the server has been told to end."""

_silenced = logging.getLogger("uvicorn.error.websockets")
_silenced.setLevel(logging.CRITICAL)  # access.py logs failures; uvicorn takes every refusal for one


class _Corked:
    """A transport that holds the head of an answer back until its body comes, and does not wait for ever to be read."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        """Args:
        seconds: how long it may take until what was written is read.
        """
        self.transport, self._loop, self._seconds = transport, loop, seconds
        self._head = self._lines = b""
        self._end: asyncio.TimerHandle | None = None

    def add_lines(self, lines: bytes) -> None:
        """Put header lines into the next head."""
        self._lines += lines

    def write(self, data: bytes) -> None:
        if not self._head and data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 1"):  # 100 Continue
            self._head, self._lines = data[:-2] + self._lines + data[-2:], b""
        else:
            self.transport.write(self._head + data)
            self._head = b""

    def flush(self) -> None:
        if self._head:  # of an answer without a body
            self.write(b"")

    def close(self) -> None:
        self.flush()
        self.transport.close()
        self.abort_later()  # closing waits until all is read

    def abort_later(self) -> None:
        """End the connection after a while, unless `stay` is called before."""
        if self._end is None:
            self._end = self._loop.call_later(self._seconds, self.transport.abort)

    def stay(self) -> None:
        """What was written has been read, or the connection is gone."""
        if self._end is not None:
            self._end.cancel()
            self._end = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)


class _Refused:
    """What stands for a request, where uvicorn looks for one, that got its answer without ever being one."""

    response_started = response_complete = True
    disconnected = False
    message_event = asyncio.Event()
    """Nobody waits for it."""


_REFUSED = _Refused()


class StreamProtocol(WebSocketsSansIOProtocol):
    """A WebSocket; uvicorn's, but that the log does not hold the addresses of those who open one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _silenced


class Protocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, head_seconds: float, body_seconds: float, **kwargs: Any) -> None:
        """All other arguments are uvicorn's.

        Args:
            head_seconds: how long the head of a request may take; at first, from the start of the connection.
            body_seconds: how long the body may take, and an answer until it is read.
        """
        super().__init__(*args, **kwargs)
        self._head_seconds, self._body_seconds = head_seconds, body_seconds
        self._unfinished = ""
        """What the client still has to send to the end: the head, or the body."""
        self._guard: asyncio.TimerHandle | None = None
        self._ending = False
        self._head_size = 0
        self._heads = 0
        """How many begin in what is being received."""
        self._turnstile: Turnstile | None = self.app_state.get(TURNSTILE)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.transport = self._corked = _Corked(transport, self.loop, self._body_seconds)  # type: ignore[assignment]
        self._close_after(self._head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._relax()
        super().connection_lost(exc)
        self._corked.stay()

    def data_received(self, data: bytes) -> None:
        alone, self._heads = 0 if self._unfinished else 1, 0
        super().data_received(data)
        if self._unfinished == "head" and self._heads == alone and not self.transport.is_closing():
            self._check_head(len(data))  # all of it: before this head there was nothing else
        if self._guard is None and self in self.connections:  # which it is not once it is a WebSocket
            self._watch()

    def pause_writing(self) -> None:
        """Nobody reads what has been written, for now."""
        super().pause_writing()
        self._corked.abort_later()

    def resume_writing(self) -> None:
        """Most of it has been read."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._corked.stay()

    def on_message_begin(self) -> None:
        self._unfinished, self._head_size = "head", 0
        self._heads += 1
        super().on_message_begin()
        self.scope["extensions"] = {ADD_LINES: self._corked.add_lines}  # type: ignore[dict-item]

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._unfinished = "body"
        self._relax()
        if self._turnstile is not None and self._turnstile.stops(self.url, self.headers) and self._is_plain_post():
            return self._turn_away(self._turnstile)
        super().on_headers_complete()
        if self._ending:
            self.cycle.keep_alive = False
        return None

    def on_message_complete(self) -> None:
        answered_early = self._unfinished == "body" and self.cycle is not None and self.cycle.response_complete
        self._unfinished = ""
        self._relax()
        super().on_message_complete()
        if answered_early and self.timeout_keep_alive_task is None and not self.parser.should_upgrade():
            # The rest of the body has stopped the clock of the idle connection that this is now.
            handler = self.timeout_keep_alive_handler
            self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, handler)

    def on_response_complete(self) -> None:
        self._corked.flush()
        super().on_response_complete()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over; what is no WebSocket's beginning would be answered in plain text there."""
        headers = dict(self.headers)
        key, version = headers.get(b"sec-websocket-key", b""), headers.get(b"sec-websocket-version")
        if self.scope["method"] != "GET" or version != b"13" or not _WEBSOCKET_KEY.fullmatch(key):
            return self._refuse(400, "invalid-http", "Invalid HTTP", "this is not how a WebSocket begins (RFC 6455)")
        self.transport = self._corked.transport
        return super().handle_websocket_upgrade()

    def shutdown(self) -> None:
        """The server ends: one more answer, if a request is on its way."""
        self._ending = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
        else:
            self._close_after(LINGER)

    def _is_plain_post(self) -> bool:
        """Whether a request can be answered at once: none before it waits, and nothing but its body follows."""
        if self.parser.get_method() != b"POST" or self.parser.get_http_version() != "1.1" or self.expect_100_continue:
            return False
        if not self.parser.should_keep_alive() or self.parser.should_upgrade() or self._ending:
            return False
        waiting = self.cycle is not None and not self.cycle.response_complete
        return not (waiting or self.flow.write_paused or self.transport.is_closing())

    def _turn_away(self, turnstile: Turnstile) -> None:
        self.cycle = _REFUSED  # type: ignore[assignment]
        self._corked.transport.write(turnstile.refuse(self.headers, self.client, self.server_state.default_headers))
        self.on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is answered with a problem document as well."""
        answered = self.cycle is not None and self.cycle.response_started
        if answered and (self._unfinished == "body" or not self.cycle.response_complete):
            self.transport.close()  # its answer, or one before it, is there already
        elif self._head_size > MAX_HEAD:
            self._refuse(
                431, "head-too-large", "Head too large", f"more than {MAX_HEAD} bytes of address and header lines"
            )
        else:
            self._refuse(400, "invalid-http", "Invalid HTTP", msg)

    def _count(self, size: int) -> None:
        self._head_size += size
        if self._head_size > MAX_HEAD:
            raise ValueError("the parser ends here, and uvicorn asks for `send_400_response`")

    def _check_head(self, size: int) -> None:
        """Of a line that does not come to its end, the parser says nothing."""
        self._head_size += size
        if self._head_size > 2 * MAX_HEAD:  # some of it was counted line by line
            self.send_400_response("")

    def _refuse(self, status: int, slug: str, title: str, detail: str) -> None:
        problem = {"type": f"urn:problem:{slug}", "title": title, "status": status, "detail": detail}
        body = json.dumps(problem).encode()
        kind, size = (b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body))
        head = Block([kind, size, (b"connection", b"close"), *SECURITY_HEADERS]).lines
        self._corked.transport.write(STATUS_LINE[status] + head + b"\r\n" + body)
        self.transport.close()

    def _watch(self) -> None:
        """Set a time for what the client has to send.

        Any byte has stopped uvicorn's clock for idle connections, an empty line between two requests too.
        """
        idle = self.timeout_keep_alive_task is None and (self.cycle is None or self.cycle.response_complete)
        if self._unfinished == "body":
            self._close_after(self._body_seconds)
        elif self._unfinished or idle:
            self._close_after(self._head_seconds)

    def _close_after(self, seconds: float) -> None:
        self._relax()
        self._guard = self.loop.call_later(seconds, self._cut_off, seconds)

    def _cut_off(self, seconds: float) -> None:
        answering = self._unfinished == "head" and self.cycle is not None and not self.cycle.response_complete
        if self.pipeline or answering:  # an earlier request: its client may wait for the answer before it goes on
            self._close_after(seconds)
        elif self._unfinished and (self._unfinished == "head" or not self.cycle.response_started):
            detail = f"the {self._unfinished} of the request did not arrive within {seconds:g} s"
            self._refuse(408, "slow-request", "Slow request", detail)
        else:
            self.transport.close()

    def _relax(self) -> None:
        if self._guard is not None:
            self._guard.cancel()
            self._guard = None
