"""POST /detect on a bare ASGI path: routing, dependencies and form parsing cost more than a small model.

    receive the body -> take the images out -> queue them for the workers -> wait -> write the answer

`DetectPath` stands in front of the router and takes the requests to this one path; routes.py has its description for
OpenAPI. A parameter of the query is a field of `schemas.DetectOptions`, from which it is parsed and documented;
`Looking` decides what it means for the work on an image, `Answers` what it adds to the answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import TypeVar
from urllib.parse import parse_qsl

from pydantic import ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from emotion_detection.errors import ImageError
from serving.answers import Answers
from serving.batching import Outcome
from serving.context import Context
from serving.errors import InvalidRequest, RequestError, first_mistakes
from serving.headers import Header
from serving.heat import heat_json
from serving.judging import Looking, look
from serving.model import ServedModel
from serving.problems import problem_of, written_refusal
from serving.schemas import DetectOptions, FaceOptions
from serving.waiting import Client

log = logging.getLogger(__name__)
PATH = "/detect"
_DEFAULTS = DetectOptions()
MAX_EXPLAINED = 8
"""Most faces of one image that get a heat map."""
Options = TypeVar("Options", bound=FaceOptions)
_JSON = (b"content-type", b"application/json")


class DetectPath:
    """Middleware that answers `POST /detect` itself and leaves all the rest to the application."""

    path = PATH
    """What the metrics know it by, as for a route."""

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self.app, self._detect = app, Detect(context)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if is_detect(scope):
            scope["route"] = self
            await self._detect(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def is_detect(scope: Scope) -> bool:
    """Whether a request is for `POST /detect`."""
    return scope["type"] == "http" and scope["method"] == "POST" and _path(scope) == PATH


class Detect:
    """The ASGI application behind `POST /detect`."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._uploads = context.uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            headers, text = await self._answer(scope, receive)
            status, body = 200, text.encode()
        except (RequestError, ImageError) as error:
            error.__traceback__ = None  # its frames hold the images, and in a list of outcomes the error itself
            status, headers, body = self._refusal(error)
        headers = [*headers, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[list[Header], str]:
        model = self._context.challenger.canary.choose(scope)
        options = parse_options(scope["query_string"], DetectOptions) if scope["query_string"] else _DEFAULTS
        self._context.queue.check_room()
        if options.explain:
            self._context.heat.check_room()
        headers = dict(scope["headers"])
        content_type, announced = headers.get(b"content-type", b""), headers.get(b"content-length", b"")
        body = await self._uploads.receive(receive, content_type, announced)
        size = len(body)
        try:
            images = self._uploads.images(content_type, body)
            del body
            if options.explain and len(images) > 1:
                raise InvalidRequest("explain=true takes one image at a time")
            work = partial(self._judge, options, images, Client(receive))
            model, looks, outcomes, heat = await self._context.challenger.canary.attempt(model, work)
        finally:
            self._uploads.release(size)
        answers = self._context.answers_of(model)
        answered = [_JSON]
        if len(outcomes) > 1:
            text = f"[{','.join(map(partial(self._item, answers), looks, outcomes))}]"
        else:
            prediction_id, text = _detection(answers, looks[0], outcomes[0], heat)
            answered.append((b"x-prediction-id", prediction_id.encode()))
        return answers.headers.added_to(answered, scope), text

    async def _judge(
        self, options: DetectOptions, images: list[bytes], client: Client, model: ServedModel
    ) -> tuple[ServedModel, list[Looking], list[Outcome], list[str]]:
        looks, outcomes = await look(self._context, model, options, images, client)
        heat = await self._heat(model, looks[0], outcomes[0], client) if options.explain else []
        return model, looks, outcomes, heat

    async def _heat(self, model: ServedModel, look: Looking, outcome: Outcome, client: Client) -> list[str]:
        """Heat maps of the largest faces, as JSON, each of the emotion that is answered."""
        if isinstance(outcome, Exception) or look.cut is None:
            return []
        images, targets = look.cut.images[:MAX_EXPLAINED], outcome[:MAX_EXPLAINED].argmax(axis=1)
        maps = await self._context.heat.explain(self._context.room, model, images, targets, client)
        return [await asyncio.to_thread(heat_json, heat) for heat in maps]

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
        kind, headers, body = written_refusal(error, self._context.settings)
        self._context.metrics.reject(kind.slug)
        return kind.status, headers, body


def parse_options(query: bytes, kind: type[Options]) -> Options:
    """Read the query of a request: the parameters that the fields of `kind` say.

    Raises:
        InvalidRequest: a parameter is unknown, repeated, or has a wrong value.
    """
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    if len(values := dict(pairs)) < len(pairs):
        raise InvalidRequest("the query has a parameter twice")
    try:
        return kind.model_validate_strings(values)
    except ValidationError as error:
        known = ", ".join(kind.model_fields)
        raise InvalidRequest(f"query: {first_mistakes(error.errors())}; known parameters: {known}") from None


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _detection(answers: Answers, look: Looking, outcome: Outcome, heat: Sequence[str] = ()) -> tuple[str, str]:
    if isinstance(outcome, Exception):
        raise outcome
    assert look.cut is not None  # noqa: S101  (without it there would be no rows)
    return answers.detection(look.cut, outcome, heat)
