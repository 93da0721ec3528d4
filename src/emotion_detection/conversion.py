"""TensorFlow functions -> ONNX graphs that ONNX Runtime can load; what they compute is compared elsewhere.

graph = to_onnx(serve, [tf.TensorSpec((None, 48, 48, 1), tf.uint8, name="image")], opset=18)
session = open_graph(path)
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort

from emotion_detection.backend import tf
from emotion_detection.canonical import canonical
from emotion_detection.errors import ExportError

# By default tf2onnx copies the whole graph, weights and all, before each of its passes, to go on should one fail: that
# is nearly half of a large model's time. Without it a pass that fails is an ExportError; TRUE here copies again.
os.environ.setdefault("TF2ONNX_CATCH_ERRORS", "FALSE")


def to_onnx(serve: Callable[..., dict[str, Any]], signature: Sequence[tf.TensorSpec], opset: int) -> onnx.ModelProto:
    """Convert a function of tensors to a graph in canonical form.

    Args:
        serve: gives its outputs by name.
        signature: names, shapes and types of the inputs, first dimension the batch.

    Raises:
        ExportError: tf2onnx cannot convert it.
    """
    import tf2onnx  # noqa: PLC0415  it imports TensorFlow, which `backend` must have silenced before

    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)  # what it complains of, the comparison finds out
    try:
        function = tf.function(serve, input_signature=signature)
        graph, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=opset)
    except Exception as error:  # tf2onnx raises whatever its handlers happen to raise
        raise ExportError(f"tf2onnx cannot convert it with export.opset {opset}: {error}") from error
    model = canonical(_with_constants(graph, function.get_concrete_function(*signature)))
    model.graph.doc_string = ""
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    return model


def _with_constants(model: onnx.ModelProto, function: Any) -> onnx.ModelProto:
    """Give the tensors that a layer holds outside of its weights their values; tf2onnx makes inputs of them."""
    held = {inner.name: outer for outer, inner in function.graph.captures if outer.dtype != tf.resource}
    for value in [value for value in model.graph.input if value.name in held]:
        model.graph.initializer.append(onnx.numpy_helper.from_array(held[value.name].numpy(), value.name))
        model.graph.input.remove(value)
    return model


def open_graph(path: Path) -> ort.InferenceSession:
    """Check an ONNX file and load it.

    Raises:
        ExportError: the graph is invalid or cannot be loaded.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        onnx.checker.check_model(str(path), full_check=True)
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX and ONNX Runtime have a family of exceptions each
        raise ExportError(f"{path.name}: tf2onnx wrote an invalid graph; try another export.opset: {error}") from error
