"""A tiny real ModelBundle whose answers can be computed in NumPy."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from emotion_detection.bundle import (
    EXPLAIN_FILE,
    GOLDEN_FILE,
    HEAT_NAME,
    INPUT_NAME,
    INT8_FILE,
    INT8_GOLDEN_FILE,
    MODEL_FILE,
    OUTPUT_NAME,
    TARGET_NAME,
    BundleInfo,
    Explanation,
    Lineage,
    Precision,
    Quantisation,
    file_sha256,
    write_bundle_info,
)
from emotion_detection.golden import TOLERANCE, write_golden
from emotion_detection.preprocess import Pixels, prepare
from emotion_detection.reference import EDGES, Reference, histogram

SIZE = 8
LABELS = ("angry", "happy", "sad")


@dataclass(frozen=True)
class TinyBundle:
    """softmax(pixels @ weights) with known weights."""

    directory: Path
    weights: NDArray[np.float32]

    @property
    def scale(self) -> np.float32:
        """Of the weights in 5 bits, so few that the answers can be told from those in float32."""
        return np.float32(np.abs(self.weights).max() / 15)

    def expected(self, data: bytes, precision: Precision = "fp32") -> NDArray[np.float64]:
        """What the model must answer for an encoded image."""
        return self.answers(prepare(data, SIZE, 1)[np.newaxis], precision)[0]

    def answers(self, images: Pixels, precision: Precision = "fp32") -> NDArray[np.float64]:
        """What it must answer for uint8 (N, S, S, 1): (N, K)."""
        weights = self.weights if precision == "fp32" else (self.weights / self.scale).round() * self.scale
        logits = images.reshape(len(images), -1).astype(np.float64) @ weights.astype(np.float64)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)


def write_bundle(
    directory: Path,
    seed: int = 0,
    labels: tuple[str, ...] = LABELS,
    *,
    softmax: bool = True,
    golden: bool = True,
    spread: float = 1.0,
    explained: bool = False,
    int8: bool = False,
    reference: Reference | None = None,
) -> TinyBundle:
    """Write a bundle.

    Args:
        softmax: False: one that breaks the contract, since it answers with logits.
        golden: False: one from before there were golden faces.
        spread: of its weights; a large one gives answers that are more certain.
        explained: with an explain.onnx, which answers `heat_of`.
        int8: with a model.int8.onnx.
        reference: what drift is measured against.
    """
    directory.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    weights = random.normal(0, spread / 255, (SIZE * SIZE, len(LABELS))).astype(np.float32)
    bundle = TinyBundle(directory, weights)
    constants = [numpy_helper.from_array(weights, "weights")]
    _write_graph(directory / MODEL_FILE, [], constants, "Softmax" if softmax else "Identity")
    faces = random.integers(0, 256, (4, SIZE, SIZE, 1), np.uint8)
    if golden:
        write_golden(directory / GOLDEN_FILE, faces, bundle.answers(faces))
    if int8:
        _write_int8(bundle)
        write_golden(directory / INT8_GOLDEN_FILE, faces, bundle.answers(faces, "int8"))
    if explained:
        _write_explanation(directory / EXPLAIN_FILE)
    info = BundleInfo(
        model="tiny",
        architecture="linear",
        parameters=weights.size,
        labels=labels,
        image_size=SIZE,
        channels=1,
        temperature=1.0,
        reference_shares=dict.fromkeys(labels, 1 / len(labels)),
        reference=reference,
        metrics={"test_accuracy": 0.5},
        lineage=Lineage(commit="c0ffee", dirty=False, dvc_lock=None, data_hash="da7a", training_id="t1"),
        golden_tolerance=TOLERANCE if golden else None,
        explanation=Explanation(method="grad_cam", layer="pixels") if explained else None,
        quantisation=_quantisation(directory) if int8 else None,
        files={file.name: file_sha256(file) for file in sorted(directory.iterdir())},
    )
    write_bundle_info(directory, info)
    return bundle


def some_reference(seed: int = 0) -> Reference:
    """One that has something in most bins."""
    random = np.random.default_rng(seed)
    bins = {feature: histogram(feature, random.uniform(0, 1.2 * edges[-1], 500)) for feature, edges in EDGES.items()}
    predicted = dict(zip(LABELS, (50, 30, 20), strict=True))
    return Reference(**bins, predicted=predicted, accuracy=0.8, mean_confidence=0.78)


def _write_graph(
    path: Path, first: list[onnx.NodeProto], constants: list[onnx.TensorProto], end: str = "Softmax"
) -> None:
    """Write a graph whose `weights` are constant, or made by the nodes in `first`."""
    nodes = [
        *first,
        helper.make_node("Cast", [INPUT_NAME], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["pixels"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
        helper.make_node(end, ["logits"], [OUTPUT_NAME]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, ["N", SIZE, SIZE, 1])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["N", len(LABELS)])],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


def _write_int8(bundle: TinyBundle) -> None:
    steps = (bundle.weights / bundle.scale).round().astype(np.int8)
    constants = [numpy_helper.from_array(steps, "steps"), numpy_helper.from_array(np.array(bundle.scale), "scale")]
    dequantised = helper.make_node("DequantizeLinear", ["steps", "scale"], ["weights"])
    _write_graph(bundle.directory / INT8_FILE, [dequantised], constants)


def _quantisation(directory: Path) -> Quantisation:
    return Quantisation(
        method="static",
        fp32_accuracy=0.5,
        int8_accuracy=0.5,
        fp32_ece=0.1,
        int8_ece=0.1,
        fp32_bytes=(directory / MODEL_FILE).stat().st_size,
        int8_bytes=(directory / INT8_FILE).stat().st_size,
        speedup=2.0,
        refused=None,
        golden_tolerance=3e-2,
    )


def _write_explanation(path: Path) -> None:
    constants = {"one": np.array(1), "shape": np.array([-1, 1, 1]), "square": np.array([-1, SIZE, SIZE])}
    nodes = [
        helper.make_node("Add", [TARGET_NAME, "one"], ["number"]),
        helper.make_node("Cast", ["number"], ["factor"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["factor", "shape"], ["factors"]),
        helper.make_node("Cast", [INPUT_NAME], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["pixels", "square"], ["squares"]),
        helper.make_node("Mul", ["squares", "factors"], ["product"]),
        helper.make_node("Div", ["product", "most"], [HEAT_NAME]),
    ]
    graph = helper.make_graph(
        nodes,
        "explain",
        [
            helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, ["N", SIZE, SIZE, 1]),
            helper.make_tensor_value_info(TARGET_NAME, TensorProto.INT64, ["N"]),
        ],
        [helper.make_tensor_value_info(HEAT_NAME, TensorProto.FLOAT, ["N", SIZE, SIZE])],
        [
            *(numpy_helper.from_array(value.astype(np.int64), name) for name, value in constants.items()),
            numpy_helper.from_array(np.array(255 * len(LABELS), np.float32), "most"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


def heat_of(data: bytes, target: int) -> NDArray[np.float64]:
    """What a tiny bundle's explain.onnx answers for an encoded image, (S, S): the brighter, the hotter."""
    return prepare(data, SIZE, 1)[:, :, 0] / 255 * (target + 1) / len(LABELS)


def encode(
    seed: int = 0, form: str = "PNG", size: tuple[int, int] = (20, 16), mode: str = "L", **options: object
) -> bytes:
    """A random image as a file."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


def white() -> bytes:
    """An image that is white all over, as a file."""
    buffer = io.BytesIO()
    Image.new("L", (SIZE, SIZE), 255).save(buffer, "PNG")
    return buffer.getvalue()


def slowed(work: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    """Something that is done only after a while."""

    def later(*arguments: Any) -> Any:
        time.sleep(seconds)
        return work(*arguments)

    return later


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Fail where a condition does not come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.01)
