"""model.onnx in 8 bits: made, held against fp32, and kept in the bundle only where it is as good and faster.

    quantisation = add_int8(directory, faces, params.export.int8, ...)       # bundle.Quantisation

Static (QDQ: uint8 activations, int8 weights) where convolutions do the work: the ranges of the activations come from
training faces. Dynamic where there are none to speak of, as in a ViT: only the weights of MatMul are in 8 bits, and the
ranges come from each batch. Scaling at the start, logits, temperature and softmax stay in float32; input and output are
those of model.onnx. After B. Jacob et al., "Quantization and training of neural networks for efficient integer-
arithmetic-only inference" (2018), as ONNX Runtime has it.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from emotion_detection import stats
from emotion_detection.bundle import (
    INPUT_NAME,
    INT8_FILE,
    INT8_GOLDEN_FILE,
    MODEL_FILE,
    OUTPUT_NAME,
    Quantisation,
)
from emotion_detection.canonical import canonical
from emotion_detection.golden import INT8_TOLERANCE, write_golden
from emotion_detection.params import Int8Params
from emotion_detection.timing import medians_in_turns

Images = NDArray[np.uint8]
Probabilities = NDArray[np.float32]
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# Sums and products stay in float32: in 8 bits they take as long, and lose what residuals and gates add up to.
STATIC_OPERATORS = (
    *WEIGHTED, "AveragePool", "Clip", "Flatten", "MaxPool", "Relu", "Reshape", "Transpose",
)  # fmt: skip
CALIBRATION_PIXELS, BATCH, ROUNDS = 16 * 48 * 48, 256, 200


@dataclass(frozen=True)
class Validation:
    """The validation split, which decides."""

    images: Images
    """(N, S, S, C)."""
    labels: NDArray[np.int32]
    """(N,)."""
    ece_bins: int


def add_int8(
    directory: Path, calibration: Images, validation: Validation, golden: Images, params: Int8Params
) -> Quantisation:
    """Put model.int8.onnx and its golden faces beside model.onnx, unless it is refused.

    Args:
        directory: of the unfinished bundle.
        calibration: training faces, uint8 (N, S, S, C), N > 0.
        golden: the golden faces, uint8 (N, S, S, C).

    Raises:
        Exception: of ONNX or ONNX Runtime, which have no common base; there may be a model.int8.onnx then.
    """
    source, target = directory / MODEL_FILE, directory / INT8_FILE
    method = write_int8(source, target, calibration, params)
    result = _judge(source, target, method, validation, params)
    if result.refused:
        target.unlink()
    else:
        write_golden(directory / INT8_GOLDEN_FILE, golden, answers(open_session(target), golden))
    return result


def write_int8(source: Path, target: Path, calibration: Images, params: Int8Params) -> str:
    """Quantise a graph; equal graphs and faces give equal bytes on one machine.

    Args:
        calibration: uint8 (N, S, S, C), N > 0.

    Returns:
        static or dynamic.
    """
    with TemporaryDirectory() as name, _silence():
        prepared, quantised = Path(name, "prepared.onnx"), Path(name, "quantised.onnx")
        from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415  takes a second

        quant_pre_process(str(source), str(prepared))
        model = onnx.load(prepared)
        for number, node in enumerate(model.graph.node):
            node.name = f"node_{number}"  # nodes are chosen by name, and need not have one
        onnx.save(model, prepared)
        method = "dynamic" if _attends(model.graph) else "static"
        if method == "static":
            _quantise_static(prepared, quantised, calibration, params)
        else:
            _quantise_dynamic(prepared, quantised, params)
        result = canonical(onnx.load(quantised))
    _copy_description(onnx.load(source), result)
    target.write_bytes(result.SerializeToString(deterministic=True))
    return method


def described(quantisation: Quantisation | None) -> str:
    """What became of it, for people."""
    if quantisation is None:
        return "not tried (export.int8.enabled)"
    q = quantisation
    outcome = f"refused for its {q.refused}" if q.refused else "kept"
    return (
        f"{outcome}: {q.speedup:.2f} times as fast, {q.int8_bytes / 1e6:.2f} MB, accuracy on val {q.int8_accuracy:.4f} "
        f"(fp32 {q.fp32_accuracy:.4f}), calibration error {q.int8_ece:.4f} ({q.fp32_ece:.4f})"
    )


def answers(session: ort.InferenceSession, images: Images) -> Probabilities:
    """Probabilities (N, K) of a graph for uint8 (N, S, S, C)."""
    starts = range(0, len(images), BATCH)
    return np.concatenate(
        [session.run([OUTPUT_NAME], {INPUT_NAME: images[start : start + BATCH]})[0] for start in starts]
    )


def _judge(source: Path, target: Path, method: str, validation: Validation, params: Int8Params) -> Quantisation:
    graphs = (source, target)
    (fp32_accuracy, fp32_ece), (int8_accuracy, int8_ece) = (_quality(path, validation) for path in graphs)
    speedup = _speedup(source, target, validation.images[:1])
    # An accuracy is a count over a count: what rounding adds must not decide.
    worse = fp32_accuracy - int8_accuracy > params.tolerance + 1e-9
    refused = "accuracy" if worse else "speed" if speedup <= params.min_speedup else None
    fp32_bytes, int8_bytes = (path.stat().st_size for path in graphs)
    return Quantisation.model_validate(
        {
            "method": method,
            "fp32_accuracy": fp32_accuracy,
            "int8_accuracy": int8_accuracy,
            "fp32_ece": fp32_ece,
            "int8_ece": int8_ece,
            "fp32_bytes": fp32_bytes,
            "int8_bytes": int8_bytes,
            "speedup": round(speedup, 2),
            "refused": refused,
            "golden_tolerance": None if refused else INT8_TOLERANCE,
        }
    )


def _quality(path: Path, validation: Validation) -> tuple[float, float]:
    probabilities = answers(open_session(path), validation.images)
    accuracy = float((probabilities.argmax(axis=1) == validation.labels).mean())
    return accuracy, stats.expected_calibration_error(probabilities, validation.labels, validation.ece_bins)


def _speedup(source: Path, target: Path, face: Images) -> float:
    sessions = [open_session(path, threads=1) for path in (source, target)]
    works = [partial(session.run, [OUTPUT_NAME], {INPUT_NAME: face}) for session in sessions]
    fp32, int8 = medians_in_turns(works, ROUNDS)
    return fp32 / int8


def open_session(path: Path, threads: int = 0) -> ort.InferenceSession:
    """Load a graph; 0 threads: as many as there are cores."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _quantise_static(source: Path, target: Path, calibration: Images, params: Int8Params) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static  # noqa: PLC0415

    graph = onnx.load(source).graph
    methods = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}
    quantize_static(
        str(source),
        str(target),
        Faces(calibration),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(STATIC_OPERATORS),
        nodes_to_quantize=[name for name in _between_weights(graph.node) if name not in _pooled(graph)],
        per_channel=params.per_channel,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod[methods[params.method]],
        # A batch at a time: entropy and percentile would hold the activations of all.
        extra_options={"CalibStridedMinMax": 1, "OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"]},
    )


