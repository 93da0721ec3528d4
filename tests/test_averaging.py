"""The average of the weights is the one of the formula, and is judged without disturbing the training."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from emotion_detection.averaging import WeightAverage
from emotion_detection.backend import keras
from emotion_detection.models import InputSpec, build_model

FORMULA = "test_each_step_moves_the_average_by_the_formula"


@pytest.fixture
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    network = build_model("se_resnet", InputSpec(16, 1, 2), {"stem": 4, "filters": [8], "blocks": [1]})
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.SGD(0.1), loss, jit_compile=False)
    return network


def data() -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(40) % 2
    images = np.random.default_rng(0).integers(0, 100, (40, 16, 16, 1), np.uint8)
    images[labels == 1] += 100
    return images, np.eye(2)[labels]


def in_model(average: WeightAverage, model: keras.Model) -> list[np.ndarray]:
    with average.in_model():
        return model.get_weights()


def test_each_step_moves_the_average_by_the_formula(model: keras.Model) -> None:
    seen = [model.get_weights()]
    average = WeightAverage(model, decay=0.3)
    record = keras.callbacks.LambdaCallback(on_train_batch_end=lambda *_, **__: seen.append(model.get_weights()))
    model.fit(*data(), batch_size=8, verbose=0, callbacks=[average, record])
    assert len(seen) == 6
    for index, found in enumerate(in_model(average, model)):
        expected = seen[0][index]
        for step, weights in enumerate(seen[1:], 1):
            decay = min(0.3, step / (10 + step))
            expected = decay * expected + (1 - decay) * weights[index]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert any(
        not np.allclose(before, after)
        for before, after in zip(in_model(average, model), model.get_weights(), strict=True)
    )


def test_validation_judges_the_average_and_training_goes_on_with_the_weights(model: keras.Model) -> None:
    average = WeightAverage(model, decay=0.999)
    fitted = model.fit(*data(), batch_size=8, validation_data=data(), verbose=0, callbacks=[average])
    own = model.evaluate(*data(), verbose=0)
    with average.in_model():
        assert model.evaluate(*data(), verbose=0) == pytest.approx(fitted.history["val_loss"][0], rel=1e-5)
    assert own != pytest.approx(fitted.history["val_loss"][0], rel=1e-5)
    assert model.evaluate(*data(), verbose=0) == pytest.approx(own)


def test_restored_average_equals_the_one_that_was_kept(model: keras.Model) -> None:
    average = WeightAverage(model, decay=0.9)
    model.fit(*data(), batch_size=8, verbose=0, callbacks=[average])
    other = WeightAverage(model, decay=0.9)
    other.restore(average.state())
    for mine, theirs in zip(in_model(average, model), in_model(other, model), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    for one in (average, other):
        one.on_train_batch_end(0)
    for mine, theirs in zip(in_model(average, model), in_model(other, model), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="this is that process")
def test_under_jax_each_step_moves_the_average_as_well() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", f"{__file__}::{FORMULA}"]
    subprocess.run(command, env=os.environ | {"KERAS_BACKEND": "jax"}, check=True)
