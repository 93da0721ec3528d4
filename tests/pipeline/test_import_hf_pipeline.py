"""`emotion import-hf` beside models of our own: a checkpoint becomes a version, its weights as they were."""

from __future__ import annotations

import json
import shutil
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from tests.checkpoints import golden_tensors, write_checkpoint
from tests.clone import Clone

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("whole_path"), pytest.mark.timeout(1200)]
STAGES = ["train@theirs", "evaluate@theirs", "export@theirs", "register@theirs"]


@pytest.fixture(scope="module")
def imported(pipeline: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A copy of the pipeline's clone into which a checkpoint was imported, and nothing was trained, though parameters
    had changed."""
    clone = Clone(tmp_path_factory.mktemp("import_hf") / "clone")
    shutil.copytree(pipeline.path, clone.path, symlinks=True)
    clone.set_params(models={"lenet": {"dropout": 0.31}})
    write_checkpoint(clone.path / "downloads/theirs")
    clone.run("emotion", "import-hf", "downloads/theirs")
    return clone


def bundle(clone: Clone) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((clone.path / "bundles/theirs/bundle.json").read_text())
    return content


def test_params_say_where_the_weights_come_from(imported: Clone) -> None:
    params = json.loads(imported.run("emotion", "params").stdout)
    entry = {"weights": "downloads/theirs", "head": "checkpoint", "training": {"epochs": 0}}
    assert params["models"]["theirs"] == {"architecture": "vit", **entry}


def test_weights_are_those_of_the_checkpoint(imported: Clone) -> None:
    from emotion_detection.models import load_model

    model = load_model("vit", imported.path / "models/theirs/model.keras")
    tensors = golden_tensors()
    np.testing.assert_array_equal(model.get_layer("norm").get_weights()[1], tensors["vit.layernorm.bias"])
    order = [1, 6, 4, 5, 2, 0, 3]  # angry, disgust, fear, happy, neutral, sad, surprise
    np.testing.assert_array_equal(model.get_layer("logits").get_weights()[1], tensors["classifier.bias"][order])


def test_bundle_answers_as_keras_does_for_any_batch(imported: Clone) -> None:
    from emotion_detection.models import load_model
    from emotion_detection.stats import softmax

    info = bundle(imported)
    assert info["metrics"]["parity"] <= 1e-4
    model = load_model("vit", imported.path / "models/theirs/model.keras")
    session = ort.InferenceSession(imported.path / "bundles/theirs/model.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 5):
        images = np.random.default_rng(count).integers(0, 256, (count, 48, 48, 1), dtype=np.uint8)
        probabilities = session.run(["probabilities"], {"image": images})[0]
        expected = softmax(np.asarray(model(images, training=False)) / info["temperature"])
        np.testing.assert_allclose(probabilities, expected, atol=1e-4)


def test_challenger_is_registered_with_report_and_run(imported: Clone, pipeline: Clone) -> None:
    results = {row["model"]: row for row in json.loads(imported.run("emotion", "results", "--json").stdout)}
    assert results["theirs"]["version"] == "3"
    assert results["theirs"]["aliases"] == []
    assert results["theirs"]["val_accuracy"] == bundle(imported)["metrics"]["val_accuracy"]
    runs = [(clone.path / "models/lenet/run.json").read_bytes() for clone in (pipeline, imported)]
    assert runs[0] == runs[1]
    assert (imported.path / "reports/theirs/figures/training.png").is_file()
    history = json.loads((imported.path / "models/theirs/history.json").read_text())
    assert history["metrics"]["val_accuracy"] == pytest.approx([results["theirs"]["val_accuracy"]])


def test_importing_again_changes_nothing(imported: Clone) -> None:
    before = (imported.path / "params.yaml").read_bytes()
    again = imported.run("emotion", "import-hf", "downloads/theirs").stdout
    assert "params.yaml has models.theirs already" in again
    assert "version 3 (theirs) is registered" in again
    assert [stage for stage in STAGES if f"Running stage '{stage}'" in again] == []
    assert (imported.path / "params.yaml").read_bytes() == before
