"""The ViT from a checkpoint in Hugging Face's format: the same numbers as torch, and what is not accepted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_detection.artifacts import DatasetInfo
from emotion_detection.backend import keras
from emotion_detection.errors import ParamsError
from emotion_detection.models import InputSpec, backbone_layers, build_model, load_model
from emotion_detection.params import parse_params
from tests.checkpoints import LABELS, encoder_tensors, golden, golden_tensors, write_checkpoint

COLOUR = InputSpec(56, 3, 7, LABELS)
GREY = InputSpec(16, 1, 7, LABELS)
THEIRS = ("sadness", "Angry", "neutral", "surprised", "fear", "happiness", "disgust")
BAR = 1e-5


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("classifier"))


def hidden_states(model: keras.Model, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """As transformers gives them: after the embedding, after each block, and after the norm at the end."""
    blocks = sum(layer.name.endswith("_attention") for layer in model.layers)
    layers = [model.get_layer("embedding"), *(model.get_layer(f"block{block}_add2") for block in range(blocks))]
    states = keras.Model(model.input, [layer.output for layer in layers])(images, training=False)
    return {
        "hidden_states": np.stack([np.asarray(state) for state in states]),
        "last_hidden_state": np.asarray(model.get_layer("norm")(states[-1])),
        "logits": np.asarray(model(images, training=False)),
    }


def largest_difference(found: dict[str, Any], expected: dict[str, Any]) -> float:
    return max(float(np.abs(found[name] - value).max()) for name, value in expected.items())


@pytest.mark.parametrize("tensors", [golden_tensors(), encoder_tensors(), encoder_tensors(pooler=False)])
def test_hidden_states_are_those_of_torch(tensors: dict[str, Any], tmp_path: Path) -> None:
    arrays = golden()
    model = build_model("vit", COLOUR, {"weights": str(write_checkpoint(tmp_path, tensors))})
    found = hidden_states(model, arrays["images"])
    assert np.abs(arrays["hidden_states"]).max() > 1
    assert largest_difference(found, {name: arrays[name] for name in ("hidden_states", "last_hidden_state")}) < BAR


def test_positions_for_a_larger_input_are_those_of_torch(classifier: Path) -> None:
    arrays = golden()
    spec = InputSpec(72, 3, 7, LABELS)
    model = build_model("vit", spec, {"weights": str(classifier), "input_size": 72, "head": "checkpoint"})
    found = hidden_states(model, arrays["large_images"])
    expected = {name: arrays[f"large_{name}"] for name in ("hidden_states", "last_hidden_state")}
    assert largest_difference(found, expected) < BAR


def test_classifier_of_the_checkpoint_answers_in_the_order_of_the_data_set(classifier: Path) -> None:
    arrays = golden()
    model = build_model("vit", COLOUR, {"weights": str(classifier), "head": "checkpoint"})
    logits = np.asarray(model(arrays["images"], training=False))
    order = [1, 6, 4, 5, 2, 0, 3]  # angry, disgust, fear, happy, neutral, sad, surprise
    assert np.abs(logits - arrays["logits"][:, order]).max() < BAR


def test_small_grey_images_are_enlarged_and_repeated_in_the_graph(classifier: Path, tmp_path: Path) -> None:
    small = np.random.default_rng(3).integers(0, 256, (2, 16, 16, 1), dtype=np.uint8)
    keras.utils.clear_session()
    model = build_model("vit", GREY, {"weights": str(classifier), "head": "checkpoint"})
    large = bilinear(small.astype(np.float32), 56).repeat(3, axis=-1)
    scale, offset = model.get_layer("rescaling").scale, model.get_layer("rescaling").offset
    np.testing.assert_allclose(np.array(scale) * 255, 1 / np.array([0.23, 0.26, 0.28]))
    seen = keras.Model(model.input, model.get_layer("patches").input)(small)
    np.testing.assert_allclose(seen, large * scale + offset, atol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = load_model("vit", tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(small, training=False), model(small, training=False))


def bilinear(images: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Half-pixel bilinear enlargement of (N, S, S, C), written out."""
    place = np.clip((np.arange(size) + 0.5) * images.shape[1] / size - 0.5, 0, images.shape[1] - 1)
    low = np.floor(place).astype(int)
    high, share = np.minimum(low + 1, images.shape[1] - 1), (place - low).astype(np.float32)
    rows = images[:, low] * (1 - share)[:, None, None] + images[:, high] * share[:, None, None]
    return rows[:, :, low] * (1 - share)[:, None] + rows[:, :, high] * share[:, None]


