"""Every error answer: a problem document (RFC 9457, `application/problem+json`), made in one place.

    {"type": "urn:problem:not-an-image", "title": "Not an image", "status": 415,
     "detail": "the bytes are no image; expected one of JPEG, PNG, ..."}

Code below the routes raises an `EmotionError` and never thinks of HTTP; `KINDS` says what becomes of it. The
`detail` is written for the caller; what happened inside the server stays in its log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse

from emotion_detection.errors import BrokenImage, EmotionError, ImageTooLarge, NotAnImage
from serving.context import context_of
from serving.model import NotReady

MEDIA_TYPE = "application/problem+json"


class UnsupportedBody(EmotionError):
    """The request's content type is none that an image can come in."""


class MissingFile(EmotionError):
    """The form has not exactly one file in the field `file`."""


class Problem(BaseModel):
    """An error answer, RFC 9457."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    type: str
    """What went wrong, for programs; `about:blank` where the status says it all."""
    title: str
    """What went wrong, for people; the same for all problems of a type."""
    status: int
    detail: str
    """What was wrong with this request, and what was expected."""


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
    ImageTooLarge: Kind(413, "image-too-large", "Image too large"),
    MultiPartException: Kind(400, "malformed-form", "Malformed form"),
    ClientDisconnect: Kind(400, "incomplete-body", "Incomplete body"),
    NotReady: Kind(503, "not-ready", "Not ready"),
}
INTERNAL = Kind(500, "internal-error", "Internal error")
REASONS = (*(kind.slug for kind in KINDS.values()), INTERNAL.slug)


def install(app: FastAPI) -> None:
    """Answer every error of the application with a problem document."""
    for error in KINDS:
        app.add_exception_handler(error, _answer_known)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(Exception, _answer_internal)


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


def _response(problem: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(problem.model_dump(), problem.status, headers, MEDIA_TYPE)


def _count(request: Request, kind: Kind) -> None:
    if request.method == "POST":  # a probe that finds no model has lost no prediction
        context_of(request).metrics.rejected.labels(kind.slug).inc()


async def _answer_known(request: Request, error: Exception) -> JSONResponse:
    kind = next(KINDS[parent] for parent in type(error).__mro__ if parent in KINDS)
    _count(request, kind)
    headers = {}
    if kind.status == 503:
        headers["Retry-After"] = str(round(context_of(request).settings.retry_seconds) or 1)
    detail = getattr(error, "message", None) or str(error) or kind.title
    return _response(_problem(kind, detail), headers)


async def _answer_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 (for the type checker)
    title = HTTPStatus(error.status_code).phrase
    detail = f"{request.method} {request.url.path}: {error.detail}"
    return _response(Problem(type="about:blank", title=title, status=error.status_code, detail=detail), error.headers)


async def _answer_invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 (for the type checker)
    detail = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
    return _response(_problem(Kind(422, "invalid-request", "Invalid request"), detail))


async def _answer_internal(request: Request, _: Exception) -> JSONResponse:
    # Starlette raises the error again after this, and uvicorn logs it with its trace.
    _count(request, INTERNAL)
    return _response(_problem(INTERNAL, "the server failed on this request; its log says why"))
