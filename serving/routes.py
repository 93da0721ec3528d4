"""What the server answers to: /detect, /model, /labels, /healthz, /readyz, /metrics.

    curl -F file=@face.jpg 127.0.0.1:8000/detect
    curl --data-binary @face.jpg -H 'Content-Type: image/jpeg' 127.0.0.1:8000/detect

Errors are raised, and answered in problems.py.
"""

from __future__ import annotations

import asyncio
from typing import Annotated
from uuid import uuid4

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client.exposition import choose_encoder
from starlette.formparsers import MultiPartException

from emotion_detection.errors import BrokenImage, ImageTooLarge, NotAnImage
from serving.context import Context, context_of
from serving.model import NotReady, ServedModel
from serving.problems import MissingFile, UnsupportedBody, documented
from serving.schemas import Detection, Health, Labels, ModelCard, ModelReference, Readiness
from serving.uploads import REQUEST_BODY, read_image

router = APIRouter()


async def _context(request: Request) -> Context:
    return context_of(request)


async def _current_model(request: Request) -> ServedModel:
    return context_of(request).slot.current()


AppContext = Annotated[Context, Depends(_context)]
CurrentModel = Annotated[ServedModel, Depends(_current_model)]

_LINEAGE_HEADERS = {
    name: {"description": text, "schema": {"type": "string"}}
    for name, text in {
        "X-Prediction-Id": "`prediction_id`",
        **{ModelReference.header(field): f"`model.{field}`" for field in ModelReference.model_fields},
    }.items()
}
_DETECT_ERRORS = (
    MultiPartException, ImageTooLarge, NotAnImage, UnsupportedBody, BrokenImage, MissingFile, NotReady,
)  # fmt: skip


@router.post(
    "/detect",
    summary="Detect the emotion in one image of a face",
    responses={200: {"headers": _LINEAGE_HEADERS}, **documented(*_DETECT_ERRORS)},
    openapi_extra={"requestBody": REQUEST_BODY},
)
async def detect(request: Request, response: Response, context: AppContext, model: CurrentModel) -> Detection:
    """The image is a face already cut out; it is neither stored nor logged.

    Send it as `multipart/form-data` in the field `file`, or as the body itself with an `image/*` content type.
    The model that answers is the one that was current when the request arrived.
    """
    settings = context.settings
    data = await read_image(request, settings.max_bytes)
    loop = asyncio.get_running_loop()
    values = await loop.run_in_executor(context.workers, model.engine.classify, data, settings.max_pixels)
    probabilities = dict(zip(model.labels, values.tolist(), strict=True))
    label = max(probabilities, key=probabilities.__getitem__)
    context.metrics.count_prediction(model, label, probabilities[label])
    detection = Detection(
        prediction_id=str(uuid4()),
        label=label,
        confidence=min(probabilities[label], 1.0),  # float32 may round a certain answer to just above
        probabilities=probabilities,
        model=ModelReference.of(model),
    )
    response.headers.update({"X-Prediction-Id": detection.prediction_id, **detection.model.headers()})
    return detection


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
async def readyz(model: CurrentModel) -> Readiness:
    """503 with the reason until there is a model."""
    return Readiness(status="ready", version=model.version)


@router.get("/metrics", summary="Prometheus metrics", response_class=Response,
            responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})  # fmt: skip
async def metrics(request: Request, context: AppContext) -> Response:
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(context.metrics.registry), media_type=content_type)
