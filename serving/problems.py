"""Every error answer: a problem document (RFC 9457, `application/problem+json`), made in one place.

    {"type": "urn:problem:not-an-image", "title": "Not an image", "status": 415,
     "detail": "the bytes are no image; expected one of JPEG, PNG, ..."}

Code below the routes raises a `RequestError` or an `ImageError` and never thinks of HTTP; `KINDS` says what becomes of
it. The `detail` is written for the caller; what happened inside the server stays in its log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse

from emotion_detection.errors import BrokenImage, ImageError, ImageTooLarge, NotAnImage
from serving.context import context_of
from serving.errors import (
    AlreadyJudged,
    BadSignature,
    ClientGone,
    ExpiredPrediction,
    FeedbackUnavailable,
    ForeignOrigin,
    IncompleteBody,
    InvalidRequest,
    InvalidTensor,
    MalformedForm,
    MissingFile,
    NoFace,
    NotReady,
    Overloaded,
    RateLimited,
    RequestError,
    TimedOut,
    TooManyImages,
    Unauthorized,
    UnknownHost,
    UnknownLabel,
    UnknownModel,
    UnknownPrediction,
    UnsupportedBody,
    UpgradeRequired,
    first_mistakes,
)
from serving.headers import Header
from serving.schemas import Problem
from serving.settings import Settings

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True)
class Kind:
    """How one type of error is answered."""

    status: int
    slug: str
    """Last part of the problem's type, and `reason` in the metrics."""
    title: str


KINDS: Mapping[type[Exception], Kind] = {
    NotAnImage: Kind(415, "not-an-image", "Not an image"),
    UnsupportedBody: Kind(415, "unsupported-body", "Unsupported content type"),
    BrokenImage: Kind(422, "broken-image", "Broken image"),
    MissingFile: Kind(422, "missing-file", "Missing file"),
    InvalidRequest: Kind(422, "invalid-request", "Invalid request"),
    ImageTooLarge: Kind(413, "image-too-large", "Image too large"),
    TooManyImages: Kind(413, "too-many-images", "Too many images"),
    NoFace: Kind(422, "no-face", "No face"),
    ForeignOrigin: Kind(403, "foreign-origin", "Foreign origin"),
    UpgradeRequired: Kind(426, "upgrade-required", "Upgrade required"),
    UnknownModel: Kind(404, "unknown-model", "Unknown model"),
    InvalidTensor: Kind(400, "invalid-tensor", "Invalid tensor"),
    MalformedForm: Kind(400, "malformed-form", "Malformed form"),
    IncompleteBody: Kind(400, "incomplete-body", "Incomplete body"),
    Unauthorized: Kind(401, "unauthorized", "Unauthorized"),
    UnknownHost: Kind(421, "unknown-host", "Unknown host"),
    RateLimited: Kind(429, "rate-limited", "Too many requests"),
    BadSignature: Kind(401, "bad-signature", "Bad signature"),
    UnknownPrediction: Kind(404, "unknown-prediction", "Unknown prediction"),
    ExpiredPrediction: Kind(410, "expired-prediction", "Expired prediction"),
    UnknownLabel: Kind(422, "unknown-label", "Unknown label"),
    AlreadyJudged: Kind(409, "already-judged", "Already judged"),
    FeedbackUnavailable: Kind(503, "feedback-unavailable", "Feedback unavailable"),
    ClientGone: Kind(499, "client-gone", "Client gone"),
    NotReady: Kind(503, "not-ready", "Not ready"),
    Overloaded: Kind(503, "overloaded", "Overloaded"),
    TimedOut: Kind(503, "timed-out", "Timed out"),
}
INTERNAL = Kind(500, "internal-error", "Internal error")
REASONS = (*(kind.slug for kind in KINDS.values()), INTERNAL.slug)
SHORTLY = 1
"""Retry-After of a server that has too much to do, seconds."""


NO_WEBSOCKET = JSONResponse(
    Problem(type="about:blank", title="Not Found", status=404, detail="no WebSocket is served here").model_dump(),
    404,
    media_type=MEDIA_TYPE,
)


