"""Half precision and several devices: what is computed otherwise, and what must come out the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emotion_detection.backend import keras, tf
from emotion_detection.checkpoint import Checkpoint
from emotion_detection.data.shards import load_arrays, read_dataset_info
from emotion_detection.errors import ParamsError
from emotion_detection.execution import Execution, available_devices, fuse_batch_norm
from emotion_detection.models import load_model
from emotion_detection.params import Params, TrainingParams, parse_params
from emotion_detection.saving import save_model
from emotion_detection.tracking import LiveRun
from emotion_detection.training import Trainer, training_id
from tests.toy_shards import toy_shards

ROOT = Path(__file__).parents[1]
TRAINING = {"batch_size": 16, "epochs": 2, "learning_rate": 0.01}
LENET = {"architecture": "lenet", "filters": [4], "dense": [8]}
VIT = {"architecture": "vit", "patch_size": 8, "dim": 8, "depth": 1, "heads": 2}
PLAIN = {
    "architecture": "emotion_cnn",
    "filters": [4, 4, 4, 4],
    "dense": 8,
    "dropout": 0.0,
    "dense_dropout": 0.0,
    "batch_norm": False,
}
SIZE = 24


def toy(model: dict[str, Any] = LENET, **training: object) -> Params:
    return parse_params({"data": {"image_size": SIZE}, "training": TRAINING | training, "models": {"toy": model}})


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.getbasetemp() / "execution"
    toy_shards(directory, {"angry": 34, "happy": 33, "sad": 33}, {"angry": 14, "happy": 13, "sad": 13}, SIZE)
    return directory


@pytest.mark.parametrize("model", [LENET, VIT], ids=["lenet", "vit"])
def test_mixed_precision_trains_in_half_and_saves_float32(model: dict[str, Any], shards: Path, tmp_path: Path) -> None:
    trainer = Trainer("toy", toy(model, precision="mixed_bfloat16"), read_dataset_info(shards), shards)
    trainer.run(Checkpoint(tmp_path / "checkpoint"), LiveRun("toy"))
    images = load_arrays(shards, "val").images
    halves = trainer.model(images, training=False)
    assert halves.dtype == "bfloat16"
    assert {weight.dtype for weight in trainer.model.trainable_weights} == {"float32"}

    save_model(trainer.model, tmp_path / "model.keras")
    saved = load_model(model["architecture"], tmp_path / "model.keras")
    logits = saved(images, training=False)
    assert logits.dtype == "float32"
    assert {layer.compute_dtype for layer in saved._flatten_layers()} == {"float32"}
    for trained, kept in zip(trainer.model.get_weights(), saved.get_weights(), strict=True):
        np.testing.assert_array_equal(trained, kept)
    np.testing.assert_allclose(np.asarray(logits), np.asarray(keras.ops.cast(halves, "float32")), atol=0.2)
    assert keras.config.dtype_policy().name == "float32"


def test_float16_scales_its_loss(shards: Path) -> None:
    info = read_dataset_info(shards)
    optimizers = {
        precision: type(Trainer("toy", toy(precision=precision), info, shards).model.optimizer).__name__
        for precision in ("float32", "mixed_bfloat16", "mixed_float16")
    }
    assert optimizers == {"float32": "Adam", "mixed_bfloat16": "Adam", "mixed_float16": "LossScaleOptimizer"}


def test_precision_and_devices_are_in_the_training_id_unless_default(shards: Path) -> None:
    info = read_dataset_info(shards)
    assert not {"precision", "devices", "weight_average"} & set(toy().training.identity())
    assert not {"brightness", "erasing", "mixup", "cutmix"} & set(toy().training.identity()["augmentation"])
    ids = {training_id("toy", params, info) for params in (toy(), toy(precision="mixed_bfloat16"), toy(devices="all"))}
    assert len(ids) == 3


def test_more_devices_than_there_are() -> None:
    number = len(available_devices()) + 1
    with pytest.raises(ParamsError, match=rf"training\.devices: found {number}, but this machine has {number - 1}"):
        Execution(TrainingParams(devices=number))


DEVICES = """
import json, sys
from pathlib import Path
from emotion_detection.backend import keras, tf

if keras.backend.backend() == "tensorflow":
    cpu, = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from emotion_detection.checkpoint import Checkpoint
