"""Around every request: its id, its line in the log, the headers of its answer, and an answer where the server fails.

A client may choose the id (X-Request-Id: 1 to 64 letters, digits, `.`, `_`, `-`); it stands in the answer and in every
line that is logged meanwhile.
"""

from __future__ import annotations

import itertools
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.context import Context
from serving.headers import SECURITY_HEADERS, Header
from serving.logs import AccessLog, request_id
from serving.metrics import UNMATCHED
from serving.problems import NO_WEBSOCKET, answer_internal, refusal

log = logging.getLogger(__name__)
_SANE = re.compile(rb"[A-Za-z0-9._-]{1,64}")


@dataclass(slots=True)
class Visit:
    """What is known of a request besides what it asks for; in its scope as `visit`."""

    id: str
    key: str = ""
    """Name of the API key it came with."""
    admit: Callable[[], None] = lambda: None
    """Of a WebSocket: asks once more whether it is let in, as gatekeeper.py did in the beginning."""
    headers: list[Header] = field(default_factory=list)
    """Of its answer, whatever that will be."""
    status: int = 0
    size: int = 0
    """Bytes of the body of the answer."""

    def note(self, message: Message, scope: Scope) -> None:
        """Look at a part of the answer, and add headers to it."""
        kind = message["type"]
        if kind in {"http.response.body", "websocket.http.response.body"}:
            self.size += len(message.get("body", b""))
        elif kind in {"http.response.start", "websocket.http.response.start", "websocket.accept"}:
            self.status = message.get("status", 101)
            headers = [*message.get("headers", ()), (b"x-request-id", self.id.encode()), *self.headers]
            message["headers"] = SECURITY_HEADERS.added_to(headers, scope)


class RequestIds:
    """What requests are called: as their client says, or by a number of this process."""

    def __init__(self) -> None:
        self._prefix, self._numbers = secrets.token_hex(6), itertools.count(1)

    def of(self, headers: Iterable[Header]) -> str:
        """The id of the next request, which came with these headers."""
        for name, value in headers:
            if name == b"x-request-id" and _SANE.fullmatch(value):
                return value.decode()
        return f"{self._prefix}-{next(self._numbers)}"


def describe(visit: Visit, method: str, route: str, seconds: float, address: str = "") -> dict[str, object]:
    """The fields of a request's line in the log.

    Args:
        route: as the application knows it, never what was asked for.
        seconds: that it took.
        address: of the caller, where it is to be logged.
    """
    line: dict[str, object] = {
        "request": visit.id,
        "method": method,
        "route": route,
        "status": visit.status,
        "ms": round(1000 * seconds, 1),
        "bytes": visit.size,
    }
    if visit.key:
        line["key"] = visit.key
    if address:
        line["address"] = address
    return line


class AccessMiddleware:
    """To be asked first, so that no answer goes around it but those of turnstile.py."""

    def __init__(self, app: ASGIApp, context: Context, ids: RequestIds, log: AccessLog) -> None:
        self.app, self._settings, self._ids, self._log = app, context.settings, ids, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        visit = scope["visit"] = Visit(self._ids.of(scope["headers"]))
        request_id.set(visit.id)
        start = time.perf_counter()

        async def send_and_note(message: Message) -> None:
            if message["type"] == "websocket.close" and not visit.status:
                return await NO_WEBSOCKET(scope, receive, send_and_note)  # uvicorn's answer would be plain text
            visit.note(message, scope)
            return await send(message)

        try:
            await self.app(scope, receive, send_and_note)
        except Exception as error:
            await self._fail(scope, receive, send_and_note, error)
        finally:
            if self._settings.access_log:
                self._log.add(time.time(), self._line(scope, visit, time.perf_counter() - start))

    async def _fail(self, scope: Scope, receive: Receive, send: Send, error: Exception) -> None:
        log.error("a request failed", exc_info=error)
        visit: Visit = scope["visit"]
        if not visit.status and scope["type"] == "http":
            response = await answer_internal(Request(scope), error)
            return await response(scope, receive, send)
        if not visit.status:
            return await refusal(HTTPConnection(scope), error, self._settings)(scope, receive, send)
        if scope["type"] == "http":
            raise error  # half an answer is on its way: only the connection's end can tell
        with suppress(RuntimeError):  # it is closed already
            await send({"type": "websocket.close", "code": 1011})
        return None

    def _line(self, scope: Scope, visit: Visit, seconds: float) -> dict[str, object]:
        route = getattr(scope.get("route"), "path", UNMATCHED)
        address = scope["client"][0] if self._settings.log_addresses and scope.get("client") else ""
        return describe(visit, scope.get("method", "WEBSOCKET"), route, seconds, address)
