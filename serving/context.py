"""What the parts of one running application share.

The application holds it, not the modules, so that several can live side by side.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.requests import Request

from emotion_detection.crops import Cutter
from serving.answers import AnswerBook
from serving.batching import BatchQueue
from serving.challenger import Challenger
from serving.heat import HeatMaps
from serving.judgements import Judgements
from serving.metrics import Metrics
from serving.model import ModelSlot
from serving.playlists import Playlists
from serving.settings import Settings
from serving.uploads import Uploads
from serving.waiting import WaitingRoom
from serving.watcher import Watcher


@dataclass(frozen=True)
class Context:
    """One application's settings, metrics, model, workers, and what they all share."""

    settings: Settings
    metrics: Metrics
    slot: ModelSlot
    queue: BatchQueue
    watcher: Watcher
    challenger: Challenger
    cutter: Cutter
    uploads: Uploads
    room: WaitingRoom
    answers_of: AnswerBook
    heat: HeatMaps
    streams: asyncio.Semaphore
    """A place for each stream that may be open."""
    playlists: Playlists
    judgements: Judgements


def context_of(request: Request) -> Context:
    """The context of the application that answers this request."""
    context: Context = request.app.state.context
    return context
