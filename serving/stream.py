"""WebSocket /stream: video frames in, what `/detect` would say of each out; the newest frame wins.

    -> binary message: a JPEG, PNG or WebP
    <- {"frame": 7, "dropped": 2, "detection": {...}}         or "problem" where a frame cannot be used

One frame at a time is in work. Of those that arrive meanwhile only the last is kept; `frame` counts all that arrived,
`dropped` those that got no answer since the one before. So a client may send as fast as its camera is, and the
answers are never older than one frame.

The connection ends with 1000 (no frame for `stream_idle_seconds`), 1003 (a text message), 1008 (more frames/s than
`stream_rate` or than the caller has left of `rate_limit`, or a key that is no longer valid), 1009 (larger than
`max_frame_bytes`), 1012 (the server ends). It is refused with a problem document before it begins: 403 for a page from
elsewhere, 422 for a wrong parameter, 429 where the caller has too many, 503 where there is no model or no room.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Query, WebSocket
from starlette.responses import JSONResponse
from starlette.types import Message
from starlette.websockets import WebSocketDisconnect

from serving.access import Visit
from serving.context import Context
from serving.detect import parse_options
from serving.errors import (
    ForeignOrigin,
    InvalidRequest,
    NotReady,
    Overloaded,
    RateLimited,
    RequestError,
    UpgradeRequired,
)
from serving.gatekeeper import caller_of
from serving.judging import judge
from serving.problems import INTERNAL, MEDIA_TYPE, documented, headers_of, problem_of
from serving.schemas import FaceOptions
from serving.settings import Settings
from serving.waiting import Client

log = logging.getLogger(__name__)
router = APIRouter()
WINDOW = 10.0
"""Seconds over which the rate of frames is taken, so that a burst does no harm."""


_ERRORS = (ForeignOrigin, InvalidRequest, NotReady, Overloaded, RateLimited, UpgradeRequired)


class Ending(NamedTuple):
    """How a connection is closed."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Frame:
    data: bytes
    number: int
    """Counted from 1."""


