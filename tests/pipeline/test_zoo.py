"""`make zoo` at its smallest: every architecture from drawn faces to a registered bundle that answers as Keras does.

The stages run one after another in a few processes, which import TensorFlow once each; that DVC runs them is shown by
test_whole_path.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from emotion_detection.artifacts import History, Registration, Report, read_record
from emotion_detection.backend import keras, tf
from emotion_detection.bundle import ModelBundle, read_bundle
from emotion_detection.conversion import open_graph, to_onnx
from emotion_detection.data.shards import Arrays, load_arrays
from emotion_detection.inference import predict_logits
from emotion_detection.models import architectures, load_model
from emotion_detection.params import ModelParams, load_params
from emotion_detection.params_edit import prepare_edit, read_preset
from emotion_detection.stats import softmax
from tests.clone import ROOT, Clone, clone_of_this_checkout

FROZEN = "efficientnet_b4"
"""Left out: efficientnet_b4_finetuned begins with the same training, and half a minute each is enough."""
ZOO = {
    name: ModelParams(**entry)
    for name, entry in read_preset("zoo", ROOT / "presets")["models"].items()
    if name != FROZEN
}
LARGE = ("resnet34", "vgg16", "mobilenet_v2", "resnet50", "efficientnet_b4_finetuned")
"""Each has a process of its own: what TensorFlow has once taken for a large graph it never gives back."""
STAGES = """
import importlib, sys
from emotion_detection.errors import reported

with reported():
    for stage, _, model in [word.partition("@") for word in sys.argv[1:]]:
        sys.argv = [stage, *filter(None, [model])]
        module = importlib.import_module(f"pipeline.{stage}")
        module.main(model) if stage == "register" else module.main()
"""
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("zoo"), pytest.mark.timeout(1200)]
each_model = pytest.mark.parametrize("name", ZOO)


def stages_of(*names: str) -> list[str]:
    return [f"{stage}@{name}" for name in names for stage in ("train", "evaluate", "export", "register")]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which all models of the preset have gone through the pipeline, on few images."""
    clone = clone_of_this_checkout(tmp_path_factory.mktemp("zoo") / "clone")
    few = {
        "data": {"synthetic": {"count": 160}, "shards": 1},
        "evaluation": {"bootstrap": 100, "explained": 2, "mistakes": 6, "ten_crop": False, "robustness_images": 0},
        "export": {"int8": {"enabled": False}},
    }
    short = {"models": {name: {"training": {"epochs": 1}} for name in ZOO} | {FROZEN: None}}
    prepare_edit(clone.path / "params.yaml", [few, short], read_preset("zoo", ROOT / "presets")).write()
    run = partial(clone.run, sys.executable, "-c", STAGES)
    small = [name for name in ZOO if name not in LARGE]
    run("fingerprint", "ingest", "validate", "shards", "pictures", *stages_of(*small))
    for name in LARGE:
        run(*stages_of(name))
    run("compare")
    return clone


@pytest.fixture(scope="module")
def faces(zoo: Clone) -> Arrays:
    return load_arrays(zoo.path / "data/shards", "test")


@pytest.fixture(scope="module")
def logits(zoo: Clone, faces: Arrays, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, NDArray[np.float32]]:
    """Answers to the test images, by model: each loaded, saved, and loaded again."""
    folder = tmp_path_factory.mktemp("again")

    def answers(name: str) -> NDArray[np.float32]:
        path = folder / f"{name}.keras"
        load_model(ZOO[name].architecture, zoo.path / "models" / name / "model.keras").save(path)
        return predict_logits(load_model(ZOO[name].architecture, path), faces.images)

    return {name: answers(name) for name in ZOO}


def bundle_of(zoo: Clone, name: str) -> ModelBundle:
    return read_bundle(zoo.path / "bundles" / name)


def test_the_zoo_has_every_architecture(zoo: Clone) -> None:
    assert {entry.architecture for entry in ZOO.values()} == set(architectures())
    assert set(load_params(zoo.path / "params.yaml").models) == set(ZOO)


def centred(values: NDArray[np.floating]) -> NDArray[np.floating]:
    return values - values.mean(axis=1, keepdims=True)


