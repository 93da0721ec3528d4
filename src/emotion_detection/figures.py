"""Pictures of one evaluation, as PNG files that are equal byte for byte when made again.

    write_figures(directory, {"confusion": confusion(counts, labels), ...})

Colours are seaborn's colour-blind safe palette. Nothing here touches pyplot, so no window and no global state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.style
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from numpy.typing import NDArray

from emotion_detection.artifacts import History
from emotion_detection.stats import Counts, Floats, Reliability

Drawing = Callable[[], Figure]
MISTAKE_COLUMNS = 6
_GUIDE = {"color": "black", "linestyle": "--", "linewidth": 1, "zorder": 3}
MOST_ANNOTATED = 15  # classes up to which the cells of a confusion matrix hold their numbers
_STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture whatever fonts a machine has
    "text.parse_math": False,  # a class may be called "$"
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.12,
    "figure.constrained_layout.h_pad": 0.1,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 10,
}


@dataclass(frozen=True)
class Curve:
    """A ROC or precision-recall curve of one class against the rest."""

    label: str
    x: Floats
    y: Floats
    area: float


@dataclass(frozen=True)
class Mistake:
    """A test image with a wrong answer."""

    image: NDArray[np.uint8]
    """(S, S, C)."""
    true: str
    predicted: str
    confidence: float


def write_figures(directory: Path, drawings: Mapping[str, Drawing]) -> None:
    """Draw and write `directory/NAME.png` for each drawing; the directory must exist."""
    for name, draw in drawings.items():
        with mpl.style.context(["default", "seaborn-v0_8-whitegrid", _STYLE]):
            # matplotlib would write its version into the file
            draw().savefig(directory / f"{name}.png", dpi=110, metadata={"Software": None})


def confusion(counts: Counts, labels: Sequence[str]) -> Figure:
    """Confusion matrix (K, K) twice: images, and shares of each true class."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = max(4.0, 0.62 * len(labels) + 1.4)
    figure = Figure(figsize=(2 * side + 0.8, side))
    left, right = figure.subplots(1, 2)
    _heatmap(left, counts, labels, "Images", "d")
    _heatmap(right, shares, labels, "Share of the true class", ".2f")
    return figure


def reliability(before: Reliability, after: Reliability, temperature: float) -> Figure:
    """Accuracy against confidence before and after temperature scaling, over how many answers had it."""
    figure = Figure(figsize=(9, 5.4))
    axes = figure.subplots(2, 2, sharex=True, height_ratios=[3, 1])
    titles = ("Before", f"After temperature {temperature:.2f}")
    for column, (table, title) in enumerate(zip((before, after), titles, strict=True)):
        _reliability_bars(axes[0, column], table)
        axes[0, column].set_title(f"{title}: ECE {table.error:.3f}")
        bins = len(table.counts)
        axes[1, column].bar(_centres(bins), table.counts, width=1 / bins, color=_colours(1)[0], edgecolor="white")
        axes[1, column].set(xlabel="Confidence", ylabel="Images", xlim=(0, 1))
    return figure


def roc(curves: Sequence[Curve]) -> Figure:
    """ROC curve of each class against the rest."""
    figure, axes = _curves(curves, "AUC")
    axes.plot([0, 1], [0, 1], **_GUIDE)
    axes.set(title="ROC", xlabel="False positive rate", ylabel="True positive rate")
    return figure


def precision_recall(curves: Sequence[Curve]) -> Figure:
    """Precision-recall curve of each class against the rest."""
    figure, axes = _curves(curves, "AP")
    axes.set(title="Precision and recall", xlabel="Recall", ylabel="Precision")
    return figure