class OpenStreams:
    """How many there are, and whose. Belongs to one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._most, self._most_of_one = settings.max_streams, settings.max_streams_per_caller
        self._open: Counter[str] = Counter()

    def enter(self, caller: str) -> None:
        """Take a place; `leave` must follow.

        Raises:
            Overloaded: there is none.
            RateLimited: this caller has its share already.
        """
        if self._open.total() >= self._most:
            raise Overloaded(f"{self._most} streams are open already; try again later")
        if self._most_of_one and self._open[caller] >= self._most_of_one:
            raise RateLimited(f"this caller has {self._most_of_one} streams open already; close one of them")
        self._open[caller] += 1

    def leave(self, caller: str) -> None:
        """Give the place back."""
        self._open -= Counter([caller])  # callers without any are forgotten


@router.websocket("/stream")
async def stream(socket: WebSocket) -> None:
    """Judge frames until the client has enough; every problem of the request itself ends it before it begins."""
    context: Context = socket.app.state.context
    caller = caller_of(socket.scope)
    try:
        _check_origin(socket, context.settings.cors_origins)
        options = parse_options(socket.scope["query_string"], FaceOptions)
        context.slot.current()
        context.streams.enter(caller)
    except RequestError as error:
        await _refuse(socket, context, error)
        return
    try:
        await socket.accept()
        with context.metrics.streams.open.track_inprogress(), suppress(WebSocketDisconnect):
            ending = await Stream(context, socket, options).run()
            if ending is not None:
                await socket.close(*ending)
    finally:
        context.streams.leave(caller)


@router.get(
    "/stream",
    summary="A WebSocket: video frames in, answers out",
    status_code=426,
    responses={101: {"description": "The WebSocket is open"}, **documented(*_ERRORS)},
)
async def describe(options: Annotated[FaceOptions, Query()]) -> None:
    """Send each frame (JPEG, PNG, WebP) as a binary message; the newest wins, and what it overtakes is dropped.

    An answer is a text message: the frame's number counted from 1, how many got no answer since the one before, and
    `detection` as `/detect` answers, or `problem` where the frame cannot be used:

        {"frame": 7, "dropped": 2, "detection": {"label": "happy", ...}}
        {"frame": 8, "dropped": 0, "problem": {"type": "urn:problem:broken-image", ...}}

    The server closes with 1000 after a pause, 1003 on a text message, 1008 on too many frames/s or once the key is no
    longer valid, 1009 on a frame that is too large, 1012 when it ends.
    """
    raise UpgradeRequired(f"this is a WebSocket: new WebSocket('ws://.../stream?faces={options.faces}')")


class Stream:
    """One connection: a task that reads frames, and one that judges the newest."""

    def __init__(self, context: Context, socket: WebSocket, options: FaceOptions) -> None:
        self._context, self._socket, self._options = context, socket, options
        self._newest: asyncio.Queue[Frame] = asyncio.Queue(1)
        self._rate = _Rate(context.settings.stream_rate)
        self._visit: Visit = socket.scope["visit"]
        self._arrived = self._answered = 0

    async def run(self) -> Ending | None:
        """Until one side ends it; what is to be told to the client, if it is still there."""
        ending = None
        try:
            async with asyncio.TaskGroup() as tasks:
                judging = tasks.create_task(self._judge())
                ending = await self._read()
                judging.cancel()
        except* WebSocketDisconnect:  # it left while it was being answered
            pass
        return ending

    async def _read(self) -> Ending | None:
        idle = self._context.settings.stream_idle_seconds
        while True:
            try:
                async with asyncio.timeout(idle):
                    message = await self._socket.receive()
            except TimeoutError:
                return Ending(1000, f"no frame for {idle:g} s")
            if message["type"] == "websocket.disconnect":
                return None
            if ending := self._take(message):
                return ending

    def _take(self, message: Message) -> Ending | None:
        data, settings = message.get("bytes"), self._context.settings
        if data is None:
            return Ending(1003, "a frame is a binary message: JPEG, PNG or WebP")
        if len(data) > settings.max_frame_bytes:
            return Ending(1009, f"more than {settings.max_frame_bytes} bytes")
        if not self._rate.allows():
            return Ending(1008, f"more than {settings.stream_rate:g} frames/s")
        try:
            self._visit.admit()
        except RequestError as error:
            self._context.metrics.reject(problem_of(error)[0].slug)
            return Ending(1008, str(error))
        if self._newest.full():
            self._newest.get_nowait()
            self._context.metrics.streams.dropped.inc()
        self._arrived += 1
        self._newest.put_nowait(Frame(data, self._arrived))
        return None

    async def _judge(self) -> None:
        while True:
            frame = await self._newest.get()
            number, dropped = frame.number, frame.number - self._answered - 1
            result = await self._result(frame.data)
            await self._socket.send_text(f'{{"frame":{number},"dropped":{dropped},{result}}}')
            self._answered = number

    async def _result(self, data: bytes) -> str:
        """A member of the answer: the detection, or the problem with this frame."""
        try:
            return f'"detection":{await self._detect(data)}'
        except Exception as error:
            kind, problem = problem_of(error)
            if kind is INTERNAL:
                log.exception("a frame failed")
            self._context.metrics.reject(kind.slug)
            return f'"problem":{problem.model_dump_json()}'

    async def _detect(self, data: bytes) -> str:
        context = self._context
        model = context.challenger.canary.choose(self._socket.scope)  # a stream may see several
        work = partial(judge, context, self._options, [data], Client(_never))
        model, cut, rows = await context.challenger.canary.attempt(model, work)
        return context.answers_of(model).detection(cut, rows)[1]


class _Rate:
    """No more than so many per second, taken over `WINDOW`."""

    def __init__(self, rate: float) -> None:
        self._most, self._count, self._start = rate * WINDOW, 0, time.monotonic()

    def allows(self) -> bool:
        now = time.monotonic()
        if now - self._start > WINDOW:
            self._count, self._start = 0, now
        self._count += 1
        return self._count <= self._most


async def _never() -> Message:
    """What the waiting room listens to: whether the client leaves is noticed by the reading task."""
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


async def _refuse(socket: WebSocket, context: Context, error: RequestError) -> None:
    kind, problem = problem_of(error)
    context.metrics.reject(kind.slug)
    headers = headers_of(kind, context.settings)
    await socket.send_denial_response(JSONResponse(problem.model_dump(), kind.status, headers, MEDIA_TYPE))


def _check_origin(socket: WebSocket, allowed: Sequence[str]) -> None:
    """Browsers let any page open a WebSocket to anywhere, and say where the page is from; programs say nothing.

    Raises:
        ForeignOrigin: the page is neither from this server nor allowed.
    """
    origin = socket.headers.get("origin")
    if origin is None or origin in allowed or "*" in allowed:
        return
    if origin.partition("://")[2].lower() != socket.headers.get("host", "").lower():
        raise ForeignOrigin("pages from elsewhere may not use this; the setting `cors_origins` names those that may")
