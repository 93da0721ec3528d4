"""Floating point operations of an ONNX graph for one image.

    flops(Path("bundles/lenet/model.onnx"))

Convention: one multiply-add is two operations; convolutions and matrix products alone are counted, which are nearly
all of the work (so do papers, who mostly give multiply-adds: half of this). The graph is run once on a blank image to
learn the shapes: unlike shape inference, a run cannot fail to know one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

Shape = tuple[int, ...]


def flops(path: Path) -> int:
    """Operations for one image; bodies of loops and branches are not counted."""
    model = onnx.load(path)
    nodes = [node for node in model.graph.node if node.op_type in _MULTIPLY_ADDS]
    shapes = _shapes(model, {name for node in nodes for name in (*node.input, node.output[0]) if name})
    return 2 * sum(_MULTIPLY_ADDS[node.op_type](node, shapes) for node in nodes)


def _shapes(model: onnx.ModelProto, names: Iterable[str]) -> Mapping[str, Shape]:
    """Shapes of tensors when the graph runs on one image."""
    known = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    image = model.graph.input[0]
    known[image.name] = (1, *(size.dim_value for size in image.type.tensor_type.shape.dim[1:]))
    asked = sorted(set(names) - set(known))
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in asked)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    values = session.run(asked, {image.name: np.zeros(known[image.name], np.uint8)}) if asked else []
    return known | {name: value.shape for name, value in zip(asked, values, strict=True)}


def _convolution(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
    return math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])  # weights (M, C / group, *kernel)


def _transposed_convolution(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
    return math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])  # weights (C, M / group, *kernel)


def _matmul(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
    return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]


def _gemm(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if transposed else 1]


def _einsum(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
    equation = next(attribute.s.decode() for attribute in node.attribute if attribute.name == "equation")
    operands = equation.replace(" ", "").partition("->")[0].split(",")
    sizes: dict[str, int] = {}
    for letters, name in zip(operands, node.input, strict=True):
        sizes |= dict(zip(letters, shapes[name], strict=True))
    return math.prod(sizes.values())


_MULTIPLY_ADDS = {
    "Conv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "Einsum": _einsum,
    "Gemm": _gemm,
    "MatMul": _matmul,
}
