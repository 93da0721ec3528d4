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

from emotion_detection.backend import keras, tf

Tensor = Any


class WeightAverage(keras.callbacks.Callback):  # type: ignore[misc]
    """Follows a model step by step; while the model is validated, it has the average."""

    def __init__(self, model: keras.Model, decay: float) -> None:
        """Start from the weights that `model` has; each step keeps `decay` of the average."""
        super().__init__()
        self._weights = [weight for weight in model.weights if weight.dtype.startswith(("float", "bfloat"))]
        self._averages = [
            keras.Variable(value, trainable=False, dtype=weight.dtype)
            for weight, value in zip(self._weights, _arrays(self._weights), strict=True)
        ]
        self._decay, self._steps = decay, 0
        self._model_on_jax = model if keras.backend.backend() == "jax" else None
        # In the graph, as through NumPy all weights would be copied at every step.
        self._move = self._moved if self._model_on_jax else tf.function(self._moved, autograph=False)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Move the average towards the weights; the first steps faster, as the start is worth nothing."""
        del batch, logs
        self._steps += 1
        share = 1 - min(self._decay, self._steps / (10 + self._steps))
        if self._model_on_jax:
            self._model_on_jax.jax_state_sync()  # in the middle of an epoch, the weights are elsewhere
        self._move(keras.ops.convert_to_tensor(share, "float32"))

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
        return [np.array(self._steps), *_arrays(self._averages)]

    def restore(self, state: Sequence[NDArray[Any]]) -> None:
        """Go on from what `state` gave."""
        self._steps = int(state[0])
        _assign(self._averages, state[1:])

    def _moved(self, share: Tensor) -> None:
        for average, weight in zip(self._averages, self._weights, strict=True):
            average.assign_add(keras.ops.cast(share, average.dtype) * (weight - average))

    def _exchange(self) -> None:
        weights, averages = _arrays(self._weights), _arrays(self._averages)
        _assign(self._weights, averages)
        _assign(self._averages, weights)


def _arrays(variables: Sequence[keras.Variable]) -> list[NDArray[Any]]:
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def _assign(variables: Sequence[keras.Variable], values: Sequence[NDArray[Any]]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
