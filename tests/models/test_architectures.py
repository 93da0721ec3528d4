"""What every architecture must do, whatever it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_detection.backend import keras
from emotion_detection.errors import ArtifactError, ParamsError
from emotion_detection.models import (
    InputSpec,
    architectures,
    build_model,
    check_hyperparameters,
    hyperparameter_schema,
    load_model,
)
from emotion_detection.params import ModelParams

ROOT = Path(__file__).parents[2]
GREY = InputSpec(image_size=48, channels=1, classes=7)
SMALL = {
    "lenet": {"filters": [4, 4], "dense": [8]},
    "emotion_cnn": {"filters": [4, 4, 8, 8], "dense": 8, "dropout": 0.0, "dense_dropout": 0.0},
    "vit": {"patch_size": 16, "dim": 16, "depth": 1, "heads": 2, "dropout": 0.0},
    "mini_xception": {"stem": 4, "filters": [8, 8]},
    "mobilenet_v2": {"weights": "none", "alpha": 0.1, "min_size": 32, "dropout": 0.0},
    "resnet34": {"filters": [4, 4, 8, 8]},
    "resnet50": {"weights": "none", "min_size": 32},
    "efficientnet_b4": {"weights": "none", "variant": "b0", "min_size": 32, "dense": [8, 8]},
    "vgg16": {"dense": 8},
    "vgg_small": {"filters": [4, 8], "dropout": 0.0, "head_dropout": 0.0},
    "se_resnet": {"stem": 4, "filters": [8, 16], "blocks": [1, 2], "head_dropout": 0.0},
}
LARGE = {"resnet50", "efficientnet_b4", "vgg16"}  # Keras's applications, which have no smaller form
SPECS = (GREY, InputSpec(image_size=256, channels=3, classes=3), InputSpec(image_size=64, channels=3, classes=7))

each_architecture = pytest.mark.parametrize("architecture", sorted(SMALL))


def images(spec: InputSpec, count: int = 3) -> NDArray[np.uint8]:
    shape = (count, spec.image_size, spec.image_size, spec.channels)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_all_architectures_are_tested() -> None:
    assert architectures() == sorted(SMALL)


@pytest.mark.parametrize(
    ("architecture", "spec"),
    [(name, spec) for name in sorted(SMALL) for spec in (SPECS[2:] if name in LARGE else SPECS)],
    ids=str,
)
def test_gives_logits_for_raw_images_and_survives_saving(architecture: str, spec: InputSpec, tmp_path: Path) -> None:
    model = build_model(architecture, spec, SMALL[architecture])
    assert [(tensor.name, tensor.dtype) for tensor in model.inputs] == [("image", "uint8")]
    logits = np.asarray(model(images(spec), training=False))
    assert logits.shape == (3, spec.classes)
    assert np.isfinite(logits).all()
    assert not np.allclose(np.sum(logits, axis=1), 1)  # logits, not probabilities
    model.save(tmp_path / "model.keras")
    loaded = load_model(architecture, tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images(spec), training=False), logits)


@pytest.mark.parametrize(
    ("architecture", "parameters"),
    [
        ("lenet", 162_655),
        ("emotion_cnn", 2_349_639),
        ("vit", 459_463),
        ("mini_xception", 58_423),
        ("vgg_small", 1_176_359),
        ("se_resnet", 2_807_703),
    ],
)
def test_default_size(architecture: str, parameters: int) -> None:
    assert build_model(architecture, GREY, {}).count_params() == parameters


@pytest.mark.parametrize("architecture", sorted(SMALL.keys() - LARGE))
def test_learns_something_simple(architecture: str) -> None:
    keras.utils.set_random_seed(0)
    labels = np.arange(48) % 2
    pixels = images(InputSpec(48, 1, 2), 48) // 4
    pixels[labels == 1, 12:36] += 100
    model = build_model(architecture, InputSpec(48, 1, 2), SMALL[architecture])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.005), loss, jit_compile=False)
    before = float(loss(labels, model(pixels)))
    after = model.fit(pixels, labels, batch_size=8, epochs=10, verbose=0).history["loss"][-1]
    assert after < 0.35 < before  # guessing gives log 2 = 0.69
    if architecture == "mobilenet_v2":  # with Keras's own momentum, batch norm's averages would be those of the start
        assert float(loss(labels, model(pixels))) < 0.5


def test_typo_in_a_hyperparameter_names_the_key_and_what_is_allowed() -> None:
    with pytest.raises(ParamsError, match=r"^models\.mine\.dpeth: unknown key; allowed here: patch_size, dim, depth"):
        check_hyperparameters("mine", ModelParams(architecture="vit", dpeth=3))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"depth": "3"}, r"models\.mine\.depth: found '3'; input should be a valid integer"),
        ({"depth": 0}, r"models\.mine\.depth: found 0; input should be greater than or equal to 1"),
        ({"dropout": 1.0}, r"models\.mine\.dropout: found 1\.0; input should be less than 1"),
    ],
)
def test_wrong_hyperparameter_names_what_was_found(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        check_hyperparameters("mine", ModelParams(architecture="vit", **wrong))


def test_checked_hyperparameters_are_complete() -> None:
    checked = check_hyperparameters("mine", ModelParams(architecture="lenet", filters=[3, 5]))
    assert checked["filters"] == (3, 5)
    assert checked["kernel_size"] == 3


def test_unknown_architecture_lists_those_there_are() -> None:
    with pytest.raises(
        ParamsError,
        match=r"models\.mine\.architecture: found 'vgg'; there is efficientnet_b4, emotion_cnn, .*vit",
    ):
        check_hyperparameters("mine", ModelParams(architecture="vgg"))


@pytest.mark.parametrize(
    ("architecture", "size", "hyperparameters", "reason"),
    [
        ("vit", 50, {}, "patch_size 6 does not divide the image size 50"),
        ("vit", 48, {"heads": 5}, "heads 5 does not divide dim 96"),
        ("emotion_cnn", 8, {}, "zero or negative"),
        ("lenet", 8, {"filters": [2, 2, 2]}, "[Nn]egative"),
    ],
)
def test_size_that_an_architecture_cannot_take(
    architecture: str, size: int, hyperparameters: dict[str, object], reason: str
) -> None:
    with pytest.raises(ParamsError, match=rf"{architecture} cannot be built for {size} x {size} images.*{reason}"):
        build_model(architecture, InputSpec(size, 1, 7), hyperparameters)


@each_architecture
def test_schema_has_every_hyperparameter_with_its_default(architecture: str) -> None:
    schema = hyperparameter_schema(architecture)
    assert set(SMALL[architecture]) <= set(schema["properties"])
    assert all("default" in entry for entry in schema["properties"].values())
    assert schema["additionalProperties"] is False


def test_missing_model_file_is_a_readable_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"model\.keras: cannot be loaded"):
        load_model("lenet", tmp_path / "model.keras")


def test_vit_tokens_know_their_place() -> None:
    model = build_model("vit", GREY, {"patch_size": 24, "depth": 1, "dim": 16, "heads": 2})
    image = images(GREY, 1)
    swapped = np.concatenate([image[:, 24:], image[:, :24]], axis=1)
    assert not np.allclose(model(image, training=False), model(swapped, training=False))


def test_exact_gelu() -> None:
    from emotion_detection.models.vit import gelu

    x = np.linspace(-4, 4, 9, dtype=np.float32)
    np.testing.assert_allclose(gelu(x), keras.ops.gelu(x, approximate=False), atol=1e-6)


JAX_TRAINS = """
import numpy as np
from emotion_detection.backend import keras
from emotion_detection.models import InputSpec, build_model

assert keras.backend.backend() == "jax"
for architecture, hyperparameters in {small}.items():
    model = build_model(architecture, InputSpec(48, 1, 3), hyperparameters)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images, labels = np.zeros((8, 48, 48, 1), np.uint8), np.arange(8) % 3
    losses = model.fit(images, labels, epochs=2, verbose=0).history["loss"]
    assert np.isfinite(losses).all(), losses
"""


def test_trains_on_another_backend() -> None:
    """And lenet: pipeline/test_other_backend.py."""
    environment = os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT / "src")}
    some = {name: SMALL[name] for name in ("emotion_cnn", "vit")}  # XLA compiles the others for minutes
    script = JAX_TRAINS.replace("{small}", repr(some))
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)