def _quantise_dynamic(source: Path, target: Path, params: Int8Params) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415

    quantize_dynamic(
        str(source),
        str(target),
        op_types_to_quantize=["MatMul"],
        per_channel=params.per_channel,
        weight_type=QuantType.QInt8,
    )


class Faces:
    """Calibration faces, as ONNX Runtime asks for them: batches, by number."""

    def __init__(self, images: Images) -> None:
        """Args:
        images: uint8 (N, S, S, C).
        """
        batch = max(1, CALIBRATION_PIXELS // images[0].size)
        self._batches = np.array_split(images, max(1, len(images) // batch))
        self.set_range(0, len(self))

    def __len__(self) -> int:
        return len(self._batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Go on with the batches from `start_index` up to, and without, `end_index`."""
        self._rest = iter(self._batches[start_index:end_index])

    def get_next(self) -> dict[str, Images] | None:
        batch = next(self._rest, None)
        return None if batch is None else {INPUT_NAME: batch}


def _attends(graph: onnx.GraphProto) -> bool:
    """Whether activations are multiplied with each other, as in attention: their ranges differ too much from face to
    face for one that is fixed."""
    constants = {tensor.name for tensor in graph.initializer}
    return any(node.op_type == "MatMul" and constants.isdisjoint(node.input) for node in graph.node)


def _between_weights(nodes: Sequence[onnx.NodeProto]) -> list[str]:
    """Names of the nodes with weights, and of all between two of them; neither scaling nor softmax is."""
    after, before = set[str](), set[str]()
    for node in nodes:
        if node.op_type in WEIGHTED or after.intersection(node.input):
            after.update(node.output)
    for node in reversed(nodes):
        if node.op_type in WEIGHTED or before.intersection(node.output):
            before.update(node.input)
    return [
        node.name
        for node in nodes
        if node.op_type in WEIGHTED or (after.intersection(node.input) and before.intersection(node.output))
    ]


def _pooled(graph: onnx.GraphProto) -> set[str]:
    """Convolutions of a single pixel, as in the gates of squeeze-and-excite: they cost nothing, and decide much."""
    sizes = {value.name: [each.dim_value for each in value.type.tensor_type.shape.dim] for value in graph.value_info}
    return {node.name for node in graph.node if node.op_type == "Conv" and sizes.get(node.output[0], [])[2:] == [1, 1]}


def _copy_description(source: onnx.ModelProto, target: onnx.ModelProto) -> None:
    """Name, properties, inputs and outputs of the graph that was quantised."""
    target.graph.name = source.graph.name
    for part in ("input", "output"):
        target.graph.ClearField(part)
        getattr(target.graph, part).extend(getattr(source.graph, part))
    properties: dict[str, Any] = {entry.key: entry.value for entry in source.metadata_props}
    target.ClearField("metadata_props")
    onnx.helper.set_model_props(target, properties)


@contextmanager
def _silence() -> Iterator[None]:
    """Without what ONNX Runtime prints, and logs by way of the root logger."""
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
