"""Benchmark of the published mini_xception weights: classes by name, not by place."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.public_mini_xception import PUBLIC_LABELS, public_logits, public_model
from emotion_detection.backend import keras
from emotion_detection.errors import ArtifactError
from emotion_detection.models import InputSpec, build_model

SPEC = InputSpec(64, 1, len(PUBLIC_LABELS))
FACES = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 1), dtype=np.uint8)


def test_logits_are_in_the_order_of_the_data_set(tmp_path: Path) -> None:
    keras.utils.set_random_seed(1)
    build_model("mini_xception", SPEC, {}).save_weights(tmp_path / "a.weights.h5")
    keras.utils.set_random_seed(2)
    model = public_model(tmp_path / "a.weights.h5", SPEC)
    raw, found = model.predict(FACES, verbose=0), public_logits(model, FACES, sorted(PUBLIC_LABELS))
    for place, label in enumerate(sorted(PUBLIC_LABELS)):
        np.testing.assert_allclose(found[:, place], raw[:, PUBLIC_LABELS.index(label)], rtol=1e-5)


def test_other_classes_are_refused() -> None:
    with pytest.raises(ArtifactError, match="has the classes angry, happy, sad"):
        public_logits(build_model("mini_xception", SPEC, {}), FACES, ["angry", "happy", "sad"])


def test_published_head_is_loaded_too() -> None:
    path = Path(os.environ.get("REAL_DATA_DIR", "")) / "fer2013_mini_XCEPTION.102-0.66.hdf5"
    if not path.is_file():
        pytest.skip("REAL_DATA_DIR has no fer2013_mini_XCEPTION.102-0.66.hdf5")
    kernel, bias = public_model(path, SPEC).get_layer("head_conv").get_weights()
    assert kernel.shape == (3, 3, 128, 7)
    assert np.abs(bias).max() > 0.01
