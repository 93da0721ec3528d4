"""Grad-CAM and attention rollout against their definitions, against what is drawn, and against random weights."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import rankdata

from benchmarks.pointing_game import explained, score
from emotion_detection.backend import keras, tf
from emotion_detection.errors import ExplanationError
from emotion_detection.explain.heatmaps import normalised
from emotion_detection.explain.layers import head_chain, placement
from emotion_detection.explain.methods import GradCam, Rollout, explainer, feature_maps
from emotion_detection.models import InputSpec, build_model
from tests.explain.conftest import random_network

ROOT = Path(__file__).parents[2]
layers = keras.layers


def noise(count: int, size: int = 48) -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=(count, size, size, 1), dtype=np.uint8)


def quadrants() -> keras.Model:
    """8 x 8 images; class 0 likes light everywhere, class 1 likes dark, by a map of 2 x 2 cells and its negative."""
    image = keras.Input((8, 8, 1), dtype="uint8", name="image")
    x = layers.Conv2D(2, 4, strides=4, activation="relu", name="cells")(layers.Rescaling(1 / 255)(image))
    logits = layers.Dense(2, name="logits")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, logits, name="quadrants")
    light = np.full((4, 4, 1, 1), 1 / 16)
    model.get_layer("cells").set_weights([np.concatenate([light, -light], axis=3), np.array([0.0, 1.0])])
    model.get_layer("logits").set_weights([np.eye(2), np.zeros(2)])
    return model


def test_grad_cam_of_a_model_that_can_be_worked_out_by_hand():
    image = np.zeros((1, 8, 8, 1), np.uint8)
    image[0, :4, 4:] = 255
    light, dark = GradCam(quadrants())(np.repeat(image, 2, axis=0), np.array([0, 1]))
    row, column = np.unravel_index(light.argmax(), light.shape)
    assert row < 4 <= column
    assert light[6, 1] == 0
    assert dark[1, 6] < 0.3
    np.testing.assert_allclose([dark[6, 1], dark[6, 6], dark[1, 1]], [1, 1, 1], atol=0.35)


def test_grad_cam_is_its_formula():
    model, targets = build_model("lenet", InputSpec(48, 1, 5), {"dense": ()}), np.array([0, 4, 2])
    explain = GradCam(model)
    features = np.asarray(explain.features(noise(3)))
    before, found = np.asarray(explain.head(features)), []
    for channel in np.eye(features.shape[-1]):  # this head is linear along each whole channel
        found.append((np.asarray(explain.head(features + channel)) - before)[range(3), targets])
    cells = np.maximum((features * np.stack(found, axis=1)[:, None, None]).sum(axis=-1), 0)
    rows, columns = placement(head_chain(model)[0])
    expected = normalised(rows @ cells @ columns.T)
    np.testing.assert_allclose(explain(noise(3), targets), expected, atol=1e-3)
    assert (expected.max(axis=(1, 2)) == 1).sum() >= 2


def test_classes_have_maps_of_their_own(trained, unseen):
    images = unseen.images[:8]
    maps = [GradCam(trained("lenet"))(images, np.full(8, target)) for target in (0, 3)]
    assert np.abs(maps[0] - maps[1]).mean() > 0.05


def test_a_map_does_not_depend_on_its_batch(trained, unseen):
    for architecture in ("lenet", "vit"):
        explain, targets = explainer(trained(architecture)), np.arange(70) % 7
        whole = explain(unseen.images[:70], targets)  # two batches
        np.testing.assert_allclose(whole[64:66], explain(unseen.images[64:66], targets[64:66]), atol=1e-3)


def test_rollout_of_equal_attention_is_equal_everywhere():
    model = build_model("vit", InputSpec(48, 1, 3), {"patch_size": 8, "dim": 8, "depth": 3, "heads": 2})
    for layer in model.layers:
        if isinstance(layer, layers.MultiHeadAttention):
            layer.set_weights([np.zeros_like(values) for values in layer.get_weights()])
    tokens, explain = 37, Rollout(model)
    joint = np.asarray(explain.rollout(tf.constant(noise(1))))[0]
    once = (np.full((tokens, tokens), 1 / tokens) + np.eye(tokens)) / 2
    np.testing.assert_allclose(joint, once @ once @ once, atol=1e-6)
    heat = explain(noise(1))[0]
    assert heat[4:-4, 4:-4].min() == pytest.approx(1, abs=1e-5)


def test_rollout_multiplies_the_attention_that_the_model_pays():
    keras.utils.set_random_seed(3)
    model = build_model("vit", InputSpec(48, 1, 3), {"patch_size": 12, "dim": 8, "depth": 2, "heads": 2})
    images, joint = noise(2), np.eye(17)
    for block in range(2):
        source = model.get_layer(f"block{block}_norm1").output
        tokens = np.asarray(keras.Model(model.input, source)(images))
        layer = model.get_layer(f"block{block}_attention")
        layer._query_dense.kernel.assign(4 * layer._query_dense.kernel)  # sharper than at the start of a training
        query, key = (
            np.einsum("ntd,dhk->nhtk", tokens, np.asarray(part.kernel)) + np.asarray(part.bias)[:, None]
            for part in (layer._query_dense, layer._key_dense)
        )
        scores = np.exp(np.einsum("nhqk,nhtk->nhqt", query, key) / np.sqrt(query.shape[-1]))
        joint = (scores / scores.sum(axis=-1, keepdims=True)).mean(axis=1) / 2 @ joint + joint / 2
    found = np.asarray(Rollout(model).rollout(tf.constant(images)))
    np.testing.assert_allclose(found, joint, atol=1e-4)
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)
    assert joint[:, 0, 1:].std() > 1e-3  # and not alike everywhere, which would show nothing


def test_what_does_not_fit_is_said():
    vit = build_model("vit", InputSpec(48, 1, 3), {"patch_size": 12, "dim": 8, "depth": 1, "heads": 2})
    with pytest.raises(ExplanationError, match="no last feature map"):
        GradCam(vit)
    with pytest.raises(ExplanationError, match="no attention layers"):
        Rollout(quadrants())
    image = keras.Input((8, 8, 1), name="image")
    dense = keras.Model(image, layers.Dense(3)(layers.Flatten()(image)))
    assert explainer(dense) is None
    assert feature_maps(vit, noise(1)[0]) == {}


def test_feature_maps_are_what_the_layers_give():
    model, image = quadrants(), noise(1, 8)[0]
    (maps,) = feature_maps(model, image).values()
    mean = image.reshape(2, 4, 2, 4).mean(axis=(1, 3)) / 255
    np.testing.assert_allclose(maps, np.stack([mean, 1 - mean], axis=2), atol=1e-5)


def test_on_drawn_faces_brows_eyes_and_mouth_matter_more_than_the_background(trained, unseen):
    """Pointing game of Zhang et al. (2018). Seen with three seeds: 0.45 or more of the maps hit, chance is 0.22."""
    for method, factor in (("inside", 1.25), ("occlusion", 2)):
        _, heat = explained(trained("lenet"), unseen.images, method)
        features, background = (score(heat, unseen.masks[region]) for region in ("features", "background"))
        assert features.hits > 1.25 * features.chance, method
        assert features.heat > factor * features.area, method
        assert background.hits < background.chance, method
        assert background.heat < background.area / factor, method


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Mean absolute rank correlation of maps; one without any heat is only like another without."""
    pairs = [(a.ravel(), b.ravel()) for a, b in zip(first, second, strict=True)]
    return float(
        np.mean(
            [
                abs(np.corrcoef(rankdata(a), rankdata(b))[0, 1]) if a.any() and b.any() else a.any() == b.any()
                for a, b in pairs
            ]
        )
    )


