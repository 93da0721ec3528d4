"""The model that answers: what it is, where it comes from, and the one place where it is held.

A `ServedModel` never changes. Whoever answers a request takes the current one from the `ModelSlot` once and
uses it to the end, so that an answer and the version named in it always belong together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from emotion_detection.bundle import ModelBundle, Precision
from serving.engine import Engine
from serving.errors import NotReady


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A loaded model and its lineage."""

    name: str
    """Registered model; the model's own name where it comes from a directory."""
    version: str
    """Version in the registry; `bundle-` and the start of its digest where it comes from a directory."""
    run_id: str | None
    """MLflow run; none where it comes from a directory."""
    bundle: ModelBundle
    engine: Engine
    created: float | None = None
    """When the version was registered, seconds since 1970; none where that is not known."""
    on_trial: bool = False
    """Whether it was loaded as a challenger: the champion answers where it fails."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 that names the bundle."""
        return self.bundle.info.digest()

    @property
    def precision(self) -> Precision:
        """What its answers are computed in."""
        return self.engine.precision

    @property
    def labels(self) -> tuple[str, ...]:
        return self.bundle.info.labels


class ModelSlot:
    """Holds the current model; reading and replacing are atomic.

    Nothing else may hold a model for longer than it takes to answer: one that was replaced is freed with its last
    request.
    """

    def __init__(self) -> None:
        self.model: ServedModel | None = None
        """None until one has been loaded."""
        self.reason = "the model is being loaded"
        """Why there is no model, or why it may not be the one that it should be; empty where all is well."""

    def current(self) -> ServedModel:
        """The model to answer with.

        Raises:
            NotReady: none has been loaded yet.
        """
        model = self.model
        if model is None:
            raise NotReady(f"not ready: {self.reason}")
        return model

    def other_than(self, model: ServedModel) -> ServedModel | None:
        """The model, if there is one with another bundle than `model`."""
        own = self.model
        return None if own is None or own.digest == model.digest else own

    def replace(self, model: ServedModel, reason: str = "") -> None:
        """From now on, `model` answers; requests that hold the old one end with the old one."""
        self.model, self.reason = model, reason

    def clear(self) -> None:
        """From now on there is no model."""
        self.model = None
