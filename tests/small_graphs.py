"""Small ONNX graphs of the kinds that are served, with random weights: made in a moment, without Keras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from emotion_detection.bundle import INPUT_NAME, OUTPUT_NAME
from emotion_detection.quantisation import answers, open_session

SIZE, MAPS, CLASSES = 24, 96, 5

RANDOM = np.random.default_rng(0)
COARSE = RANDOM.integers(0, 256, (300, 6, 6, 1), np.uint8)
IMAGES = COARSE.repeat(SIZE // 6, axis=1).repeat(SIZE // 6, axis=2)
"""Squares of random grey, uint8 (300, 24, 24, 1)."""


def weights(name: str, *shape: int) -> onnx.TensorProto:
    values = np.random.default_rng(len(name)).normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
    return numpy_helper.from_array(values.astype(np.float32), name)


def write_graph(path: Path, nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto]) -> Path:
    """A graph between the scaled image (N, 1, S, S) `scaled` and its `scores` (N, K), of which all classes get some."""
    raw = save(path, [*nodes, helper.make_node("Identity", ["scores"], ["logits"])], constants, np.float32(1))
    scores = np.log(answers(open_session(raw), IMAGES) + 1e-30)
    bias = numpy_helper.from_array(-scores.mean(axis=0), "bias")
    nodes = [*nodes, helper.make_node("Add", ["scores", "bias"], ["logits"])]
    return save(path, nodes, [*constants, bias], np.float32(scores.std(axis=0).mean() / 2))


def save(path: Path, nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto], temperature: np.float32) -> Path:
    scalars = {"scale": np.float32(1 / 127.5), "one": np.float32(1), "temperature": temperature}
    shape = numpy_helper.from_array(np.array([-1, 1, SIZE, SIZE]), "planes")
    graph = helper.make_graph(
        [
            helper.make_node("Cast", [INPUT_NAME], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["pixels", "scale"], ["scaled_pixels"]),
            helper.make_node("Sub", ["scaled_pixels", "one"], ["centred"]),
            helper.make_node("Reshape", ["centred", "planes"], ["scaled"]),
            *nodes,
            helper.make_node("Div", ["logits", "temperature"], ["calibrated"]),
            helper.make_node("Softmax", ["calibrated"], [OUTPUT_NAME]),
        ],
        "small",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, ["N", SIZE, SIZE, 1])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["N", CLASSES])],
        [*constants, shape, *(numpy_helper.from_array(np.array(value), name) for name, value in scalars.items())],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {"labels": "[]"})
    onnx.save(model, path)
    return path


def convolutions(path: Path) -> Path:
    """Three convolutions, the last two around a residual sum, with squeeze-and-excite."""
    options = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["scaled", "first"], ["a"], **options),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "second_"], ["c"], **options),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Conv", ["d", "third__"], ["e"], **options),
        helper.make_node("GlobalAveragePool", ["e"], ["squeezed"]),
        helper.make_node("Conv", ["squeezed", "gate1"], ["f"]),
        helper.make_node("Sigmoid", ["f"], ["gate"]),
        helper.make_node("Mul", ["e", "gate"], ["excited"]),
        helper.make_node("Add", ["excited", "b"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["g"]),
        helper.make_node("GlobalMaxPool", ["g"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("MatMul", ["features", "head"], ["scores"]),
    ]
    constants = [weights("first", MAPS, 1, 3, 3), weights("gate1", MAPS, MAPS, 1, 1), weights("head", MAPS, CLASSES)]
    constants += [weights(name, MAPS, MAPS, 3, 3) for name in ("second_", "third__")]
    return write_graph(path, nodes, constants)


def attention(path: Path) -> Path:
    """Rows of the image that look at each other."""
    constants = [numpy_helper.from_array(np.array([-1, SIZE, SIZE]), "rows"), weights("head", SIZE, CLASSES)]
    constants += [weights("q", SIZE, SIZE), weights("keys", SIZE, SIZE), numpy_helper.from_array(np.array([1]), "axis")]
    nodes = [
        helper.make_node("Reshape", ["scaled", "rows"], ["tokens"]),
        helper.make_node("MatMul", ["tokens", "q"], ["asking"]),
        helper.make_node("MatMul", ["tokens", "keys"], ["asked"]),
        helper.make_node("Transpose", ["asked"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["asking", "turned"], ["affinity"]),
        helper.make_node("Softmax", ["affinity"], ["attention"]),
        helper.make_node("MatMul", ["attention", "tokens"], ["mixed"]),
        helper.make_node("ReduceMean", ["mixed", "axis"], ["features"], keepdims=0),
        helper.make_node("MatMul", ["features", "head"], ["scores"]),
    ]
    return write_graph(path, nodes, constants)
