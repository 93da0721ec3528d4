"""What the server answers to: /detect, /model, /labels, /healthz, /readyz, /metrics.

    curl -F file=@face.jpg 127.0.0.1:8000/detect
    curl --data-binary @face.jpg -H 'Content-Type: image/jpeg' 127.0.0.1:8000/detect

Errors are raised, and answered in problems.py.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from prometheus_client.exposition import choose_encoder

from emotion_detection.errors import BrokenImage, ImageTooLarge, NotAnImage
from serving.context import Context, context_of
from serving.detect import PATH
from serving.errors import (
    InvalidRequest,
    MalformedForm,
    MissingFile,
    NotReady,
    Overloaded,
    TimedOut,
    TooManyImages,
    UnsupportedBody,
)
from serving.model import ServedModel
from serving.problems import documented
from serving.schemas import Detection, DetectOptions, Health, Labels, ModelCard, ModelReference, Problem, Readiness
from serving.uploads import REQUEST_BODY

router = APIRouter()


async def _context(request: Request) -> Context:
    return context_of(request)


async def _current_model(request: Request) -> ServedModel:
    return context_of(request).slot.current()


AppContext = Annotated[Context, Depends(_context)]
CurrentModel = Annotated[ServedModel, Depends(_current_model)]

LINEAGE_HEADERS = {
    name: {"description": text, "schema": {"type": "string"}}
    for name, text in {
        "X-Prediction-Id": "`prediction_id`, where there is one answer",
        **{ModelReference.header(field): f"`model.{field}`" for field in ModelReference.model_fields},
    }.items()
}
DETECT_ERRORS = (
    MalformedForm, ImageTooLarge, TooManyImages, NotAnImage, UnsupportedBody, BrokenImage, MissingFile,
    InvalidRequest, NotReady, Overloaded, TimedOut,
)  # fmt: skip


@router.post(
    PATH,
    summary="Detect the emotions of the faces in one image, or in several",
    responses={200: {"headers": LINEAGE_HEADERS}, **documented(*DETECT_ERRORS)},
    openapi_extra={"requestBody": REQUEST_BODY},
)
async def detect(options: Annotated[DetectOptions, Query()]) -> Detection | list[Detection | Problem]:
    """The image is a photo, or a face already cut out; it is neither stored nor logged.

    Send it as `multipart/form-data` in the field `file`, or as the body itself with an `image/*` content type.
    With several fields `file` the answer is a list in their order, with a problem in the place of each image that
    cannot be used; the others are answered all the same.
    An image may have many faces, or none: `label`, `confidence` and `probabilities` are those of the largest, or null.
    The model that answers is the one that was current when the request arrived. While a new version is tried on some
    callers, who sends the same header `X-Session-Id` is answered by the same one.
    """
    raise AssertionError(f"DetectPath stands in front of this description ({options})")


@router.get("/model", summary="The model that answers now", responses=documented(NotReady))
async def model_card(model: CurrentModel) -> ModelCard:
    """Labels, input, metrics and lineage."""
    return ModelCard.of(model)


@router.get("/labels", summary="The emotions, in the order of the model's outputs", responses=documented(NotReady))
async def labels(model: CurrentModel) -> Labels:
    return Labels(labels=model.labels)


@router.get("/healthz", summary="Whether the process is alive")
async def healthz() -> Health:
    """200 for as long as the process can answer, with or without a model."""
    return Health(status="ok")


@router.get("/readyz", summary="Whether a model is loaded", responses=documented(NotReady))
async def readyz(model: CurrentModel, context: AppContext) -> Readiness:
    """503 with the reason until there is a model."""
    return Readiness(status="ready", version=model.version, detail=context.slot.reason or None)


@router.get("/metrics", summary="Prometheus metrics", response_class=Response,
            responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})  # fmt: skip
async def metrics(request: Request, context: AppContext) -> Response:
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(context.metrics.exposed()), media_type=content_type)