def test_checkpoint_without_bias_of_query_key_and_value(tmp_path: Path) -> None:
    tensors = golden_tensors()
    without = {
        name: value for name, value in tensors.items() if ".attention.attention." not in name or "weight" in name
    }
    zeroed = {name: value if name in without else value * 0 for name, value in tensors.items()}
    write_checkpoint(tmp_path / "without", without, lambda config: config.update(qkv_bias=False))
    write_checkpoint(tmp_path / "zeroed", zeroed)
    images = golden()["images"]
    answers = [
        np.asarray(build_model("vit", COLOUR, {"weights": str(tmp_path / name), "head": "checkpoint"})(images))
        for name in ("without", "zeroed")
    ]
    np.testing.assert_array_equal(*answers)


@pytest.mark.parametrize(
    ("hyperparameters", "reason"),
    [
        ({"patch_size": 6}, "patch_size is 6, but 8 in the checkpoint; leave it out"),
        ({"depth": 6}, "depth is 6, but 2 in the checkpoint"),
        ({"mlp_ratio": 2}, "mlp_ratio is 2, but 1.66667 in the checkpoint"),
        ({"input_size": 50}, "patch_size 8 does not divide the image size 50"),
    ],
)
def test_hyperparameters_that_contradict_the_checkpoint(
    classifier: Path, hyperparameters: dict[str, int], reason: str
) -> None:
    with pytest.raises(ParamsError, match=reason):
        build_model("vit", COLOUR, {"weights": str(classifier), **hyperparameters})
    agreeing = {"patch_size": 8, "dim": 24, "depth": 2, "heads": 3, "dropout": 0.3}
    build_model("vit", COLOUR, {"weights": str(classifier), **agreeing})


@pytest.mark.parametrize("hyperparameters", [{"head": "checkpoint"}, {"unfrozen": 0}])
def test_what_needs_weights(hyperparameters: dict[str, Any]) -> None:
    with pytest.raises(ParamsError, match="head and unfrozen need weights"):
        build_model("vit", GREY, hyperparameters)


def test_activation_that_is_not_known_here(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, change=lambda config: config.update(hidden_act="quick_gelu"))
    with pytest.raises(ParamsError, match="activation quick_gelu is not known here; there is gelu"):
        build_model("vit", COLOUR, {"weights": str(tmp_path)})


@pytest.mark.parametrize(("unfrozen", "learning"), [(0, 0), (6, 6), ("all", 13)])
def test_training_changes_what_is_unfrozen_and_nothing_else(
    classifier: Path, unfrozen: int | str, learning: int
) -> None:
    keras.utils.set_random_seed(0)
    model = build_model("vit", GREY, {"weights": str(classifier), "unfrozen": unfrozen})
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    layers = backbone_layers(model)
    before = {
        layer.name: [np.array(weight) for weight in layer.weights] for layer in [*layers, model.get_layer("logits")]
    }
    images = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 1), dtype=np.uint8)
    model.fit(images, np.arange(16) % 7, epochs=2, verbose=0)

    def changed(name: str) -> bool:
        pairs = zip(before[name], model.get_layer(name).weights, strict=True)
        return any((old != np.array(new)).any() for old, new in pairs)

    assert changed("logits")
    assert [changed(layer.name) for layer in layers] == [False] * (len(layers) - learning) + [True] * learning


def test_training_gets_the_labels_to_the_head(classifier: Path) -> None:
    from emotion_detection.training import build

    entry = {"architecture": "vit", "weights": str(classifier), "head": "checkpoint"}
    params = parse_params({"models": {"theirs": entry}})
    counts = {split: dict.fromkeys(LABELS, 3) for split in ("train", "val", "test")}
    info = DatasetInfo(
        labels=LABELS,
        image_size=16,
        channels=1,
        counts=counts,
        class_weights=dict.fromkeys(LABELS, 1.0),
        reference_shares=dict.fromkeys(LABELS, 1 / 7),
        files={},
        data_hash="0",
    )
    bias = build("theirs", params, info).get_layer("logits").weights[1]
    np.testing.assert_array_equal(np.array(bias)[0], golden_tensors()["classifier.bias"][THEIRS.index("Angry")])


@pytest.mark.parametrize("kind", ["ViTModel", "ViTForImageClassification"])
@pytest.mark.parametrize("changes", [{}, {"qkv_bias": False}, {"hidden_act": "gelu_new"}], ids=str)
def test_live_torch_gives_the_same(kind: str, changes: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed; the golden test stands for it")
    from tests.golden.make_vit import PROCESSOR, answers, random_images, random_model

    reference = random_model(kind, **changes)
    reference.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    head = "checkpoint" if kind == "ViTForImageClassification" else "new"
    spec = InputSpec(56, 3, 7, THEIRS)
    model = build_model("vit", spec, {"weights": str(tmp_path), "head": head})
    images = random_images(2, 56)
    assert largest_difference(hidden_states(model, images), answers(reference, images)) < BAR
