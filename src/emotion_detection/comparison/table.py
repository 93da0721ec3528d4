"""The table of a comparison: what stands in it, and how each figure reads. Light: no figure is computed here.

Console().print(table(read_comparison()))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import Field
from rich.table import Table

from emotion_detection.artifacts import COMPARISON, Record, read_record
from emotion_detection.bundle import Precision

METRICS_FILE = "metrics.json"
BATCHES = (1, 32)


class ComparedModel(Record):
    """One model of params.yaml."""

    architecture: str
    parameters: int
    flops: int
    """For one face; a multiply-add is two."""
    precision: Precision
    """Of the graph that is served, as the sizes and times are."""
    bytes: int
    """Size of that graph."""
    milliseconds: float
    """Per face at batch 1, ONNX Runtime, one thread: median of rounds in which all models took turns."""
    milliseconds_batch: float
    """Per face at batch 32, likewise."""
    fp32_bytes: int
    """Size of model.onnx; the same as `bytes` where there is no int8, and so with the times."""
    fp32_milliseconds: float
    fp32_milliseconds_batch: float
    accuracy: float
    """Of the trained model, in fp32, on the test split, as all that follow."""
    accuracy_low: float
    accuracy_high: float
    macro_f1: float
    ece: float
    corrupted_accuracy: float | None = None
    """Mean over all corruptions; none where the model's report has none."""
    by_corruption: dict[str, float] = Field(default_factory=dict)
    """Accuracy on images that were corrupted in one way, mean over its strengths."""
    litert_bytes: int | None = None
    """Size of model.tflite; none where `edge.litert` does not name the model, as with all that follow."""
    litert_milliseconds: float | None = None
    """Per face, one thread, as its own stage measured it."""
    litert_int8_bytes: int | None = None
    """None also where model.int8.tflite was refused."""
    litert_int8_milliseconds: float | None = None


class Comparison(Record):
    """`comparison/metrics.json`."""

    machine: str
    """Where the times were taken."""
    images: int
    """Of the test split."""
    models: dict[str, ComparedModel]
    """By name in params.yaml, best accuracy first."""


@dataclass(frozen=True)
class Column:
    """A figure of the table."""

    title: str
    key: str
    text: Callable[[ComparedModel], str]
    better: Literal["lower", "higher"]

    def best(self, comparison: Comparison) -> float:
        """The best value of all models that have one."""
        values = [float(value) for model in comparison.models.values() if (value := self.value(model)) is not None]
        return min(values) if self.better == "lower" else max(values)

    def value(self, model: ComparedModel) -> float | None:
        """The figure itself."""
        value: float | None = getattr(model, self.key)
        return value


def beside(precision: str | None, served: str, fp32: str) -> str:
    """A figure of the graph that is served, in `precision`, and in brackets that of fp32 where this is another one."""
    return served if precision == "fp32" else f"{served} (fp32 {fp32})"


COLUMNS = (
    Column(
        "accuracy",
        "accuracy",
        lambda model: f"{model.accuracy:.3f} ({model.accuracy_low:.3f} to {model.accuracy_high:.3f})",
        "higher",
    ),
    Column("macro-F1", "macro_f1", lambda model: f"{model.macro_f1:.3f}", "higher"),
    Column("ECE", "ece", lambda model: f"{model.ece:.3f}", "lower"),
    Column("parameters", "parameters", lambda model: f"{model.parameters:,}", "lower"),
    Column("MFLOPs", "flops", lambda model: f"{model.flops / 1e6:,.1f}", "lower"),
    Column(
        "MB",
        "bytes",
        lambda model: beside(model.precision, f"{model.bytes / 1e6:,.2f}", f"{model.fp32_bytes / 1e6:,.2f}"),
        "lower",
    ),
    Column(
        "ms, batch 1",
        "milliseconds",
        lambda model: beside(model.precision, f"{model.milliseconds:.3g}", f"{model.fp32_milliseconds:.3g}"),
        "lower",
    ),
    Column(
        "ms, batch 32",
        "milliseconds_batch",
        lambda model: beside(
            model.precision, f"{model.milliseconds_batch:.3g}", f"{model.fp32_milliseconds_batch:.3g}"
        ),
        "lower",
    ),
)
LITERT_COLUMNS = (
    Column(
        "LiteRT MB",
        "litert_bytes",
        lambda model: with_int8(model.litert_bytes, model.litert_int8_bytes, lambda size: f"{size / 1e6:,.2f}"),
        "lower",
    ),
    Column(
        "LiteRT ms",
        "litert_milliseconds",
        lambda model: with_int8(model.litert_milliseconds, model.litert_int8_milliseconds, lambda ms: f"{ms:.3g}"),
        "lower",
    ),
)
TITLES = ("model", "architecture", *(column.title for column in COLUMNS))


def with_int8(float32: float | None, int8: float | None, text: Callable[[float], str]) -> str:
    """A figure of a LiteRT file, and in brackets that of int8; empty where there is none."""
    shown = [text(value) for value in (float32, int8) if value is not None]
    return f"{shown[0]} (int8 {shown[1]})" if len(shown) > 1 else "".join(shown)


def columns(comparison: Comparison) -> tuple[Column, ...]:
    """`COLUMNS`, and those of LiteRT where a model has such files."""
    made = any(model.litert_bytes is not None for model in comparison.models.values())
    return COLUMNS + LITERT_COLUMNS if made else COLUMNS


def titles(comparison: Comparison) -> tuple[str, ...]:
    """Above the columns of `rows`."""
    return (*TITLES, *(column.title for column in columns(comparison)[len(COLUMNS) :]))


def read_comparison() -> Comparison:
    """What the stage `compare` found.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    return read_record(COMPARISON / METRICS_FILE, Comparison)


def rows(comparison: Comparison) -> list[list[str]]:
    """Cells as text, in the order of `titles`."""
    return [
        [name, model.architecture, *(column.text(model) for column in columns(comparison))]
        for name, model in comparison.models.items()
    ]


def robustness_rows(comparison: Comparison) -> list[list[str]]:
    """Titles, then a row for each model that was judged on corrupted images; empty where none was."""
    judged = {name: model for name, model in comparison.models.items() if model.corrupted_accuracy is not None}
    changes = list(dict.fromkeys(change for model in judged.values() for change in model.by_corruption))
    cells = [
        [name, f"{model.accuracy:.3f}", f"{model.corrupted_accuracy:.3f}"]
        + [f"{model.by_corruption[change]:.2f}" if change in model.by_corruption else "" for change in changes]
        for name, model in judged.items()
    ]
    return [["model", "accuracy", "corrupted", *changes], *cells] if judged else []


def table(comparison: Comparison) -> Table:
    """The comparison for a terminal; the best of each column is bold."""
    result = Table(title=f"Comparison on {comparison.images:,} test images")
    for place, title in enumerate(titles(comparison)):
        result.add_column(title, justify="right" if place > 1 else "left")
    for name, model, *cells in rows(comparison):
        best = is_best(comparison, name)
        result.add_row(
            name, model, *(f"[bold]{cell}[/]" if top else cell for cell, top in zip(cells, best, strict=True))
        )
    return result


def is_best(comparison: Comparison, name: str) -> list[bool]:
    """For each of `columns`, whether no other model is better."""
    model = comparison.models[name]
    return [column.value(model) == column.best(comparison) for column in columns(comparison)]