def install(app: FastAPI) -> None:
    """Answer every error of the application with a problem document."""
    app.add_exception_handler(RequestError, _answer_known)
    app.add_exception_handler(ImageError, _answer_known)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(RequestValidationError, _answer_invalid)


def problem_of(error: Exception) -> tuple[Kind, Problem]:
    """What an error is called, and what the client is told; of an unforeseen one nothing."""
    kind = next((KINDS[parent] for parent in type(error).__mro__ if parent in KINDS), INTERNAL)
    if kind is INTERNAL:
        return kind, _problem(kind, "the server failed on this request; its log says why")
    return kind, _problem(kind, str(error) or kind.title)


def headers_of(kind: Kind, settings: Settings) -> dict[str, str]:
    """Headers of an answer with a problem."""
    if kind is KINDS[Unauthorized]:
        return {"WWW-Authenticate": 'Bearer realm="emotion"'}
    if kind.status == 503:
        pause = max(1, round(settings.retry_seconds)) if kind is KINDS[NotReady] else SHORTLY
        return {"Retry-After": str(pause)}
    return {"Upgrade": "websocket"} if kind.status == 426 else {}


def written_refusal(error: Exception, settings: Settings) -> tuple[Kind, list[Header], bytes]:
    """The answer to an error as headers and body, for those that do without Starlette."""
    kind, problem = problem_of(error)
    headers = {"Content-Type": MEDIA_TYPE, **headers_of(kind, settings)}
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return kind, encoded, problem.model_dump_json().encode()


def documented(*errors: type[Exception]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route in OpenAPI, by status, with an example of each problem."""
    responses: dict[int | str, dict[str, Any]] = {}
    for kind in (KINDS[error] for error in errors):
        empty = {"description": "", "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema(), "examples": {}}}}
        response = responses.setdefault(kind.status, empty)
        response["description"] = "; ".join(filter(None, (response["description"], kind.title)))
        example = _problem(kind, "what was wrong with this request").model_dump()
        response["content"][MEDIA_TYPE]["examples"][kind.slug] = {"value": example}
    return responses


def _problem(kind: Kind, detail: str) -> Problem:
    return Problem(type=f"urn:problem:{kind.slug}", title=kind.title, status=kind.status, detail=detail)


def _response(request: HTTPConnection, problem: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    if request.url.path.startswith("/v2/") or request.url.path == "/v2":  # as the Open Inference Protocol says
        return JSONResponse({"error": problem.detail}, problem.status, headers)
    return JSONResponse(problem.model_dump(), problem.status, headers, MEDIA_TYPE)


def _count(request: Request, kind: Kind) -> None:
    if request.method == "POST":  # a probe that finds no model has lost no prediction
        context_of(request).metrics.reject(kind.slug)


def refusal(request: HTTPConnection, error: Exception, settings: Settings) -> JSONResponse:
    """The answer to a request, or to the beginning of a WebSocket, that ends with this error."""
    kind, problem = problem_of(error)
    return _response(request, problem, headers_of(kind, settings))


async def _answer_known(request: Request, error: Exception) -> JSONResponse:
    _count(request, problem_of(error)[0])
    return refusal(request, error, context_of(request).settings)


async def _answer_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 (for the type checker)
    title = HTTPStatus(error.status_code).phrase
    detail = f"{request.method} {request.url.path}: {error.detail}"
    problem = Problem(type="about:blank", title=title, status=error.status_code, detail=detail)
    return _response(request, problem, error.headers)


async def _answer_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 (for the type checker)
    kind = KINDS[InvalidRequest]
    _count(request, kind)
    return _response(request, _problem(kind, first_mistakes(error.errors())))


async def answer_internal(request: Request, error: Exception) -> JSONResponse:
    """The answer where the server failed; access.py asks for it, and logs the failure."""
    kind, problem = problem_of(error)
    _count(request, kind)
    return _response(request, problem)
