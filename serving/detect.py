"""POST /detect on a bare ASGI path: routing, dependencies and form parsing cost more than a small model.

    receive the body -> take the images out -> queue them for the workers -> wait -> write the answer

`DetectPath` stands in front of the router and takes the requests to this one path; routes.py has its description for
OpenAPI. A parameter of the query is a field of `schemas.DetectOptions`, from which it is parsed and documented;
`Looking` decides what it means for the work on an image, `Answers` what it adds to the answer.
"""

from __future__ import annotations

import logging
from functools import partial
from urllib.parse import parse_qsl
from weakref import WeakKeyDictionary

from pydantic import ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from emotion_detection.crops import Cut
from emotion_detection.errors import ImageError
from emotion_detection.preprocess import Pixels
from serving.answers import Answers, Header
from serving.batching import Outcome
from serving.context import Context
from serving.errors import InvalidRequest, RequestError
from serving.model import ServedModel
from serving.problems import MEDIA_TYPE, headers_of, problem_of
from serving.schemas import DetectOptions
from serving.uploads import Uploads
from serving.waiting import WaitingRoom

log = logging.getLogger(__name__)
PATH = "/detect"
_DEFAULTS = DetectOptions()
_JSON = (b"content-type", b"application/json")


class DetectPath:
    """Middleware that answers `POST /detect` itself and leaves all the rest to the application."""

    path = PATH
    """What the metrics know it by, as for a route."""

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self.app, self._detect = app, Detect(context)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and _path(scope) == PATH:
            scope["route"] = self
            await self._detect(scope, receive, send)
        else:
            await self.app(scope, receive, send)


class Looking:
    """What a worker does with one image before the model sees it; keeps what was found."""

    __slots__ = ("_context", "_image", "_info", "_options", "_uploads", "cut")

    def __init__(
        self, context: Context, uploads: Uploads, model: ServedModel, options: DetectOptions, image: bytes
    ) -> None:
        self._context, self._uploads, self._options, self._image = context, uploads, options, image
        self._info = model.bundle.info
        self.cut: Cut | None = None
        """Once it has been called, its faces."""

    def __call__(self) -> Pixels:
        image, self._image = self._image, b""  # it is not held while the answer is waited for
        self._uploads.check_image(image)
        info, limit = self._info, self._context.settings.max_pixels
        cut = self._context.cutter.cut_file(image, info.image_size, info.channels, self._options.faces, limit)
        self.cut = cut
        return cut.images


class Detect:
    """The ASGI application behind `POST /detect`."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._uploads = Uploads(context.settings)
        self._room = WaitingRoom(context.settings.answer_seconds)
        self._answers: WeakKeyDictionary[ServedModel, Answers] = WeakKeyDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            headers, text = await self._answer(scope, receive)
            status, body = 200, text.encode()
        except (RequestError, ImageError) as error:
            status, headers, body = self._refusal(error)
        headers = [*headers, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[list[Header], str]:
        model = self._context.slot.current()
        answers = self._answers_of(model)
        options = parse_options(scope["query_string"]) if scope["query_string"] else _DEFAULTS
        self._context.queue.check_room()
        content_type, announced = _headers(scope)
        body = await self._uploads.receive(receive, content_type, announced)
        size = len(body)
        try:
            images = self._uploads.images(content_type, body)
            del body
            looks = [Looking(self._context, self._uploads, model, options, image) for image in images]
            jobs = self._context.queue.submit(model, looks)
            del images  # each goes as soon as it is decoded
            outcomes = await self._room.wait(jobs, receive)
        finally:
            self._uploads.release(size)
        if len(outcomes) > 1:
            return [_JSON, *answers.headers], f"[{','.join(map(partial(self._item, answers), looks, outcomes))}]"
        prediction_id, text = _detection(answers, looks[0], outcomes[0])
        return [_JSON, (b"x-prediction-id", prediction_id.encode()), *answers.headers], text

    def _item(self, answers: Answers, look: Looking, outcome: Outcome) -> str:
        """One of several answers; what is wrong with one image is no matter of the others."""
        try:
            return _detection(answers, look, outcome)[1]
        except RequestError:
            raise
        except Exception as error:
            kind, problem = problem_of(error)
            if not isinstance(error, ImageError):
                log.exception("one of several images failed")
            self._context.metrics.reject(kind.slug)
            return problem.model_dump_json()

    def _refusal(self, error: RequestError | ImageError) -> tuple[int, list[Header], bytes]:
        kind, problem = problem_of(error)
        self._context.metrics.reject(kind.slug)
        headers = {"Content-Type": MEDIA_TYPE, **headers_of(kind, self._context.settings)}
        encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        return kind.status, encoded, problem.model_dump_json().encode()

    def _answers_of(self, model: ServedModel) -> Answers:
        answers = self._answers.get(model)
        if answers is None:
            answers = self._answers[model] = Answers(model, self._context.metrics)
        return answers


def parse_options(query: bytes) -> DetectOptions:
    """Read the query of a request.

    Raises:
        InvalidRequest: a parameter is unknown, repeated, or has a wrong value.
    """
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    if len(values := dict(pairs)) < len(pairs):
        raise InvalidRequest("the query has a parameter twice")
    try:
        return DetectOptions.model_validate_strings(values)
    except ValidationError as error:
        details = (f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        known = ", ".join(DetectOptions.model_fields) or "none"
        raise InvalidRequest(f"query: {'; '.join(details)}; known parameters: {known}") from None


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _headers(scope: Scope) -> tuple[bytes, bytes]:
    """Content-Type and Content-Length as they were sent; empty where they were not."""
    content_type = announced = b""
    for name, value in scope["headers"]:
        if name == b"content-type":
            content_type = value
        elif name == b"content-length":
            announced = value
    return content_type, announced


def _detection(answers: Answers, look: Looking, outcome: Outcome) -> tuple[str, str]:
    if isinstance(outcome, Exception):
        raise outcome
    assert look.cut is not None  # noqa: S101  (without it there would be no rows)
    return answers.detection(look.cut, outcome)
