"""Loss, optimizer and learning rate do what params.yaml says."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest

from emotion_detection.backend import keras, tf
from emotion_detection.models import InputSpec, build_model
from emotion_detection.optimization import compile_model, learning_rate, optimizer
from emotion_detection.params import TrainingParams


def toy_model() -> keras.Model:
    return build_model("lenet", InputSpec(16, 1, 3), {"filters": [4], "dense": [8]})


def test_label_smoothing_is_in_the_loss() -> None:
    model = toy_model()
    compile_model(model, TrainingParams(label_smoothing=0.3), steps=5)
    logits = tf.constant([[2.0, 0.0, -1.0]])
    log_probabilities = np.log(np.asarray(keras.ops.softmax(logits)))[0]
    expected = -(log_probabilities @ np.array([0.8, 0.1, 0.1]))
    assert float(model.loss(tf.constant([[1.0, 0.0, 0.0]]), logits)) == pytest.approx(expected, rel=1e-5)


class Counting(keras.layers.Layer):
    """Passes on what it gets, and counts how often Python is asked: once for each trace."""

    asked = 0

    def call(self, x: tf.Tensor) -> tf.Tensor:
        Counting.asked += 1
        return x


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
def test_steps_of_training_and_validation_are_traced_once_each(kind: Literal["adam", "adamw", "sgd"]) -> None:
    image = keras.Input((2, 2, 1), dtype="uint8")
    x = Counting()(keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image)))
    model = keras.Model(image, keras.layers.Dense(3)(x))
    compile_model(model, TrainingParams(optimizer=kind), steps=2)
    data = tf.data.Dataset.from_tensor_slices((np.zeros((8, 2, 2, 1), np.uint8), np.eye(3)[[0, 1] * 4])).batch(4)
    Counting.asked = 0
    history = model.fit(data, validation_data=data, epochs=2, shuffle=False, verbose=0).history
    assert Counting.asked == 2
    assert history["accuracy"][0] in (0.0, 0.25, 0.5)  # of these eight alone, none of those that made the variables


def test_cosine_rises_for_the_warm_up_and_ends_at_zero() -> None:
    training = TrainingParams(epochs=10, learning_rate=0.5, warmup_epochs=2, schedule="cosine")
    rate = [float(learning_rate(training, steps=8)(step)) for step in range(81)]
    assert rate[0] == 0
    assert rate[8] == pytest.approx(0.25)
    assert rate[16] == pytest.approx(0.5)
    assert rate[48] == pytest.approx(0.25)
    assert rate[80] == pytest.approx(0, abs=1e-7)
    assert rate[16:] == sorted(rate[16:], reverse=True)


@pytest.mark.parametrize("warmup", [0.0, 1.0, 50.0])
def test_cosine_works_with_any_warm_up(warmup: float) -> None:
    training = TrainingParams(epochs=3, learning_rate=0.5, warmup_epochs=warmup)
    rate = [float(learning_rate(training, steps=4)(step)) for step in range(13)]
    assert all(math.isfinite(value) and 0 <= value <= 0.5 for value in rate)
    assert max(rate) > 0.4


def test_constant_schedule_is_the_learning_rate() -> None:
    assert learning_rate(TrainingParams(schedule="constant", learning_rate=0.3), steps=5) == 0.3


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_weight_decay_shrinks_kernels_only(name: str) -> None:
    decaying = TrainingParams(optimizer=name, weight_decay=0.1, learning_rate=0.5, schedule="constant")
    model = toy_model()
    before = [np.array(variable) for variable in model.trainable_variables]
    zeros = [keras.ops.zeros_like(variable) for variable in model.trainable_variables]
    optimizer(decaying, steps=5).apply(zeros, model.trainable_variables)
    for variable, value in zip(model.trainable_variables, before, strict=True):
        expected = value * (1 - 0.5 * 0.1) if variable.name == "kernel" else value
        np.testing.assert_allclose(np.array(variable), expected, rtol=1e-6)


def test_without_weight_decay_sgd_leaves_the_weights_alone() -> None:
    model = toy_model()
    before = model.get_weights()
    zeros = [keras.ops.zeros_like(variable) for variable in model.trainable_variables]
    optimizer(TrainingParams(optimizer="sgd", schedule="constant"), steps=5).apply(zeros, model.trainable_variables)
    for value, unchanged in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, unchanged)
