"""Refusals before they cost anything: `POST /detect` while the queue is full.

    turnstile.stops(b"/detect", headers)       -> True
    turnstile.refuse(headers, client, common)  -> b"HTTP/1.1 503 Service Unavailable..."

A small model answers about as fast as a request finds its way through the application to be told that there is no
room, so that under overload half of the machine would say no. protocol.py asks here as soon as the head of a request
is there: no task is made, no middleware is asked, the answer is ready but for its id. It is the one that `detect.py`
gives, is counted and logged like it, and holds for everybody: keys and rates are not looked at, since nobody is let in.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from serving.access import RequestIds, Visit, describe
from serving.context import Context
from serving.detect import PATH
from serving.headers import SECURITY_HEADERS, Block, Header
from serving.logs import AccessLog
from serving.problems import written_refusal

TURNSTILE = "turnstile"
"""Its name in the state of the application's lifespan, of which every connection gets a copy."""
_PATH = PATH.encode()
_STATUS_LINE = b"HTTP/1.1 503 Service Unavailable\r\n"


class Turnstile:
    """Belongs to one event loop."""

    def __init__(self, context: Context, ids: RequestIds, log: AccessLog) -> None:
        self._queue, self._ids, self._metrics = context.queue, ids, context.metrics
        self._log = log if context.settings.access_log else None
        self._cors, self._addresses = bool(context.settings.cors_origins), context.settings.log_addresses
        self._kind, headers, body = written_refusal(self._queue.overloaded(), context.settings)
        head = Block([*headers, (b"content-length", b"%d" % len(body)), *SECURITY_HEADERS]).lines
        self._start, self._end, self._size = head + b"x-request-id: ", b"\r\n\r\n" + body, len(body)
        self._seconds = context.metrics.latency.labels(PATH, str(self._kind.status))

    def stops(self, url: bytes, headers: Sequence[Header]) -> bool:
        """Whether there is no room for a POST with this target.

        A page from elsewhere goes the long way: without the headers of CORS its browser would not tell it of the 503.
        """
        if not self._queue.full or not (url == _PATH or url.startswith(_PATH + b"?")):
            return False
        return not (self._cors and any(name == b"origin" for name, _ in headers))

    def refuse(self, headers: Sequence[Header], client: tuple[str, int] | None, common: Sequence[Header] = ()) -> bytes:
        """Count and log one refusal.

        Args:
            headers: of the request.
            client: its address and port.
            common: headers of every answer, such as `date`.

        Returns:
            The answer, from its first byte to the last.
        """
        identity = self._ids.of(headers)
        self._metrics.reject(self._kind.slug)
        self._seconds.observe(0)
        if self._log is not None:
            visit = Visit(identity, status=self._kind.status, size=self._size)
            address = client[0] if self._addresses and client else ""
            self._log.add(time.time(), describe(visit, "POST", PATH, 0.0, address))
        return _STATUS_LINE + Block(common).lines + self._start + identity.encode() + self._end
