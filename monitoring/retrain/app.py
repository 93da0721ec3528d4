"""The webhook as an application: POST /alerts for Alertmanager, GET /metrics, GET /healthz.

Errors are problem documents (RFC 9457), as those of the server are.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from monitoring.retrain.audit import Audit
from monitoring.retrain.coordinator import Coordinator, Outcome, Timing
from monitoring.retrain.errors import SettingsError
from monitoring.retrain.github import GitHub
from monitoring.retrain.job import Command
from monitoring.retrain.metrics import Metrics
from monitoring.retrain.order import DryRun, Target
from monitoring.retrain.payload import MAX_BYTES, Notification
from monitoring.retrain.settings import Settings
from monitoring.retrain.store import Store

log = logging.getLogger(__name__)
BODY_SECONDS = 10.0
PROBLEM = "application/problem+json"


class Rejected(Exception):
    """A request that is answered with a problem."""

    def __init__(self, status: int, reason: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        """Args:
        reason: one of `metrics.REJECTIONS`.
        """
        super().__init__(detail)
        self.status, self.reason, self.headers = status, reason, headers


def create_app(settings: Settings) -> FastAPI:
    """The application, with its state in `settings.folder`.

    Raises:
        SettingsError: the folder cannot be used.
    """
    metrics = Metrics()
    coordinator = create_coordinator(settings, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(coordinator.close)

    app = FastAPI(title="Retrain webhook", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(Exception, _answer_internal)
    _add_routes(app, settings, coordinator, metrics)
    return app


def create_coordinator(settings: Settings, metrics: Metrics) -> Coordinator:
    """What decides, with the target that the settings name.

    Raises:
        SettingsError: the folder cannot be used.
    """
    try:
        settings.folder.mkdir(parents=True, exist_ok=True)
        store = Store(settings.folder / "state.db")
        target = _target(settings)
    except OSError as error:
        raise SettingsError(f"RETRAIN_STATE or --state: {settings.folder}: {error.strerror}") from None
    except sqlite3.Error as error:
        raise SettingsError(f"{settings.folder / 'state.db'}: {error}; move it away, and a new one is made") from None
    audit = Audit(settings.folder / "audit.jsonl")
    timing = Timing(settings.cooldown_seconds, settings.settle_seconds, settings.lease_seconds)
    return Coordinator(store, target, audit, metrics, timing)


def _target(settings: Settings) -> Target:
    target: Target = GitHub(settings) if settings.target == "github" else Command(settings)
    return DryRun(target) if settings.dry_run else target


def _add_routes(app: FastAPI, settings: Settings, coordinator: Coordinator, metrics: Metrics) -> None:
    problem: dict[str, Any] = {"content": {PROBLEM: {}}}
    documented: dict[int | str, dict[str, Any]] = {
        status: problem | {"description": HTTPStatus(status).phrase} for status in (400, 401, 408, 413, 415, 422, 503)
    }
    body = {"content": {"application/json": {"schema": Notification.model_json_schema()}}, "required": True}

    @app.post(
        "/alerts", responses=documented | {202: {"description": "Dispatched"}}, openapi_extra={"requestBody": body}
    )
    async def alerts(request: Request) -> Response:
        """Alertmanager's webhook, version 4."""
        try:
            _check_token(request, settings)
            notification = _understood(await _receive(request))
        except Rejected as error:
            metrics.reject(error.reason)
            log.warning("a request was refused (%s): %s", error.reason, error)
            return _problem(error.status, error.reason, str(error), error.headers)
        return _answer(await asyncio.to_thread(coordinator.handle, notification))

    @app.get("/metrics")
    async def show_metrics() -> Response:
        """For Prometheus."""
        text = await asyncio.to_thread(generate_latest, metrics.registry)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    @app.get("/healthz")
    async def healthz() -> PlainTextResponse:
        """Alive."""
        return PlainTextResponse("ok\n")


def _check_token(request: Request, settings: Settings) -> None:
    if not settings.needs_token:
        return
    scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
    try:
        expected = settings.secret.read()
    except SettingsError as error:
        raise Rejected(503, "unauthorized", f"nobody can be let in: {error}") from None
    right = hmac.compare_digest(shown.strip().encode(), expected.encode())
    if not right or scheme.lower() != "bearer":
        said = "Authorization is missing, or not `Bearer` and the token of RETRAIN_TOKEN_FILE; see credentials_file"
        raise Rejected(401, "unauthorized", said, {"WWW-Authenticate": 'Bearer realm="retrain"'})


async def _receive(request: Request) -> bytes:
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # what a foreign page may send without asking is none
        raise Rejected(415, "unsupported-body", f"Content-Type is {kind[:100] or 'missing'}; expected application/json")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BYTES:
                    said = f"more than {MAX_BYTES} bytes; lower max_alerts in alertmanager.yml"
                    raise Rejected(413, "too-large", said)
    except TimeoutError:
        raise Rejected(408, "incomplete", f"the body did not come within {BODY_SECONDS:.0f} s") from None
    except ClientDisconnect:
        raise Rejected(400, "incomplete", "the body ended early") from None
    return bytes(body)


def _understood(body: bytes) -> Notification:
    try:
        return Notification.model_validate_json(body)
    except ValidationError as error:
        found = [f"{'.'.join(map(str, item['loc'])) or 'body'}: {item['msg']}"[:300] for item in error.errors()[:5]]
        said = " ".join("; ".join(found).split())  # a name in it may hold line ends, which do not belong into a log
        raise Rejected(422, "invalid", f"no notification of Alertmanager, version 4: {said}") from None


def _answer(outcome: Outcome) -> Response:
    after = {"Retry-After": str(max(1, round(outcome.wait)))}
    if outcome.status >= 400:
        return _problem(outcome.status, outcome.decision, outcome.why, after)
    content = {"decision": outcome.decision, "why": outcome.why, "incident": outcome.incident or None}
    return JSONResponse(content, outcome.status)


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 (for the type checker)
    return _problem(error.status_code, "", f"{request.method} {request.url.path[:200]}: {error.detail}", error.headers)


async def _answer_internal(_request: Request, _error: Exception) -> Response:
    return _problem(500, "internal-error", "the webhook failed on this; its log says why")


def _problem(status: int, reason: str, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    kind = f"urn:problem:{reason}" if reason else "about:blank"
    content = {"type": kind, "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse(content, status, headers, PROBLEM)