@each_model
def test_onnx_answers_as_the_trained_model_does(
    zoo: Clone, faces: Arrays, logits: Mapping[str, NDArray[np.float32]], name: str
) -> None:
    """Top class identical on the whole test split, probabilities within 1e-4, whatever the batch."""
    temperature = read_record(zoo.path / "reports" / name / "metrics.json", Report).temperature
    expected = softmax(logits[name] / temperature)
    session = ort.InferenceSession(bundle_of(zoo, name).model_path)
    for batch in (1, 7, len(faces.images)):
        starts = range(0, len(faces.images), batch)
        parts = [session.run(None, {"image": faces.images[start : start + batch]})[0] for start in starts]
        answers = np.concatenate(parts)
        assert np.abs(answers - expected).max() <= 1e-4, batch
        np.testing.assert_array_equal(answers.argmax(axis=1), expected.argmax(axis=1))
        # Hardly trained, a model may be told to say the same of all faces; its logits tell more.
        said = temperature * np.log(answers.astype(np.float64))
        np.testing.assert_allclose(centred(said), centred(logits[name]), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_b4_finetuned"])
def test_onnx_agrees_where_batch_norm_has_settled(zoo: Clone, faces: Arrays, name: str, tmp_path: Path) -> None:
    """These two say the same of every face until the statistics of their batch norm have seen a thousand batches; here
    they get those of the faces at once."""
    model = load_model(ZOO[name].architecture, zoo.path / "models" / name / "model.keras")
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum, layer.trainable = 0.0, True  # fine-tuning leaves them as they are
    model(faces.images, training=True)
    expected = predict_logits(model, faces.images)
    assert np.ptp(expected, axis=0).max() > 0.1
    signature = [tf.TensorSpec(model.input_shape, tf.uint8, name="image")]
    graph = to_onnx(lambda image: {"logits": model(image, training=False)}, signature, opset=18)
    onnx.save(graph, tmp_path / "settled.onnx")
    answers = open_graph(tmp_path / "settled.onnx").run(None, {"image": faces.images})[0]
    # A norm over so few faces divides by small spreads, which enlarges the rounding; a forgotten one is off by 0.1.
    np.testing.assert_allclose(softmax(answers), softmax(expected), atol=1e-3)
    clear = np.ptp(np.sort(softmax(expected))[:, -2:], axis=1) > 2e-3  # what that rounding cannot turn round
    assert clear.mean() > 0.5
    np.testing.assert_array_equal(answers[clear].argmax(axis=1), expected[clear].argmax(axis=1))


@each_model
def test_the_model_survives_saving_and_loading(
    zoo: Clone, logits: Mapping[str, NDArray[np.float32]], name: str
) -> None:
    """The file holds the weights of the best epoch, and a process that saves it anew and loads that answers alike."""
    report = read_record(zoo.path / "reports" / name / "metrics.json", Report)
    history = read_record(zoo.path / "models" / name / "history.json", History)
    kept = history.metrics["val_accuracy"][history.best_epoch]
    assert report.val.accuracy.value == pytest.approx(kept, abs=1.01 / report.val.images)  # a tie may fall either way
    rows = pq.read_table(zoo.path / "reports" / name / "predictions.parquet", filters=[("split", "=", "test")])
    np.testing.assert_allclose(np.stack(rows["logits"].to_numpy()), logits[name], rtol=1e-4, atol=1e-4)


@each_model
def test_the_bundle_is_registered(zoo: Clone, name: str) -> None:
    registration = read_record(zoo.path / f"registrations/{name}.json", Registration)
    info = bundle_of(zoo, name).info
    assert registration.bundle_sha256 == info.digest()
    assert (info.model, info.architecture) == (name, ZOO[name].architecture)
    assert info.metrics["parity"] <= 1e-4


@each_model
def test_fine_tuning_begins_where_it_is_asked_for(zoo: Clone, name: str) -> None:
    history = read_record(zoo.path / "models" / name / "history.json", History)
    asked = load_params(zoo.path / "params.yaml").training_of(name)
    assert len(history.stages) == len(asked.finetuning)
    assert len(history.metrics["loss"]) == asked.total_epochs


def test_every_model_stands_in_the_comparison(zoo: Clone) -> None:
    printed = json.loads(zoo.run("emotion", "compare", "--json").stdout)["models"]
    assert set(printed) == set(ZOO)
    page = (zoo.path / "comparison/index.html").read_text()
    for name, model in printed.items():
        assert name in page
        assert model["flops"] > model["parameters"] > 0  # every weight is used at least once
