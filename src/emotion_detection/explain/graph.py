"""explain.onnx: Grad-CAM or attention rollout of a trained model as a graph, where it can be one.

    image uint8 (N, S, S, C), target int64 (N,) -> heatmap float32 (N, S, S), 0 to 1

Gradients do not convert to ONNX in general. But the weights of Grad-CAM are sums over the cells of a map, and between
the last feature map and a head's first dense layer all pooling leaves such sums as they are. What is left is a chain of
dense layers, batch norm and ReLU, written out backwards here. Whatever else a head has, and whatever does not agree
with Keras's own gradients on real images, has no explain.onnx: the log says why, and occlusion takes its place.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from emotion_detection.backend import keras, tf
from emotion_detection.bundle import HEAT_NAME, INPUT_NAME, TARGET_NAME, Explanation
from emotion_detection.conversion import open_graph, to_onnx
from emotion_detection.errors import ExportError
from emotion_detection.explain.heatmaps import Images
from emotion_detection.explain.layers import Tensor, producer
from emotion_detection.explain.methods import GradCam, Rollout, explainer

MAX_DIFFERENCE = 1e-3
"""Largest difference of any pixel between explain.onnx and Keras."""
COMPARED = 32
"""Images on which the two are compared, each for two classes."""

layers, ops = keras.layers, keras.ops
_SUM_KEPT = (  # what these do to a map's channel leaves the sum of its gradients over the cells as it is
    layers.Dropout,
    layers.SpatialDropout2D,
    layers.MaxPooling2D,
    layers.AveragePooling2D,
    layers.GlobalAveragePooling2D,
    layers.GlobalMaxPooling2D,
)


def write_explanation(path: Path, model: keras.Model, images: Images, opset: int) -> Explanation | None:
    """Write the graph that explains a model, if it can be one and agrees with Keras.

    Args:
        path: of the file; there is none afterwards where there is no explanation.
        images: uint8 (N, S, S, C), real ones, N > 0.

    Returns:
        What was written, or none; the log says why there is none.
    """
    explain = explainer(model)
    if explain is None:
        _fall_back(model, "it has neither a last feature map nor attention layers")
        return None
    try:
        path.write_bytes(convert(explain, model, opset).SerializeToString(deterministic=True))
        check(path, explain, model, images[:COMPARED])
    except ExportError as error:
        path.unlink(missing_ok=True)
        _fall_back(model, str(error))
        return None
    return Explanation(method=explain.method, layer=explain.layer)


def convert(explain: GradCam | Rollout, model: keras.Model, opset: int) -> onnx.ModelProto:
    """Build the graph; equal models give equal bytes.

    Raises:
        ExportError: the model's head has a layer that is not known here, or tf2onnx cannot convert it.
    """
    signature = [
        tf.TensorSpec(model.input_shape, tf.uint8, name=INPUT_NAME),
        tf.TensorSpec([None], tf.int64, name=TARGET_NAME),
    ]

    def serve(image: Any, target: Any) -> dict[str, Any]:
        if isinstance(explain, Rollout):
            return {HEAT_NAME: explain.heat(image)}
        features = explain.features(image, training=False)
        return {HEAT_NAME: explain.heat(features, channel_weights(explain.chain, features, target))}

    graph = to_onnx(serve, signature, opset)
    if TARGET_NAME not in {value.name for value in graph.graph.input}:  # rollout does not use it
        graph.graph.input.append(onnx.helper.make_tensor_value_info(TARGET_NAME, onnx.TensorProto.INT64, ["N"]))
    graph.graph.name = explain.method
    for dimension, side in zip(
        graph.graph.output[0].type.tensor_type.shape.dim[1:], model.input_shape[1:3], strict=True
    ):
        dimension.dim_value = side
    return graph


def channel_weights(chain: list[Tensor], features: Tensor, target: Tensor) -> Tensor:
    """Mean over the cells of the derivative of each image's target logit: (N, K).

    Args:
        chain: as `head_chain` gives it.
        features: float (N, h, w, K), values of the first of the chain.
        target: int (N,).

    Raises:
        ExportError: a layer of the chain is not known here.
    """
    head, values = [producer(tensor)[0] for tensor in chain[1:]], [features]
    for layer in head:
        values.append(layer(values[-1]))
    gradient = ops.one_hot(target, values[-1].shape[-1], dtype="float32")
    for layer, source, result in reversed(list(zip(head, values, values[1:], strict=False))):
        gradient = _backwards(layer, source, result, gradient)
    return gradient / (features.shape[1] * features.shape[2])


def check(path: Path, explain: GradCam | Rollout, model: keras.Model, images: Images) -> float:
    """Compare the graph with Keras, for the model's answers and for another class.

    Returns:
        Largest difference of any pixel.

    Raises:
        ExportError: the graph is invalid, cannot be run, or differs by more than `MAX_DIFFERENCE`.
    """
    answers = ops.convert_to_numpy(model(images, training=False)).argmax(axis=1).astype(np.int64)
    twice = np.concatenate([images, images])
    targets = np.concatenate([answers, (answers + 1) % model.output_shape[-1]])
    expected = explain(twice, targets)
    session = open_graph(path)
    try:
        (found,) = session.run([HEAT_NAME], {INPUT_NAME: twice, TARGET_NAME: targets})
        (single,) = session.run([HEAT_NAME], {INPUT_NAME: twice[:1], TARGET_NAME: targets[:1]})
    except Exception as error:  # ONNX Runtime's errors have no common base
        raise ExportError(f"{path.name}: ONNX Runtime cannot run it: {error}") from error
    if found.shape != expected.shape or found.dtype != np.float32:
        raise ExportError(f"{path.name}: gives {found.dtype} {found.shape}, expected float32 {expected.shape}")
    difference = float(max(np.abs(found - expected).max(), np.abs(single - expected[:1]).max()))
    if not difference <= MAX_DIFFERENCE:  # a NaN is not below anything
        raise ExportError(f"{path.name}: differs from Keras by up to {difference:.2g}, allowed is {MAX_DIFFERENCE:g}")
    return difference


def _backwards(layer: Any, source: Tensor, result: Tensor, gradient: Tensor) -> Tensor:
    """Derivative by a layer's input from that by its output; of maps, summed over the cells: (N, K)."""
    if isinstance(layer, _SUM_KEPT) and not getattr(layer, "keepdims", False):
        return gradient
    if isinstance(layer, layers.Flatten) and len(source.shape) == 4:
        return ops.sum(ops.reshape(gradient, (-1, *source.shape[1:])), axis=(1, 2))
    if isinstance(layer, layers.BatchNormalization):
        scale = ops.rsqrt(layer.moving_variance + layer.epsilon)
        return gradient * (scale * layer.gamma if layer.scale else scale)
    if len(result.shape) != 2:
        raise ExportError(f"layer {layer.name} ({type(layer).__name__}) between feature map and head is not known here")
    if isinstance(layer, layers.Dense):
        gradient = _through(layer, result, gradient)
        # Not gradient @ kernel.T: so the kernel stands in the graph once, and not transposed a second time.
        return ops.transpose(ops.matmul(layer.kernel, ops.transpose(gradient)))
    if isinstance(layer, layers.ReLU) and not layer.negative_slope and not layer.threshold:
        top = float("inf") if layer.max_value is None else layer.max_value
        return ops.where(ops.logical_and(result > 0, result < top), gradient, 0.0)
    if isinstance(layer, layers.Activation):
        return _through(layer, result, gradient)
    raise ExportError(f"layer {layer.name} ({type(layer).__name__}) of the head is not known here")


def _through(layer: Any, result: Tensor, gradient: Tensor) -> Tensor:
    """Derivative by the input of a layer's activation."""
    if layer.activation is keras.activations.linear:
        return gradient
    if layer.activation is keras.activations.relu:
        return ops.where(result > 0, gradient, 0.0)
    raise ExportError(f"activation {layer.activation.__name__} of layer {layer.name} is not known here")


def _fall_back(model: keras.Model, reason: str) -> None:
    message = "model %s: no explain.onnx, it will be explained by occlusion: %s"
    logging.getLogger(__name__).warning(message, model.name, reason)
