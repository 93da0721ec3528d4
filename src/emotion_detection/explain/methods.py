"""Grad-CAM, attention rollout and feature maps of a Keras model.

    explain = explainer(model)                  # GradCam or Rollout, or none where neither fits
    heat = explain(images, targets)             # float32 (N, S, S), 0 to 1
    for name, maps in feature_maps(model, image).items(): ...

The parts that are tensors in, tensors out (`heat`, `rollout`) are also what explain.onnx is made from.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotion_detection.backend import keras, tf
from emotion_detection.errors import ExplanationError
from emotion_detection.explain.heatmaps import BATCH_SIZE, Heat, Images, Method, Targets
from emotion_detection.explain.layers import (
    Tensor,
    attention_layers,
    block_maps,
    head_chain,
    patch_map,
    placement,
    producer,
)

ops = keras.ops


class GradCam:
    """Where the last feature map of a CNN speaks for a class.

    R. R. Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based localization" (2017):
    ReLU(sum over k of a_k A_k), where A_k is channel k of the map, and a_k the mean over its cells of the derivative of
    the class's logit.

    Raises:
        ExplanationError: there is no feature map that all of the head is computed from.
    """

    method: Method = "grad_cam"

    def __init__(self, model: keras.Model) -> None:
        self.chain = head_chain(model)
        if not self.chain:
            raise ExplanationError(f"model {model.name} has no last feature map for Grad-CAM; use rollout or occlusion")
        self.layer = str(producer(self.chain[0])[0].name)
        self.features = keras.Model(model.input, self.chain[0])
        self.head = keras.Model(self.chain[0], model.output)
        self._rows, self._columns = placement(self.chain[0])

    def __call__(self, images: Images, targets: Targets) -> Heat:
        """Explain classes `targets` (N,) of uint8 (N, S, S, C); float32 (N, S, S) in [0, 1]."""
        return _in_batches(self._batch, images, targets)

    def _batch(self, images: Images, targets: Targets) -> Tensor:
        features = self.features(images, training=False)
        return self.heat(features, ops.mean(gradient(self.head, features, targets), axis=(1, 2)))

    def heat(self, features: Tensor, weights: Tensor) -> Tensor:
        """Heat maps (N, S, S) from features (N, h, w, K) and the weight of each channel (N, K)."""
        cells = ops.sum(ops.cast(features, "float32") * weights[:, None, None, :], axis=-1)
        return _to_unit(_placed(ops.relu(cells), self._rows, self._columns))


class Rollout:
    """Which patches a ViT's class token attends to, through all blocks.

    S. Abnar & W. Zuidema, "Quantifying attention flow in transformers" (2020): the product over the blocks of
    (A + I) / 2, where A (tokens, tokens) is the mean of the heads' attention and I stands for the residual path. It
    says what is looked at, for whatever class.

    Raises:
        ExplanationError: the model has no attention layers, or other tokens than a class token and the patches.
    """

    method: Method = "attention_rollout"

    def __init__(self, model: keras.Model) -> None:
        self.attention = attention_layers(model)
        if not self.attention:
            raise ExplanationError(f"model {model.name} has no attention layers to roll out; use grad_cam or occlusion")
        sources = [producer(layer.output)[1][0] for layer in self.attention]
        patches = patch_map(model)
        self._grid = tuple(patches.shape[1:3])
        if sources[0].shape[1] != 1 + self._grid[0] * self._grid[1]:
            tokens = f"{sources[0].shape[1]} tokens for {self._grid} patches"
            raise ExplanationError(f"model {model.name} has {tokens}, expected one more; use occlusion")
        self.layer = str(self.attention[-1].name)
        self.tokens = keras.Model(
            model.input, {layer.name: x for layer, x in zip(self.attention, sources, strict=True)}
        )
        self._rows, self._columns = placement(patches)

    def __call__(self, images: Images, targets: Targets | None = None) -> Heat:
        """Explain uint8 (N, S, S, C), whatever the class; float32 (N, S, S) in [0, 1]."""
        return _in_batches(lambda batch, _: self.heat(batch), images, targets)

    def heat(self, images: Tensor) -> Tensor:
        """Heat maps (N, S, S) of uint8 (N, S, S, C)."""
        joint = self.rollout(ops.convert_to_tensor(images))
        cells = ops.reshape(joint[:, 0, 1:], (-1, *self._grid))
        return _to_unit(_placed(cells, self._rows, self._columns))

    def rollout(self, images: Tensor) -> Tensor:
        """How much each token holds of each at the start: (N, tokens, tokens), rows sum to 1."""
        joint, tokens = None, self.tokens(images, training=False)
        for layer in self.attention:
            x = tokens[layer.name]
            _, scores = layer(x, x, return_attention_scores=True, training=False)
            mixed = (ops.mean(ops.cast(scores, "float32"), axis=1) + ops.eye(scores.shape[-1])) / 2
            joint = mixed if joint is None else ops.matmul(mixed, joint)
        return joint


def explainer(model: keras.Model) -> GradCam | Rollout | None:
    """The method that looks into a model: attention rollout for a ViT, Grad-CAM for a CNN, else none."""
    for kind in (Rollout, GradCam):
        try:
            return kind(model)
        except ExplanationError:
            continue
    return None


def feature_maps(model: keras.Model, image: Images) -> dict[str, NDArray[np.float32]]:
    """What each block of convolutions gives for one image.

    Args:
        image: uint8 (S, S, C).

    Returns:
        float32 (h, w, K) by name of the block's last layer, first block first; empty where a model has none.
    """
    chain = head_chain(model)
    if not chain:
        return {}
    tensors = {str(producer(tensor)[0].name): tensor for tensor in block_maps(chain[0])}
    found = keras.Model(model.input, tensors)(image[np.newaxis], training=False)
    return {name: _numpy(found[name])[0] for name in tensors}


def gradient(head: keras.Model, features: Tensor, targets: Targets) -> Tensor:
    """Derivative of logit `targets[n]` of image n by its features: (N, h, w, K)."""

    def score(features: Tensor) -> Tensor:
        logits = ops.cast(head(features, training=False), "float32")
        return ops.sum(logits * ops.one_hot(targets, logits.shape[-1]))

    if keras.backend.backend() == "jax":
        import jax  # noqa: PLC0415  only there where it is the backend

        return jax.grad(score)(features)
    with tf.GradientTape() as tape:
        tape.watch(features)
        total = score(features)
    return tape.gradient(total, features)


def _placed(cells: Tensor, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> Tensor:
    spread = ops.matmul(ops.convert_to_tensor(rows, "float32"), cells)
    return ops.matmul(spread, ops.convert_to_tensor(columns.T, "float32"))


def _to_unit(heat: Tensor) -> Tensor:
    top = ops.max(heat, axis=(1, 2), keepdims=True)
    return heat / ops.where(top > 0, top, ops.ones_like(top))


def _in_batches(explain: Any, images: Images, targets: Targets | None) -> Heat:
    classes = np.zeros(len(images), np.int64) if targets is None else np.asarray(targets)
    starts = [slice(start, start + BATCH_SIZE) for start in range(0, len(images), BATCH_SIZE)]
    return np.concatenate([_numpy(explain(images[part], classes[part])) for part in starts])


def _numpy(tensor: Tensor) -> NDArray[np.float32]:
    return np.asarray(ops.convert_to_numpy(tensor), np.float32)
