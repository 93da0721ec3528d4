"""POST /explain: where in a face the reason for an answer lies, as a picture or as numbers.

    curl -F file=@face.jpg '127.0.0.1:8000/explain?class=happy' > heat.png
    curl -F file=@face.jpg '127.0.0.1:8000/explain?format=json'

The face is first judged as `/detect` would, in the same queue; then explained, see heat.py.
"""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Annotated
from urllib.parse import quote

import cv2
import numpy as np
from fastapi import APIRouter, Query, Request, Response
from numpy.typing import NDArray

from emotion_detection.crops import Cut
from emotion_detection.explain.heatmaps import Heat, overlay
from emotion_detection.preprocess import Pixels, encode_png
from serving.context import Context, context_of
from serving.engine import Probabilities
from serving.errors import InvalidRequest, NoFace, TooManyImages
from serving.heat import heat_json
from serving.judging import judge
from serving.model import ServedModel
from serving.problems import documented
from serving.routes import DETECT_ERRORS, LINEAGE_HEADERS
from serving.schemas import ExplainOptions, Explanation
from serving.uploads import REQUEST_BODY
from serving.waiting import Client

router = APIRouter()
SIDE = 192
"""Least side of a picture, pixels."""
_HEADERS = {
    name: {"description": text, "schema": {"type": "string"}}
    for name, text in {"X-Explained-Class": "`explained`", "X-Explanation-Method": "`method`"}.items()
}


@router.post(
    "/explain",
    summary="Show where in a face the reason for the answer lies",
    response_class=Response,
    responses={
        200: {
            "headers": LINEAGE_HEADERS | _HEADERS,
            "model": Explanation,
            "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
        },
        **documented(*DETECT_ERRORS, NoFace),
    },
    openapi_extra={"requestBody": REQUEST_BODY},
)
async def explain(request: Request, options: Annotated[ExplainOptions, Query()]) -> Response:
    """One image, sent as to `/detect`; of several faces the largest is explained.

    The heat map is that of the served model itself: Grad-CAM or attention rollout where its bundle has an
    `explain.onnx`, else occlusion. A rollout is the same for every class.
    """
    context = context_of(request)
    model = context.challenger.canary.choose(request.scope)
    _index(model, options.target)
    context.heat.check_room()
    model, cut, rows, target, heat = await _explained(context, model, request, options)
    answers = context.answers_of(model)
    prediction_id, detection = answers.detection(cut, rows)
    label, method = model.labels[target], context.heat.method(model)
    headers = {
        **{name.decode(): value.decode() for name, value in answers.headers},
        "X-Prediction-Id": prediction_id,
        "X-Explained-Class": quote(label),
        "X-Explanation-Method": method,
    }
    if options.format == "png":
        picture = await asyncio.to_thread(_picture, cut.images[0], heat[0], options.overlay)
        return Response(picture, media_type="image/png", headers=headers)
    numbers = await asyncio.to_thread(heat_json, heat[0])
    text = f'{{"detection":{detection},"explained":{json.dumps(label)},"method":"{method}","heatmap":{numbers}}}'
    return Response(text, media_type="application/json", headers=headers)


def _index(model: ServedModel, label: str | None) -> int | None:
    if label is None:
        return None
    if label not in model.labels:
        raise InvalidRequest(f"query.class: found {label[:100]!r}; the model knows {', '.join(model.labels)}")
    return model.labels.index(label)


async def _explained(
    context: Context, model: ServedModel, request: Request, options: ExplainOptions
) -> tuple[ServedModel, Cut, Probabilities, int, Heat]:
    """The model that answers, its faces, what it says of them, and the class of the largest with its heat map."""
    context.queue.check_room()
    kind, announced = (request.headers.get(name, "").encode("latin-1") for name in ("content-type", "content-length"))
    body = await context.uploads.receive(request.receive, kind, announced)
    size = len(body)
    try:
        images = context.uploads.images(kind, body)
        del body
        if len(images) > 1:
            raise TooManyImages(f"the form has {len(images)} images; one is explained at a time")
        return await context.challenger.canary.attempt(
            model, partial(_explain, context, options, images, Client(request.receive))
        )
    finally:
        context.uploads.release(size)


async def _explain(
    context: Context, options: ExplainOptions, images: list[bytes], client: Client, model: ServedModel
) -> tuple[ServedModel, Cut, Probabilities, int, Heat]:
    wanted = _index(model, options.target)
    _, cut, rows = await judge(context, options, images, client, model)
    if not len(rows):
        raise NoFace("no face was found; with faces=none the whole image is taken for one")
    target = int(rows[0].argmax()) if wanted is None else wanted
    heat = await context.heat.explain(context.room, model, cut.images[:1], np.array([target]), client)
    return model, cut, rows, target, heat


def _picture(image: Pixels, heat: NDArray[np.float32], overlaid: bool) -> bytes:
    side = max(SIDE, len(image))
    if overlaid:
        return encode_png(overlay(image, heat, side))
    grey = cv2.resize(heat * 255, (side, side), interpolation=cv2.INTER_LINEAR)
    return encode_png(grey.round().astype(np.uint8)[:, :, np.newaxis])