def classes(precision: Floats, recall: Floats, f1: Floats, support: Counts, labels: Sequence[str]) -> Figure:
    """Bars of precision, recall and F1, each (K,), under each class its number of images."""
    figure = Figure(figsize=(max(6.0, 1.1 * len(labels) + 1.5), 4.2))
    axes = figure.subplots()
    places = np.arange(len(labels))
    named = {"precision": precision, "recall": recall, "F1": f1}
    for step, ((name, values), colour) in enumerate(zip(named.items(), _colours(3), strict=True)):
        axes.bar(places + (step - 1) * 0.27, values, width=0.25, label=name, color=colour)
    axes.set(ylim=(0, 1), xticks=places, ylabel="Share")
    axes.set_xticklabels([f"{label}\n{count}" for label, count in zip(labels, support, strict=True)])
    axes.grid(visible=False, axis="x")
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def mistakes(items: Sequence[Mistake]) -> Figure:
    """Faces with true class, answer and confidence."""
    rows = max(1, -(-len(items) // MISTAKE_COLUMNS))
    figure = Figure(figsize=(1.75 * MISTAKE_COLUMNS, 2.15 * rows + 0.4))
    figure.suptitle("Most confident mistakes: true class, answer" if items else "No mistakes")
    grid = figure.subplots(rows, MISTAKE_COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, item in zip(grid.flat, items, strict=False):
        axes.imshow(item.image.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_title(f"{item.true}\n→ {item.predicted} {item.confidence:.0%}", fontsize=9)
    return figure


def training(history: History) -> Figure:
    """Loss, accuracy, learning rate and time over the epochs; the kept epoch and stages of fine-tuning are marked."""
    figure = Figure(figsize=(10, 6.4))
    panels = figure.subplots(2, 2)
    shown = {
        "Loss": {"training": "loss", "validation": "val_loss"},
        "Accuracy": {"training": "accuracy", "validation": "val_accuracy"},
        "Learning rate": {"": "learning_rate"},
        "Seconds per epoch": {"": "seconds"},
    }
    for axes, (title, lines) in zip(panels.flat, shown.items(), strict=True):
        _epochs(axes, history, lines)
        axes.set(title=title, xlabel="Epoch")
    for axes in panels[1]:
        axes.set_ylim(bottom=0)
    if history.stages:
        panels[1, 0].set_yscale("symlog", linthresh=_smallest_peak(history))  # rates differ a hundredfold, and end at 0
        panels[1, 0].yaxis.set_major_formatter("{x:g}")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def _epochs(axes: Any, history: History, lines: Mapping[str, str]) -> None:
    for (name, key), colour in zip(lines.items(), _colours(2), strict=False):
        values = history.metrics.get(key, [])
        axes.plot(
            np.arange(1, len(values) + 1), values, label=name, color=colour, marker="." if len(values) < 30 else ""
        )
    axes.axvline(history.best_epoch + 1, **_GUIDE, label="kept")
    for number, start in enumerate(history.stages):
        axes.axvline(start + 0.5, color="grey", linewidth=1.5, label="_" if number else "fine-tuning begins")
    axes.xaxis.get_major_locator().set_params(integer=True)


def _smallest_peak(history: History) -> float:
    """The smallest of the stages' highest learning rates, rounded down to a power of ten, at least 1e-8."""
    stages = np.split(np.asarray(history.metrics["learning_rate"]), history.stages)
    return float(10 ** np.floor(np.log10(max(1e-8, min(rates.max(initial=0) for rates in stages)))))


def _heatmap(axes: Any, values: NDArray[Any], labels: Sequence[str], title: str, form: str) -> None:
    sns.heatmap(
        values,
        annot=len(labels) <= MOST_ANNOTATED,
        fmt=form,
        cmap="Blues",
        vmin=0,
        cbar=False,
        square=True,
        linewidths=0.5,
        xticklabels=labels,
        yticklabels=labels,
        ax=axes,
    )
    axes.set(title=title, xlabel="Answer", ylabel="True class")
    axes.tick_params(axis="x", rotation=45)
    axes.tick_params(axis="y", rotation=0)


def _reliability_bars(axes: Any, table: Reliability) -> None:
    used = table.counts > 0
    bins, colours = len(table.counts), _colours(2)
    axes.bar(_centres(bins)[used], table.accuracy[used], width=1 / bins, color=colours[0], edgecolor="white")
    axes.plot(table.confidence[used], table.accuracy[used], "o", color=colours[1], markersize=4)
    axes.plot([0, 1], [0, 1], **_GUIDE)
    axes.set(ylabel="Accuracy", ylim=(0, 1))


def _curves(curves: Sequence[Curve], area: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(6.8, 4.8))
    axes = figure.subplots()
    for curve, colour in zip(curves, _colours(len(curves)), strict=True):
        axes.plot(curve.x, curve.y, color=colour, linewidth=1.5, label=f"{curve.label} ({area} {curve.area:.2f})")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    figure.legend(loc="outside right upper")
    return figure, axes


def _centres(bins: int) -> Floats:
    return (np.arange(bins) + 0.5) / bins


def _colours(count: int) -> Any:
    return sns.color_palette("colorblind", count)
