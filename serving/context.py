"""What the parts of one running application share.

The application holds it, not the modules, so that several can live side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from emotion_detection.crops import Cutter
from serving.batching import BatchQueue
from serving.metrics import Metrics
from serving.model import ModelSlot
from serving.settings import Settings
from serving.watcher import Watcher


@dataclass(frozen=True)
class Context:
    """One application's settings, metrics, model, workers and face detector."""

    settings: Settings
    metrics: Metrics
    slot: ModelSlot
    queue: BatchQueue
    watcher: Watcher
    cutter: Cutter


def context_of(request: Request) -> Context:
    """The context of the application that answers this request."""
    context: Context = request.app.state.context
    return context
