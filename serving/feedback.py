"""POST /feedback: what a face really shows. DELETE /feedback/ID: what was said of an answer, and its faces.

curl 127.0.0.1:8000/feedback -H 'Content-Type: application/json' -d '{"prediction_id": "7-2c...", "label": "sad"}'
curl -X DELETE 127.0.0.1:8000/feedback/7-2c...
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from pydantic import ValidationError

from emotion_detection.errors import ImageTooLarge
from serving.context import context_of
from serving.errors import (
    AlreadyJudged,
    ExpiredPrediction,
    FeedbackUnavailable,
    IncompleteBody,
    InvalidRequest,
    Overloaded,
    UnknownLabel,
    UnknownPrediction,
    UnsupportedBody,
)
from serving.feedback_schemas import FeedbackAnswer, FeedbackDeleted, FeedbackRequest, request_body
from serving.feedback_settings import FeedbackSettings
from serving.problems import documented

MAX_BYTES = 4096
"""Of a request."""
KEEPS = "x-keeps-faces-for-days"
"""What the page looks for in the description of this path."""
_ERRORS = (
    UnsupportedBody, InvalidRequest, UnknownLabel, UnknownPrediction, ExpiredPrediction, AlreadyJudged, IncompleteBody,
    Overloaded, FeedbackUnavailable,
)  # fmt: skip


def routers(settings: FeedbackSettings) -> list[APIRouter]:
    """The two paths; none where no feedback is wanted."""
    if settings.feedback == "off":
        return []
    router = APIRouter()
    keeps = {KEEPS: settings.feedback_days} if settings.feedback == "keep" else {}
    router.post(
        "/feedback",
        summary="Say what a face really shows",
        responses=documented(*_ERRORS),
        openapi_extra={"requestBody": request_body(), **keeps},
    )(give)
    router.delete(
        "/feedback/{prediction_id}",
        summary="Delete the feedback on an answer, and its faces",
        responses=documented(UnknownPrediction, InvalidRequest, FeedbackUnavailable),
    )(delete)
    return [router]


async def give(request: Request) -> FeedbackAnswer:
    """That an answer was right is worth as much as that it was wrong.

    The first word on a face counts, in the metric `emotion_feedback_total`; the same word again is answered with
    `counted: false`, another one with 409. How long an answer can be judged is the setting `feedback_hours`. Whether
    faces are kept, and for how long, stands here as `x-keeps-faces-for-days`; without it they are not.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # which no page from elsewhere can send without asking first
        raise UnsupportedBody(f"content type {kind[:100]!r}: send application/json")
    return await context_of(request).judgements.judge(_parse(await _receive(request)))


async def delete(request: Request, prediction_id: Annotated[str, Path(max_length=256)]) -> FeedbackDeleted:
    """Whoever knows the id of an answer may do so, at any time. What was counted stays counted."""
    return await context_of(request).judgements.delete(prediction_id)


async def _receive(request: Request) -> bytes:
    uploads, announced = context_of(request).uploads, request.headers.get("content-length", "").encode("latin-1")
    try:
        body = await uploads.receive_bytes(request.receive, announced, MAX_BYTES)
    except ImageTooLarge:
        raise InvalidRequest(f"more than {MAX_BYTES} bytes; feedback is smaller") from None
    uploads.release(len(body))
    return body


def _parse(body: bytes) -> FeedbackRequest:
    try:
        return FeedbackRequest.model_validate_json(body)
    except ValidationError as error:
        details = (f"{'.'.join(map(str, item['loc'])) or 'body'}: {item['msg']}" for item in error.errors())
        raise InvalidRequest("; ".join(details)) from None