@pytest.mark.parametrize("architecture", ["lenet", "vit"])
def test_a_model_with_random_weights_gives_another_map(architecture, trained, unseen):
    """Sanity check of J. Adebayo et al., "Sanity checks for saliency maps" (2018). Seen with three seeds: below 0.4."""
    model, images = trained(architecture), unseen.images[:40]
    answers = np.asarray(model(images)).argmax(axis=1)
    heat = explainer(model)(images, answers)
    copy = random_network(architecture, seed=1)
    other = explainer(copy)(images, answers)
    copy.set_weights(model.get_weights())
    assert correlation(heat, explainer(copy)(images, answers)) > 0.99
    assert correlation(heat, other) < 0.6


JAX = """
from tests.explain.test_methods import *
print(keras.backend.backend(), *sums_of_maps())
"""


def sums_of_maps() -> np.ndarray:
    model = build_model("lenet", InputSpec(16, 1, 3), {"filters": (4,), "dense": (8,)})
    random = np.random.default_rng(0)
    model.set_weights([random.uniform(0.1, 1, values.shape) for values in model.get_weights()])
    model.get_layer("logits").set_weights([random.uniform(-1, 1, (8, 3)), np.zeros(3)])
    return GradCam(model)(noise(4, 16), np.array([0, 1, 2, 0])).sum(axis=(1, 2))


def test_grad_cam_is_the_same_with_jax():
    environment = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}
    command = [sys.executable, "-c", JAX]
    result = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
    backend, *found = result.stdout.split()
    assert backend == "jax"
    np.testing.assert_allclose(np.array(found, float), sums_of_maps(), atol=0.1)
    assert max(map(float, found)) > 1
