"""The HTTP application.

    python -m serving --bundle bundles/lenet                    # or, with options of uvicorn's own:
    uvicorn --factory serving.app:create_app

Nothing of training is imported here: neither TensorFlow nor DVC, Great Expectations, pandas or pyarrow; and
MLflow only where the model comes from its registry.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import cv2
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from serving import docs, explain, feedback, inference, page, problems, recommend, routes, stream, webhooks
from serving.access import AccessMiddleware, RequestIds
from serving.answers import AnswerBook
from serving.batching import BatchQueue
from serving.catalogue import read_catalogue
from serving.challenger import Challenger
from serving.context import Context
from serving.detect import DetectPath, is_detect
from serving.faces import create_cutter
from serving.gatekeeper import guard
from serving.heat import HeatMaps
from serving.judgements import Judgements
from serving.logs import AccessLog
from serving.metrics import Metrics, MetricsMiddleware
from serving.model import ModelSlot
from serving.playlists import Playlists
from serving.settings import Settings, load_settings
from serving.sources import open_source
from serving.turnstile import TURNSTILE, Turnstile
from serving.uploads import Uploads
from serving.waiting import WaitingRoom
from serving.watcher import Watcher

PATIENCE = 3.0
"""Seconds for which the port stays closed while the model is loaded; MLflow may take longer, or never answer."""
ROUTERS = (routes.router, explain.router, stream.router, recommend.router, inference.router)
DESCRIPTION = (
    "Emotions in images of faces. Every answer names the model, and through it the code and data, that gave it."
)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the application; the model is loaded in the background once it starts.

    Args:
        settings: none: from the environment.

    Raises:
        SettingsError: the environment has a wrong value.
        FaceModelError: the settings name a file that is not YuNet's.
        CatalogueError: the catalogue of songs has a mistake.
        FeedbackError: faces are to be kept, and cannot be.
    """
    settings = settings or load_settings()
    cv2.setNumThreads(1)  # the workers are the threads; more would stand in their way
    routers = [
        *ROUTERS,
        *page.routers(),
        *feedback.routers(settings),
        *([webhooks.router] if settings.webhook_secret and not settings.bundle else []),
    ]
    context = _assemble(settings, Metrics(_documented_statuses(routers), problems.REASONS))
    access_log, ids = AccessLog(settings), RequestIds()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, object]]:
        context.watcher.start()
        context.queue.start()
        await context.judgements.start()
        context.challenger.start()
        await asyncio.to_thread(context.watcher.wait, PATIENCE)
        yield {TURNSTILE: Turnstile(context, ids, access_log)}  # uvicorn hands it to every connection
        context.watcher.stop()
        await asyncio.to_thread(context.challenger.stop)
        await asyncio.to_thread(context.queue.stop)
        await context.judgements.stop()
        access_log.flush()
        await asyncio.to_thread(context.heat.stop)

    app = Application(
        title="Emotion detection",
        description=DESCRIPTION,
        version="0.1.0",
        lifespan=lifespan,
        docs_url=None,  # docs.py
        redoc_url=None,
    )
    app.state.context = context
    app.add_middleware(DetectPath, context=context)
    guard(app, context)
    app.add_middleware(MetricsMiddleware, metrics=context.metrics.http)
    app.add_middleware(AccessMiddleware, context=context, ids=ids, log=access_log)  # the last is the first one asked
    problems.install(app)
    for router in (docs.router, *routers):
        app.include_router(router)
    return app


def _assemble(settings: Settings, metrics: Metrics) -> Context:
    """All parts of one application; nothing runs yet."""
    queue = BatchQueue(metrics, settings.worker_threads, settings.queue_size, settings.max_batch)
    slot, judgements = ModelSlot(), Judgements(settings, metrics.feedback)
    return Context(
        settings,
        metrics,
        slot,
        queue,
        Watcher(settings, open_source(settings), slot, metrics),
        Challenger(settings, slot, queue, metrics),
        cutter=create_cutter(settings, metrics),
        uploads=Uploads(settings),
        room=WaitingRoom(settings.answer_seconds),
        answers_of=AnswerBook(metrics, judgements.secret, judgements.faces),
        heat=HeatMaps(metrics, settings.heat_queue_size),
        streams=stream.OpenStreams(settings),
        playlists=Playlists(read_catalogue(settings.catalogue)),
        judgements=judgements,
    )


class Application(FastAPI):
    """FastAPI, but `POST /detect` goes straight to our own middleware.

    What FastAPI and Starlette put around that (telemetry, and answers to exceptions, which access.py gives before them)
    would take a tenth of the event loop's time.
    """

    _front: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if self.middleware_stack is not None and is_detect(scope):
            scope["app"] = self
            await self._front(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        """As FastAPI does, once."""
        stack = layer = super().build_middleware_stack()
        while not isinstance(layer, AccessMiddleware):
            layer = layer.app  # type: ignore[attr-defined]
        self._front = layer
        return stack


def _documented_statuses(routers: Sequence[APIRouter]) -> dict[str, list[int]]:
    """The statuses that each route may answer with."""
    found = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    return {route.path: sorted({route.status_code or 200, 500, *map(int, route.responses)}) for route in found}
