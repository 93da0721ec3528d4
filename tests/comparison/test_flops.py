"""Operations of small graphs against counts by hand, and of a standard network against its paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from emotion_detection.comparison.flops import flops

SIDE = 8


def graph(path: Path, *nodes: onnx.NodeProto, **weights: Sequence[int]) -> Path:
    """image uint8 (N, 8, 8, 1) -> float32 "pixels" of the same shape -> the nodes, which give "out"."""
    cast = helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT)
    made = helper.make_graph(
        [cast, *nodes],
        "counted",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIDE, SIDE, 1])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in weights.items()],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def node(kind: str, *inputs: str, out: str = "out", **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, list(inputs), [out], **attributes)


FIRST = node("Transpose", "pixels", perm=[0, 3, 1, 2], out="x")
PAD = {"pads": [1, 1, 1, 1]}


def test_a_convolution(tmp_path: Path) -> None:
    path = graph(tmp_path / "m.onnx", FIRST, node("Conv", "x", "w", **PAD), w=(4, 1, 3, 3))
    assert flops(path) == 2 * (SIDE * SIDE * 4) * (1 * 3 * 3)


def test_strides_and_groups(tmp_path: Path) -> None:
    widen = node("Conv", "x", "w", out="y", strides=[2, 2], **PAD)
    depthwise = node("Conv", "y", "v", group=6, **PAD)
    path = graph(tmp_path / "m.onnx", FIRST, widen, depthwise, w=(6, 1, 3, 3), v=(6, 1, 3, 3))
    assert flops(path) == 2 * (4 * 4 * 6) * 9 + 2 * (4 * 4 * 6) * 9


def test_a_transposed_convolution(tmp_path: Path) -> None:
    path = graph(tmp_path / "m.onnx", FIRST, node("ConvTranspose", "x", "w", strides=[2, 2]), w=(1, 5, 2, 2))
    assert flops(path) == 2 * (SIDE * SIDE * 1) * (5 * 2 * 2)


@pytest.mark.parametrize("transposed", [False, True])
def test_a_dense_layer(tmp_path: Path, transposed: bool) -> None:
    flat = node("Flatten", "pixels", axis=1, out="x")
    rows = [flat, node("Transpose", "x", out="t")] if transposed else [flat]
    gemm = node("Gemm", "t" if transposed else "x", "w", "b", transA=int(transposed))
    assert flops(graph(tmp_path / "m.onnx", *rows, gemm, w=(64, 10), b=(10,))) == 2 * 64 * 10


def test_products_of_activations_as_in_attention(tmp_path: Path) -> None:
    tokens = node("Squeeze", "pixels", "axis", out="x")  # (1, 8, 8)
    turned = node("Transpose", "x", perm=[0, 2, 1], out="t")
    scores = node("MatMul", "x", "t", out="s")
    path = tmp_path / "m.onnx"
    graph(path, tokens, turned, scores, node("Einsum", "s", "x", equation="bqk,bkd->bqd"))
    model = onnx.load(path)
    model.graph.initializer.append(numpy_helper.from_array(np.array([3], np.int64), "axis"))
    onnx.save(model, path)
    assert flops(path) == 2 * (8 * 8 * 8) + 2 * (8 * 8 * 8)


def test_a_graph_without_products_costs_nothing(tmp_path: Path) -> None:
    assert flops(graph(tmp_path / "m.onnx", node("Relu", "pixels"))) == 0


@pytest.mark.slow
def test_mobilenet_v2_as_in_its_paper(tmp_path: Path) -> None:
    """300 million multiply-adds at 224 x 224 (Sandler et al. 2018, table 4)."""
    from emotion_detection.backend import keras, tf

    import tf2onnx  # isort: skip  after `backend`, which silences TensorFlow

    image = keras.Input((224, 224, 3), dtype="uint8")
    pixels = keras.layers.Rescaling(1 / 127.5, offset=-1)(image)
    model = keras.Model(image, keras.applications.MobileNetV2(weights=None)(pixels))
    signature = [tf.TensorSpec((None, 224, 224, 3), tf.uint8, name="image")]
    function = tf.function(lambda image: model(image, training=False), input_signature=signature)
    converted, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=18)
    onnx.save(converted, tmp_path / "m.onnx")
    assert flops(tmp_path / "m.onnx") / 2e6 == pytest.approx(300, rel=0.01)