from emotion_detection.data.shards import read_dataset_info
from emotion_detection.errors import ParamsError
from emotion_detection.execution import Execution
from emotion_detection.params import TrainingParams, parse_params
from emotion_detection.tracking import LiveRun
from emotion_detection.training import Trainer

shards, directory, content = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
report = {"errors": []}
for devices, finetuning in ((1, []), (2, []), (2, [{"epochs": 1}])):
    content["training"] |= {"devices": devices, "finetuning": finetuning}
    trainer = Trainer("toy", parse_params(content), read_dataset_info(shards), shards)
    # the third goes on where the second ended
    history = trainer.run(Checkpoint(directory / str(devices)), LiveRun("toy"))
    variable = trainer.model.trainable_variables[0].value
    places = len(variable.values) if hasattr(variable, "values") else len(getattr(variable, "sharding").device_set) \\
        if hasattr(variable, "sharding") else 1
    report.setdefault(devices, {"metrics": history.metrics, "places": places})
report["stages"], report["resumed_at"] = history.stages, history.resumed_at
for wrong in ({"devices": 3}, {"devices": "all", "batch_size": 15}):
    try:
        Execution(TrainingParams(**wrong))
    except ParamsError as error:
        report["errors"].append(str(error))
print(json.dumps(report))
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_two_devices_give_the_losses_of_one(backend: str, shards: Path, tmp_path: Path) -> None:
    environment = os.environ | {
        "KERAS_BACKEND": backend,
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    }
    batch_size = {"tensorflow": 16, "jax": 20}[backend]  # XLA takes seconds for another size of the last batch
    content = toy(PLAIN, schedule="constant", batch_size=batch_size, weight_average=0.5).model_dump_json()
    command = [sys.executable, "-c", DEVICES, str(shards), str(tmp_path), content]
    run = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    report = json.loads(run.stdout.splitlines()[-1])
    assert [report[devices]["places"] for devices in "12"] == [1, 2]
    one, two = (report[devices]["metrics"] for devices in "12")
    for name in ("loss", "val_loss", "accuracy", "val_accuracy"):
        np.testing.assert_allclose(two[name], one[name], rtol=1e-4)
    assert (report["stages"], report["resumed_at"]) == ([2], [2])
    many, uneven = report["errors"]
    assert "training.devices: found 3, but this machine has 2" in many
    assert "training.batch_size: found 15, which 2 devices (training.devices) cannot share equally" in uneven


def normalised(fused: bool, dtype: str, training: bool = True) -> tuple[keras.layers.Layer, list[np.ndarray[Any, Any]]]:
    """A batch norm after one step on uneven maps: output and gradients."""
    random = np.random.default_rng(1)
    image = keras.Input((5, 3, 2))
    layer = keras.layers.BatchNormalization(momentum=0.6, epsilon=0.01, dtype=dtype)
    model = keras.Model(image, layer(image))
    layer.gamma.assign([1.5, 0.5])
    layer.beta.assign([0.3, -0.2])
    if fused:
        fuse_batch_norm(keras.Sequential([keras.Input((5, 3, 2)), model]))  # it is found inside another model
    x = tf.constant(random.normal(3, [2, 4], (4, 5, 3, 2)), tf.float32)
    towards = random.normal(size=(4, 5, 3, 2))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = model(x, training=training)
        loss = tf.reduce_sum(tf.cast(y, tf.float32) * towards)
    gradients = tape.gradient(loss, [x, *model.trainable_variables])
    return layer, [np.array(tf.cast(value, tf.float32)) for value in (y, *gradients)]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("mixed_bfloat16", 0.02)])
@pytest.mark.parametrize("training", [True, False])
def test_fused_batch_norm_does_what_that_of_keras_does(dtype: str, tolerance: float, training: bool) -> None:
    plain, expected = normalised(False, dtype, training)
    fused, found = normalised(True, dtype, training)
    assert "fused" in repr(fused.call)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=tolerance * np.abs(other).max())
    for one, other in zip(fused.weights, plain.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance)


def test_only_batch_norm_that_is_one_operation_in_tensorflow_is_fused() -> None:
    norm = keras.layers.BatchNormalization
    others = [norm(scale=False), norm(renorm=True), norm(synchronized=True), norm(axis=1), norm(dtype="mixed_float16")]
    model = keras.Sequential([keras.Input((4, 4, 2)), *others, keras.layers.Flatten(), norm()])
    fuse_batch_norm(model)
    assert [layer.name for layer in model.layers if "fused" in repr(layer.call)] == []
