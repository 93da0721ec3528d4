"""A trained Keras model -> LiteRT files for phones and boards: `python -m pipeline.edge NAME`.

    edge/NAME/model.tflite          uint8 (1, S, S, C) -> calibrated probabilities, as model.onnx of the bundle
              model.int8.tflite     the same with 8-bit weights, where that is good enough
              labels.txt            names of the outputs, one in a line
    reports/NAME/edge.json          EdgeReport: size, time, difference to Keras, accuracy

The server needs none of it, and so the bundle does not have it. A converter that reports success may have written a
graph that answers otherwise: both are asked through the interpreter, float32 on the faces on which export compares
ONNX with Keras, int8 by its accuracy on the validation split, as that of ONNX. Static quantisation comes first; where
it loses too much, as in a ViT, or cannot be run, dynamic. What int8 gains in time is told, and does not decide: a phone
is another machine.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from emotion_detection.artifacts import (
    SHARDS,
    EdgeGraph,
    EdgeReport,
    QuantisationMethod,
    Report,
    atomic_directory,
    edge_dir,
    edge_report,
    model_dir,
    read_record,
    report_dir,
    write_record,
)
from emotion_detection.backend import keras
from emotion_detection.data.shards import Arrays, load_arrays, load_split, read_dataset_info
from emotion_detection.errors import ExportError, ParamsError
from emotion_detection.inference import asked, check_fits, checked_flip_average, predict_logits
from emotion_detection.litert import Converter, Images, LiteRTModel, Probabilities
from emotion_detection.models import load_model
from emotion_detection.params import Params
from emotion_detection.stats import Floats, expected_calibration_error, softmax
from emotion_detection.timing import medians_in_turns

FLOAT_FILE, INT8_FILE, LABELS_FILE = "model.tflite", "model.int8.tflite", "labels.txt"
METHODS: tuple[QuantisationMethod, ...] = ("static", "dynamic")
ROUNDS, BATCH = 200, 64


@dataclass(frozen=True)
class Exam:
    """The faces on which a LiteRT graph is asked, and what Keras says of them."""

    name: str
    images: Images
    """(N, S, S, C), for `difference`."""
    expected: Floats
    """(N, K)."""
    val: Arrays
    right: Floats
    """(M, K), of the validation images."""
    ece_bins: int

    @classmethod
    def of(cls, model: keras.Model, report: Report, params: Params) -> Exam:
        """Ask Keras; `model` is what answers, uint8 (N, S, S, C) -> logits (N, K)."""
        images = load_arrays(SHARDS, "test").images[: params.export.parity_images]
        val = load_arrays(SHARDS, "val")
        expected, right = (softmax(predict_logits(model, each) / report.temperature) for each in (images, val.images))
        return cls(report.model, images, expected, val, right, params.evaluation.ece_bins)

    @property
    def keras_accuracy(self) -> float:
        return float((self.right.argmax(axis=1) == self.val.labels).mean())

    def check(self, graph: LiteRTModel, max_difference: float) -> None:
        """
        Raises:
            ExportError: the graph does not answer as Keras does.
        """
        difference = self.difference(graph)
        if not difference <= max_difference:  # a NaN is not below anything
            raise ExportError(
                f"{self.name}: {FLOAT_FILE} differs from Keras by up to {difference:.2g} on {len(self.images)} test "
                f"images (export.max_difference {max_difference:g}); take {self.name} out of edge.litert, or look for "
                "an operation that LiteRT converts wrongly"
            )

    def difference(self, graph: LiteRTModel) -> float:
        """Largest of any probability to Keras."""
        return float(np.abs(graph(self.images) - self.expected).max())

    def judge(self, graph: LiteRTModel, method: QuantisationMethod | None = None) -> EdgeGraph:
        """Figures of a graph; its time is taken later."""
        said = self._answers(graph)
        predicted = said.argmax(axis=1)
        return EdgeGraph(
            method=method,
            bytes=graph.size,
            milliseconds=0.0,
            difference=self.difference(graph),
            accuracy=float((predicted == self.val.labels).mean()),
            ece=expected_calibration_error(said, self.val.labels, self.ece_bins),
            agreement=float((predicted == self.right.argmax(axis=1)).mean()),
        )

    def _answers(self, graph: LiteRTModel) -> Probabilities:
        images = self.val.images
        batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
        return np.concatenate([graph(each) for each in track(batches, graph.name, console=Console(stderr=True))])


def write_edge(name: str, params: Params) -> EdgeReport:
    """Convert a trained model, ask the files, and write edge/NAME/ and reports/NAME/edge.json.

    Raises:
        ParamsError: `edge.litert` does not name the model.
        ArtifactError: a file of an earlier stage is missing, or the model does not fit the shards.
        ExportError: LiteRT cannot convert the model, or its graph does not answer as the model does; there are no new
            files then. That int8 is not good enough is no error.
    """
    if not params.has_litert(name):
        raise ParamsError(
            f"edge.litert: found {list(params.edge.litert)}; add {name}, then run `dvc repro edge@{name}`"
        )
    info = read_dataset_info(SHARDS)
    report = read_record(report_dir(name) / "metrics.json", Report)
    model = load_model(params.model(name).architecture, model_dir(name) / "model.keras")
    check_fits(model, info)
    served = asked(model, checked_flip_average(report, params))
    exam = Exam.of(served, report, params)
    with atomic_directory(edge_dir(name)) as directory:
        (directory / LABELS_FILE).write_text("".join(f"{label}\n" for label in info.labels), encoding="utf-8")
        with Converter(served, report.temperature) as converter:
            result = write_graphs(converter, exam, directory, params)
    write_record(edge_report(name), result)
    return result


def write_graphs(converter: Converter, exam: Exam, directory: Path, params: Params) -> EdgeReport:
    """Write float32, and int8 by the first of `METHODS` that is good enough.

    Raises:
        ExportError: as `write_edge`.
    """
    (directory / FLOAT_FILE).write_bytes(converter.float32())
    graphs = [LiteRTModel(directory / FLOAT_FILE)]
    exam.check(graphs[0], params.export.max_difference)
    figures, rejected = [exam.judge(graphs[0])], dict[QuantisationMethod, str]()
    for method in METHODS:
        try:
            (directory / INT8_FILE).write_bytes(converter.int8(calibration_faces(params, method)))
            graph = LiteRTModel(directory / INT8_FILE)
            int8 = exam.judge(graph, method)
            check_loss(figures[0].accuracy, int8.accuracy, params.export.int8.tolerance)
        except ExportError as error:
            rejected[method] = str(error)
            (directory / INT8_FILE).unlink(missing_ok=True)
        else:
            graphs, figures = [*graphs, graph], [*figures, int8]
            break
    if len(figures) == 1:
        print(f"warning: {exam.name}: no {INT8_FILE}: {_listed(rejected)}", file=sys.stderr)
    float32, *small = timed(graphs, figures, exam.images[:1])
    return EdgeReport(
        model=exam.name,
        keras_accuracy=exam.keras_accuracy,
        float32=float32,
        int8=small[0] if small else None,
        rejected=rejected,
    )


def check_loss(float32: float, int8: float, tolerance: float) -> None:
    """Compare accuracies on the validation split.

    Raises:
        ExportError: int8 has lost more than `tolerance`.
    """
    # An accuracy is a count over a count: what rounding adds must not decide.
    if float32 - int8 > tolerance + 1e-9:
        raise ExportError(f"accuracy {int8:.4f}, float32 {float32:.4f}, export.int8.tolerance {tolerance:g}")


def timed(graphs: list[LiteRTModel], figures: list[EdgeGraph], face: Images) -> list[EdgeGraph]:
    """The same figures with the time of one face, uint8 (1, S, S, C)."""
    times = medians_in_turns([partial(graph, face) for graph in graphs], ROUNDS)
    return [each.model_copy(update={"milliseconds": 1000 * time}) for each, time in zip(figures, times, strict=True)]


def calibration_faces(params: Params, method: QuantisationMethod) -> Images | None:
    """The training faces that ranges are taken from, as for ONNX: uint8 (N, S, S, C); none for dynamic ranges."""
    if method == "dynamic":
        return None
    images, _ = next(iter(load_split(SHARDS, "train", params.export.int8.calibration_images)))
    faces: Images = images.numpy()
    return faces


def table(report: EdgeReport) -> Table:
    """The files beside each other, for a terminal."""
    columns = ("MB", "ms per face", "difference", "accuracy", "ECE", "as Keras")
    result = Table("", *columns, title=f"{edge_dir(report.model)}: on the validation split", title_justify="left")
    for name, graph in (("float32", report.float32), ("int8", report.int8)):
        if graph:
            cost = (f"{graph.bytes / 1e6:.2f}", f"{graph.milliseconds:.3g}", f"{graph.difference:.1e}")
            worth = (f"{graph.accuracy:.4f}", f"{graph.ece:.4f}", f"{graph.agreement:.2%}")
            result.add_row(f"{name}, {graph.method}" if graph.method else name, *cost, *worth)
    if report.rejected:
        result.caption = f"rejected: {_listed(report.rejected)}"
    return result


def _listed(rejected: dict[QuantisationMethod, str]) -> str:
    return "; ".join(f"{method}: {why}" for method, why in rejected.items())
