"""What the parts of one running application share.

The application holds it, not the modules, so that several can live side by side.
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

from starlette.requests import Request

from serving.metrics import Metrics
from serving.model import ModelSlot
from serving.settings import Settings


@dataclass(frozen=True)
class Context:
    """One application's settings, metrics, model and worker threads."""

    settings: Settings
    metrics: Metrics
    slot: ModelSlot
    workers: Executor


def context_of(request: Request) -> Context:
    """The context of the application that answers this request."""
    context: Context = request.app.state.context
    return context
