"""A trained Keras model -> the ONNX graph that is served: `python -m pipeline.export NAME`.

    image uint8 (N, S, S, C) -> model -> / temperature -> softmax -> probabilities float32 (N, K)

The model is the trained one, or with `inference.flip_average` the mean of its logits for a face and its mirror image.

tf2onnx can write an invalid graph and report success. So every graph is checked, loaded in ONNX Runtime and compared
with Keras on real test images before there is a bundle.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from emotion_detection.artifacts import (
    SHARDS,
    DatasetInfo,
    Report,
    RunInfo,
    atomic_directory,
    bundle_dir,
    model_dir,
    read_record,
    report_dir,
)
from emotion_detection.backend import keras, tf
from emotion_detection.bundle import (
    EXPLAIN_FILE,
    GOLDEN_FILE,
    INPUT_NAME,
    INT8_FILE,
    INT8_GOLDEN_FILE,
    MODEL_FILE,
    OUTPUT_NAME,
    BundleInfo,
    ModelBundle,
    Quantisation,
    file_sha256,
    read_bundle,
    write_bundle_info,
)
from emotion_detection.conversion import open_graph, to_onnx
from emotion_detection.data.shards import load_arrays, load_split, read_dataset_info
from emotion_detection.data.sources.action_units import EMOTIONS
from emotion_detection.data.sources.synthetic import IMAGES_PER_PERSON, draw
from emotion_detection.errors import ExportError
from emotion_detection.explain.graph import write_explanation
from emotion_detection.golden import TOLERANCE, write_golden
from emotion_detection.inference import asked, check_fits, checked_flip_average, predict_logits
from emotion_detection.lineage import current_lineage
from emotion_detection.models import load_model
from emotion_detection.params import Params, SyntheticParams
from emotion_detection.preprocess import Pixels, prepare
from emotion_detection.quantisation import Validation, add_int8, described
from emotion_detection.reference_faces import measured_reference
from emotion_detection.stats import softmax

ODD_BATCH = 7
GOLDEN_PER_EMOTION = 2


def export_bundle(name: str, params: Params) -> ModelBundle:
    """Convert a trained model, compare it with Keras on test images, and write bundles/NAME/.

    Raises:
        ArtifactError: a file of an earlier stage is missing, or the model does not fit the shards.
        ExportError: the graph does not answer as the model does; there is no new bundle then.
    """
    info, trained = read_dataset_info(SHARDS), model_dir(name)
    report = read_record(report_dir(name) / "metrics.json", Report)
    architecture = params.model(name).architecture
    model = load_model(architecture, trained / "model.keras")
    check_fits(model, info)
    served = asked(model, checked_flip_average(report, params))
    images = load_arrays(SHARDS, "test").images[: params.export.parity_images]
    golden = golden_faces(info.image_size, info.channels)
    expected, right = (softmax(predict_logits(served, faces) / report.temperature) for faces in (images, golden))
    with Console(stderr=True).status(f"{name}: convert to ONNX"):
        graph = convert(served, info, report, params.export.opset)
    with atomic_directory(bundle_dir(name)) as directory:
        path = directory / MODEL_FILE
        path.write_bytes(graph.SerializeToString(deterministic=True))
        parity = check(path, images, expected, params.export.max_difference)
        check(path, golden, right, params.export.max_difference)
        write_golden(directory / GOLDEN_FILE, golden, right)
        with Console(stderr=True).status(f"{name}: convert its explanation to ONNX"):
            explanation = write_explanation(directory / EXPLAIN_FILE, model, images, params.export.opset)
        with Console(stderr=True).status(f"{name}: quantise, and compare with fp32"):
            quantisation = quantised(directory, golden, params)
        content = BundleInfo(
            model=name,
            architecture=architecture,
            parameters=model.count_params(),
            labels=info.labels,
            image_size=info.image_size,
            channels=info.channels,
            temperature=report.temperature,
            reference_shares=info.reference_shares,
            reference=measured_reference(name, info, report.temperature),
            metrics=bundle_metrics(report, parity),
            explanation=explanation,
            golden_tolerance=TOLERANCE,
            quantisation=quantisation,
            lineage=current_lineage(name, info.data_hash, read_record(trained / "run.json", RunInfo).training_id),
            files={file.name: file_sha256(file) for file in sorted(directory.iterdir())},
        )
        write_bundle_info(directory, content)
    return read_bundle(bundle_dir(name))


def quantised(directory: Path, golden: Pixels, params: Params) -> Quantisation | None:
    """Add int8 to the unfinished bundle where it is good enough; None: `export.int8.enabled` says not to try."""
    int8 = params.export.int8
    if not int8.enabled:
        return None
    # The shards were shuffled when they were written: their start is a sample.
    batches = load_split(SHARDS, "train", int8.calibration_images)
    calibration, _ = next(iter(batches))
    val = load_arrays(SHARDS, "val")
    validation = Validation(val.images, val.labels, params.evaluation.ece_bins)
    try:
        return add_int8(directory, calibration.numpy(), validation, golden, int8)
    except Exception as error:  # ONNX Runtime raises whatever its handlers happen to raise
        for name in (INT8_FILE, INT8_GOLDEN_FILE):
            (directory / name).unlink(missing_ok=True)
        print(f"warning: no int8: ONNX Runtime cannot quantise {MODEL_FILE}: {error}", file=sys.stderr)
        return None


def golden_faces(size: int, channels: int) -> Pixels:
    """Drawn faces of every emotion, each of another person: uint8 (14, size, size, channels), always the same."""
    params = SyntheticParams()
    labels = list(EMOTIONS) * GOLDEN_PER_EMOTION
    files = [draw(0, IMAGES_PER_PERSON * person, label, params) for person, label in enumerate(labels)]
    return np.stack([prepare(file, size, channels) for file in files])


def bundle_metrics(report: Report, parity: float) -> dict[str, float]:
    """The figures that a bundle carries; nothing that depends on the machine, but for `Quantisation.speedup`."""
    return {
        "val_accuracy": report.val.accuracy.value,
        "test_accuracy": report.test.accuracy.value,
        "test_macro_f1": report.test.macro_f1.value,
        "test_ece": report.test.ece,
        "parity": parity,
    }


def convert(model: keras.Model, info: DatasetInfo, report: Report, opset: int) -> onnx.ModelProto:
    """Build the serving graph; equal models give equal bytes.

    Args:
        model: uint8 (N, S, S, C) -> logits (N, K).

    Raises:
        ExportError: tf2onnx cannot convert the model.
    """
    signature = [tf.TensorSpec(model.input_shape, tf.uint8, name=INPUT_NAME)]

    def serve(image: Any) -> dict[str, Any]:
        return {OUTPUT_NAME: tf.nn.softmax(model(image, training=False) / report.temperature)}

    try:
        graph = to_onnx(serve, signature, opset)
    except ExportError as error:
        raise ExportError(f"model {model.name}: {error}; try another, or build it from other operations") from error
    return _described(graph, info, report)


def check(path: Path, images: NDArray[np.uint8], expected: NDArray[np.float64], max_difference: float) -> float:
    """Compare an ONNX file with the model it was made from, also one image at a time and in an odd batch.

    Args:
        images: uint8 (N, S, S, C), N > 0.
        expected: probabilities (N, K) of the Keras model, after temperature.
        max_difference: largest allowed difference of any probability.

    Returns:
        Largest difference found.

    Raises:
        ExportError: the graph is invalid, cannot be loaded, has another input or output, or answers otherwise.
    """
    answers = _run(open_graph(path), images, path)
    if answers.shape != expected.shape or answers.dtype != np.float32:
        raise ExportError(
            f"{path.name}: gives {answers.dtype} {answers.shape}, expected float32 {expected.shape}; the architecture "
            "must give one logit per label"
        )
    difference = float(np.abs(answers - expected).max())
    changed = int((answers.argmax(axis=1) != expected.argmax(axis=1)).sum())
    if changed or not difference <= max_difference:  # a NaN is not below anything
        raise ExportError(
            f"{path.name}: differs from Keras by up to {difference:.2g} (export.max_difference {max_difference:g}), "
            f"with another top class for {changed} of {len(images)} test images; look for an operation that tf2onnx "
            "converts wrongly, such as an antialiased resize"
        )
    return difference


def table(bundle: ModelBundle) -> Table:
    """The bundle in a few lines for a terminal."""
    info = bundle.info
    result = Table(title=f"{bundle.directory}", title_justify="left", show_header=False)
    result.add_row("input", f"uint8 (N, {info.image_size}, {info.image_size}, {info.channels})")
    result.add_row("labels", ", ".join(info.labels))
    result.add_row("parameters", f"{info.parameters:,}")
    result.add_row("size", f"{bundle.model_path.stat().st_size / 1e6:.2f} MB")
    result.add_row("parity with Keras", f"{info.metrics['parity']:.1e}")
    result.add_row("int8", described(info.quantisation))
    result.add_row("explained by", info.explanation.method if info.explanation else "occlusion")
    return result


def _described(model: onnx.ModelProto, info: DatasetInfo, report: Report) -> onnx.ModelProto:
    """Name and labels, for whoever opens the file without its bundle."""
    model.graph.name = report.model
    labels = json.dumps(info.labels)
    onnx.helper.set_model_props(model, {"labels": labels, "temperature": repr(report.temperature)})
    return model


def _run(session: ort.InferenceSession, images: NDArray[np.uint8], path: Path) -> NDArray[np.float32]:
    batches = [batch for batch in np.split(images, [1, 1 + ODD_BATCH]) if len(batch)]
    try:
        return np.concatenate([session.run([OUTPUT_NAME], {INPUT_NAME: batch})[0] for batch in batches])
    except Exception as error:
        raise ExportError(
            f"{path.name}: ONNX Runtime cannot run it on uint8 {images.shape[1:]} with any batch size: {error}"
        ) from error
