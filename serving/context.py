"""What the parts of one running application share.

The application holds it, not the modules, so that several can live side by side.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from starlette.requests import Request

from emotion_detection.crops import Cutter
from emotion_detection.errors import ImageError
from emotion_detection.faces import Face
from emotion_detection.preprocess import Pixels
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

if TYPE_CHECKING:
    from serving.stream import OpenStreams


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
    streams: OpenStreams
    playlists: Playlists
    judgements: Judgements

    @cached_property
    def cutter_on_the_loop(self) -> Cutter:
        """As `cutter`, for the event loop, which has no time to search for faces: raises NeedsSearch instead."""
        return replace(self.cutter, find=_not_here)


class NeedsSearch(ImageError):
    """Faces would have to be searched for."""


def _not_here(_: Pixels) -> list[Face]:
    raise NeedsSearch


def context_of(request: Request) -> Context:
    """The context of the application that answers this request."""
    context: Context = request.app.state.context
    return context
