"""An exponential moving average of a model's weights, which is judged and kept in place of the last weights.

    average = WeightAverage(model, decay=0.999)
    model.fit(batches, validation_data=validation, callbacks=[average])     # validates the average
    with average.in_model():
        model.save_weights(path)

B. Polyak & A. Juditsky, "Acceleration of stochastic approximation by averaging" (1992). Batch norm's moving statistics
are averaged as the weights are, so that they fit. Keras's own `use_ema` cannot be used: `fit` overwrites the weights
with the average at its end, and the loop calls `fit` once per epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotion_detection.backend import keras


class WeightAverage(keras.callbacks.Callback):  # type: ignore[misc]
    """Follows a model step by step; while the model is validated, it has the average."""

    def __init__(self, model: keras.Model, decay: float) -> None:
        """Start from the weights that `model` has; each step keeps `decay` of the average."""
        super().__init__()
        self._averaged = [weight for weight in model.weights if weight.dtype.startswith(("float", "bfloat"))]
        self._decay, self._values, self._steps = decay, self._current(), 0

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Move the average towards the weights; the first steps faster, as the start is worth nothing."""
        del batch, logs
        self._steps += 1
        share = 1 - min(self._decay, self._steps / (10 + self._steps))
        for value, weight in zip(self._values, self._averaged, strict=True):
            np.add(value, share * (keras.ops.convert_to_numpy(weight) - value), out=value)

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """Let validation judge the average."""
        del logs
        self._exchange()

    def on_test_end(self, logs: dict[str, float] | None = None) -> None:
        """Go on with the weights themselves."""
        del logs
        self._exchange()

    @contextmanager
    def in_model(self) -> Iterator[None]:
        """Within, the model has the average."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def state(self) -> list[NDArray[Any]]:
        """All that `restore` needs."""
        return [np.array(self._steps), *self._values]

    def restore(self, state: Sequence[NDArray[Any]]) -> None:
        """Go on from what `state` gave."""
        self._steps, self._values = int(state[0]), list(state[1:])

    def _current(self) -> list[NDArray[Any]]:
        return [np.array(keras.ops.convert_to_numpy(weight)) for weight in self._averaged]

    def _exchange(self) -> None:
        current = self._current()
        for weight, value in zip(self._averaged, self._values, strict=True):
            weight.assign(value)
        self._values = current
