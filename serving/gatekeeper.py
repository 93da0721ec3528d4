"""Who is let in, and how often; decided before a byte of the body is read.

    Authorization: Bearer KEY    or    X-API-Key: KEY
    new WebSocket(url, ["emotion", "key.KEY"])        in browsers, whose WebSockets cannot send such headers

A request with a wrong key counts against the address it came from, so that keys cannot be guessed at full speed. A
WebSocket that is open is no way around this: stream.py asks again for every frame.
Addresses are known as long as their bucket is kept in memory or their stream is open, and are written nowhere.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.access import Visit
from serving.context import Context
from serving.errors import RateLimited, RequestError, Unauthorized, UnknownHost
from serving.problems import documented, problem_of, refusal
from serving.rates import Rates, network_of
from serving.safety import SafetySettings
from serving.schemas import ModelReference

SUBPROTOCOL = "emotion"
"""Spoken on WebSockets that name one; a key can stand beside it."""
_KEY_PROTOCOL = b"key."
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


def guard(app: FastAPI, context: Context) -> None:
    """Let only those in who may; CORS stands in front, since browsers ask for it without a key."""
    settings = context.settings
    app.add_middleware(Gatekeeper, context=context)
    if settings.cors_origins:
        app.add_middleware(CORSMiddleware, **_cors(settings))
    _document(app, settings)


class Gatekeeper:
    """Middleware that stands in front of everything that costs."""

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self.app, self._settings, self._metrics = app, context.settings, context.metrics
        self._keys = self._settings.load_keys()
        self._rates = Rates(self._settings.rate_limit, self._settings.burst) if self._settings.rate_limit else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        try:
            self._admit(scope)
        except RequestError as error:
            if scope["type"] == "websocket" or scope["method"] == "POST":  # as problems.py counts
                self._metrics.reject(problem_of(error)[0].slug)
            response = refusal(HTTPConnection(scope), error, self._settings)
            return await response(scope, receive, send)
        if scope["type"] == "websocket":
            scope["visit"].admit = partial(self._admit, scope)
            if SUBPROTOCOL in scope.get("subprotocols", ()):
                return await self.app(scope, receive, _with_subprotocol(send))
        return await self.app(scope, receive, send)

    def _admit(self, scope: Scope) -> None:
        if self._settings.allowed_hosts:
            _check_host(scope, self._settings.allowed_hosts)
        if (self._keys is None and self._rates is None) or self._is_open(scope["path"]):
            return
        visit: Visit = scope["visit"]
        if self._keys is not None:
            presented = _presented_key(scope)
            key = self._keys.find(presented) if presented else None
            if key is None:
                self._limit(scope, visit)
                told = "the API key is unknown, or no longer valid" if presented else "an API key is needed"
                raise Unauthorized(f"{told}; send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`")
            visit.key = key.name
        self._limit(scope, visit)

    def _limit(self, scope: Scope, visit: Visit) -> None:
        if self._rates is None:
            return
        verdict = self._rates.take(caller_of(scope), time.monotonic())
        visit.headers = [*verdict.headers]
        if not verdict.allowed:
            visit.headers.append((b"retry-after", b"%d" % verdict.wait))
            raise RateLimited(f"more than {self._settings.rate_limit:g} requests per second; wait {verdict.wait} s")

    def _is_open(self, path: str) -> bool:
        return any(
            path == known or (known.endswith("/*") and path.startswith(known[:-1]))
            for known in self._settings.open_paths
        )


def caller_of(scope: Scope) -> str:
    """Who counts as one: whoever has the same key, or without keys the same address."""
    visit: Visit = scope["visit"]
    client = scope.get("client")
    return f"key {visit.key}" if visit.key else network_of(client[0] if client else "")


def _presented_key(scope: Scope) -> bytes:
    """The key that a request shows; empty where there is none."""
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            return bytes(value)
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return bytes(value[7:].strip())
        if name == b"sec-websocket-protocol" and scope["type"] == "websocket":
            for protocol in value.split(b","):
                if protocol.strip().startswith(_KEY_PROTOCOL):
                    return bytes(protocol.strip()[len(_KEY_PROTOCOL) :])
    return b""


def _check_host(scope: Scope, allowed: tuple[str, ...]) -> None:
    """Raises:
    UnknownHost: the Host header names none of the allowed hosts, which is how DNS rebinding looks.
    """
    host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1").lower()
    name = host.partition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
    if not any(name == known or (known.startswith("*.") and name.endswith(known[1:])) for known in allowed):
        raise UnknownHost("the Host header names no host that is answered here; the setting `allowed_hosts` lists them")


def _with_subprotocol(send: Send) -> Send:
    async def send_and_agree(message: Message) -> None:
        if message["type"] == "websocket.accept" and not message.get("subprotocol"):
            message["subprotocol"] = SUBPROTOCOL
        await send(message)

    return send_and_agree


def _cors(settings: SafetySettings) -> dict[str, Any]:
    lineage = [ModelReference.header(field) for field in ModelReference.model_fields]
    explanation = ["X-Explained-Class", "X-Explanation-Method"]
    return {
        "allow_origins": settings.cors_origins,
        "allow_methods": ["GET", "POST", "DELETE"],
        "allow_headers": ["Authorization", "Content-Type", "X-API-Key", "X-Request-Id", "X-Session-Id"],
        "expose_headers": ["Retry-After", "RateLimit", "X-Prediction-Id", "X-Request-Id", *lineage, *explanation],
    }


def _document(app: FastAPI, settings: SafetySettings) -> None:
    """Say in OpenAPI what every operation may answer besides its own."""
    refusals = documented(*[Unauthorized] * settings.needs_key, *[RateLimited] * bool(settings.rate_limit))
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        schema = plain()
        if settings.needs_key:
            schema["components"]["securitySchemes"] = _SCHEMES
            schema["security"] = [{name: []} for name in _SCHEMES]
        for operations in schema["paths"].values():
            for operation in operations.values():
                operation["responses"] |= {str(status): text for status, text in refusals.items()}
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
