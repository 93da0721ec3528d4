"""/v2: the Open Inference Protocol, which the clients of KServe and Triton speak.

    client = tritonclient.http.InferenceServerClient("127.0.0.1:8000")
    client.infer("emotion-detector", [image])          # see tensors.py for what an image is

The served model is the only one; its name and version are those of `/model`. Errors are `{"error": "..."}`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from emotion_detection.bundle import INPUT_NAME, OUTPUT_NAME
from emotion_detection.errors import BrokenImage, ImageTooLarge, NotAnImage
from emotion_detection.preprocess import Pixels
from serving.context import Context, context_of
from serving.engine import Probabilities
from serving.errors import (
    InvalidRequest,
    InvalidTensor,
    NotReady,
    Overloaded,
    TimedOut,
    TooManyImages,
    UnknownModel,
    UnsupportedBody,
)
from serving.model import ServedModel
from serving.problems import KINDS
from serving.routes import LINEAGE_HEADERS
from serving.schemas import Answer
from serving.tensors import BYTES_NAME, HEADER_LENGTH, InferBody, InferRequest
from serving.waiting import Client

router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])
NAME = "emotion-detection"
MODEL, VERSION = "/models/{name}", "/models/{name}/versions/{version}"


class Error(Answer):
    error: str


class Live(Answer):
    live: bool


class Ready(Answer):
    ready: bool


class ServerMetadata(Answer):
    name: str
    version: str
    extensions: list[str]


class TensorMetadata(Answer):
    name: str
    datatype: str
    shape: list[int]
    """-1: any number."""


class ModelMetadata(Answer):
    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ModelReady(Answer):
    name: str
    ready: bool


class InferOutput(TensorMetadata):
    data: list[float] | None = None
    """Row by row; absent where the bytes follow the JSON."""
    parameters: dict[str, int] | None = None
    """`binary_data_size`, where they do."""


class InferAnswer(Answer):
    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[InferOutput]


def _errors(*errors: type[Exception]) -> dict[int | str, dict[str, Any]]:
    """As `problems.documented`, in the form of this protocol."""
    titles: dict[int | str, list[str]] = {}
    for kind in (KINDS[error] for error in errors):
        titles.setdefault(kind.status, []).append(kind.title)
    return {status: {"model": Error, "description": "; ".join(names)} for status, names in titles.items()}


# FastAPI documents 422 wherever a path has a parameter, and in its own form where it is not documented here.
_NO_MODEL = _errors(UnknownModel, NotReady, InvalidRequest)
_INFER = {
    200: {
        "model": InferAnswer,
        "headers": LINEAGE_HEADERS,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    },
    **_errors(
        InvalidTensor, UnknownModel, ImageTooLarge, TooManyImages, NotAnImage, UnsupportedBody, BrokenImage, NotReady,
        Overloaded, TimedOut,
    ),
}  # fmt: skip
_EXAMPLES = {
    "image": {
        "summary": "A tensor in JSON",
        "value": {
            "id": "42",
            "inputs": [{"name": INPUT_NAME, "datatype": "UINT8", "shape": [1, 48, 48, 1], "data": [0] * 48 * 48}],
        },
    },
    "image_bytes": {
        "summary": "Image files as base64",
        "value": {
            "inputs": [{"name": BYTES_NAME, "datatype": "BYTES", "shape": [1], "data": ["/9j/4AAQSkZJRgABAQ..."]}]
        },
    },
}


@router.get("", summary="What this server is")
async def server_metadata() -> ServerMetadata:
    return ServerMetadata(name=NAME, version="0.1.0", extensions=["binary_tensor_data"])


@router.get("/health/live", summary="Whether the process is alive")
async def live() -> Live:
    return Live(live=True)


@router.get("/health/ready", summary="Whether a model is loaded", responses=_errors(NotReady))
async def ready(request: Request) -> Ready:
    context_of(request).slot.current()
    return Ready(ready=True)


@router.get(VERSION, summary="Inputs and outputs of the served model", responses=_NO_MODEL)
@router.get(MODEL, summary="Inputs and outputs of the served model", responses=_NO_MODEL)
async def model_metadata(request: Request, name: str, version: str | None = None) -> ModelMetadata:
    """Beside the input that is listed, `image_bytes` is taken in its place: BYTES, (N,), image files of one face."""
    model = _model(context_of(request), name, version)
    info = model.bundle.info
    shape = [-1, info.image_size, info.image_size, info.channels]
    return ModelMetadata(
        name=model.name,
        versions=[model.version],
        platform="onnxruntime_onnx",
        inputs=[TensorMetadata(name=INPUT_NAME, datatype="UINT8", shape=shape)],
        outputs=[TensorMetadata(name=OUTPUT_NAME, datatype="FP32", shape=[-1, len(info.labels)])],
    )


@router.get(f"{VERSION}/ready", summary="Whether a model answers", responses=_NO_MODEL)
@router.get(f"{MODEL}/ready", summary="Whether a model answers", responses=_NO_MODEL)
async def model_ready(request: Request, name: str, version: str | None = None) -> ModelReady:
    return ModelReady(name=_model(context_of(request), name, version).name, ready=True)


def _inlined(model: type[BaseModel]) -> Any:
    """The schema of a body that FastAPI does not see, without references."""
    schema = model.model_json_schema()
    parts = schema.pop("$defs", {})

    def resolve(node: Any) -> Any:
        if isinstance(node, list):
            return [resolve(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return resolve(parts[node["$ref"].rpartition("/")[2]])
        return {name: resolve(value) for name, value in node.items()}

    return resolve(schema)


_BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": _inlined(InferRequest), "examples": _EXAMPLES},
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    },
}


@router.post(f"{VERSION}/infer", summary="Probabilities", responses=_INFER, openapi_extra={"requestBody": _BODY})
@router.post(f"{MODEL}/infer", summary="Probabilities", responses=_INFER, openapi_extra={"requestBody": _BODY})
async def infer(request: Request, name: str, version: str | None = None) -> Response:
    context = context_of(request)
    model = _model(context, name, version)
    if (encoding := request.headers.get("content-encoding", "identity")) != "identity":
        raise UnsupportedBody(f"Content-Encoding {encoding[:20]!r}: send the body as it is")
    context.queue.check_room()
    body, rows = await _rows(context, model, request)
    answers = context.answers_of(model)
    headers, answer = body.answer(rows, model.name, model.version)
    headers["X-Prediction-Id"] = answers.count(rows)
    return Response(answer, headers=headers | {name.decode(): value.decode() for name, value in answers.headers})


async def _rows(context: Context, model: ServedModel, request: Request) -> tuple[InferBody, Probabilities]:
    announced = request.headers.get("content-length", "").encode("latin-1")
    raw = await context.uploads.receive_bytes(request.receive, announced, context.settings.max_request_bytes)
    size = len(raw)
    body = InferBody(raw, request.headers.get(HEADER_LENGTH), model.bundle.info, context.settings)
    del raw
    try:
        job = partial(_faces, context, body)
        [outcome] = await context.room.wait(context.queue.submit(model, [job]), Client(request.receive))
    finally:
        context.uploads.release(size)
    if isinstance(outcome, Exception):
        raise outcome
    return body, outcome


def _faces(context: Context, body: InferBody) -> Pixels:
    """What a worker does with a body before the model sees its faces."""
    images = body()
    context.metrics.faces.observe_crops(images)
    return images


def _model(context: Context, name: str, version: str | None) -> ServedModel:
    """The served model, if it is the one that is meant.

    Raises:
        NotReady: there is none yet.
        UnknownModel: it is another one.
    """
    model = context.slot.current()
    if name != model.name or version not in (None, model.version):
        raise UnknownModel(f"there is only {model.name}, version {model.version}")
    return model
