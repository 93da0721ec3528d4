"""Pictures of a comparison: accuracy against latency, agreement, and the faces that models disagree on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from emotion_detection.comparison.table import Comparison
from emotion_detection.stats import Floats

FACE_COLUMNS = 3
RIGHT, WRONG = "#1a7f37", "#b42318"
_MOST_ANNOTATED = 15
_ANGLES = np.deg2rad([0, 45, -45, 90, -90, 135, -135, 180])
_DISTANCES = range(10, 200, 10)  # pixels between a point and its label


@dataclass(frozen=True)
class Face:
    """A test image with the answers of all models."""

    image: NDArray[np.uint8]
    """(S, S, C)."""
    true: str
    answers: Mapping[str, tuple[str, float]]
    """Answer and its probability by model."""


def tradeoff(comparison: Comparison) -> Figure:
    """Accuracy with its interval against the time of one face; a line joins the models that none beats in both."""
    models = comparison.models
    x = np.array([model.milliseconds for model in models.values()])
    y = np.array([model.accuracy for model in models.values()])
    low, high = (np.array([getattr(model, f"accuracy_{end}") for model in models.values()]) for end in ("low", "high"))
    figure = Figure(figsize=(8.6, 5.2))
    axes = figure.subplots()
    blue, orange = sns.color_palette("colorblind", 2)
    front = undominated(x, y)
    axes.plot(x[front], y[front], color=orange, linestyle="--", linewidth=1, zorder=1)
    axes.errorbar(x, y, yerr=[np.maximum(y - low, 0), np.maximum(high - y, 0)], fmt="o", color=blue, elinewidth=1)
    axes.set(xscale="log", xlabel="Milliseconds per face, batch 1, one thread", ylabel="Accuracy on test")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(0.16, 0.1)
    place_labels(axes, list(models), np.stack([x, y], axis=1))
    return figure


def undominated(costs: Floats, values: Floats) -> NDArray[np.intp]:
    """Places, cheapest first, of those with a higher value than all that cost less (Pareto front); both (M,)."""
    order = np.lexsort((-values, costs))
    best = np.maximum.accumulate(values[order])
    return order[np.r_[True, best[1:] > best[:-1]]]


def place_labels(axes: Any, names: Sequence[str], points: Floats) -> None:
    """Write a name beside each point (x, y), the nearest place where it covers no point and no other name."""
    figure = axes.figure
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # what is measured now stays true
    places = axes.transData.transform(points)
    frame = axes.get_window_extent()
    taken = [Bbox.from_extents(*(place - 5), *(place + 5)) for place in places]
    for name, place in zip(names, places, strict=True):
        size = _text_size(axes, name)
        box = next((box for box in _candidates(place, size) if _fits(box, frame, taken)), None)
        box = box or next(_candidates(place, size))
        taken.append(box)
        _write(axes, name, place, box)


def agreement(names: Sequence[str], same: Floats, overlap: Floats, wrong: NDArray[np.int64]) -> Figure:
    """Share of equal answers and overlap of errors of each pair (M, M), and images by how many models err (M + 1,)."""
    side = max(3.2, 0.5 * len(names) + 1.2)
    figure = Figure(figsize=(3 * side, side + 0.2))
    first, second, third = figure.subplots(1, 3)
    _heatmap(first, same, names, "Same answer")
    _heatmap(second, overlap, names, "Errors in common")
    third.bar(np.arange(len(wrong)), wrong, color=sns.color_palette("colorblind", 1)[0])
    third.set(title="How many models are wrong", xlabel="Models", ylabel="Images")
    third.xaxis.get_major_locator().set_params(integer=True)
    return figure


def faces(items: Sequence[Face]) -> Figure:
    """Faces, each with its true class and the answer of every model, right ones in green."""
    lines = max((len(item.answers) for item in items), default=1)
    rows = max(1, -(-len(items) // FACE_COLUMNS))
    figure = Figure(figsize=(11, max(1.5, 0.19 * lines + 0.55) * rows + 0.2))
    grid = figure.subplots(rows, 2 * FACE_COLUMNS, squeeze=False, width_ratios=[1, 1.4] * FACE_COLUMNS)
    for axes in grid.flat:
        axes.axis("off")
    for item, (row, column) in zip(items, product(range(rows), range(FACE_COLUMNS)), strict=False):
        _face(grid[row, 2 * column], grid[row, 2 * column + 1], item)
    return figure


def _face(picture: Any, text: Any, item: Face) -> None:
    picture.imshow(item.image.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    picture.set_title(item.true, fontsize=10)
    step = 1 / (len(item.answers) + 1)
    for line, (model, (answer, probability)) in enumerate(item.answers.items()):
        colour = RIGHT if answer == item.true else WRONG
        words = f"{model}: {answer} {probability:.0%}"
        text.text(0, 1 - (line + 1) * step, words, color=colour, fontsize=8.5, va="center", transform=text.transAxes)


def _heatmap(axes: Any, values: Floats, names: Sequence[str], title: str) -> None:
    sns.heatmap(
        values,
        annot=len(names) <= _MOST_ANNOTATED,
        fmt=".2f",
        annot_kws={"fontsize": 8},
        cmap="Blues",
        vmin=0,
        vmax=1,
        cbar=False,
        square=True,
        linewidths=0.5,
        xticklabels=names,
        yticklabels=names,
        ax=axes,
    )
    axes.set_title(title)
    axes.tick_params(axis="x", rotation=90)
    axes.tick_params(axis="y", rotation=0)


def _text_size(axes: Any, name: str) -> Floats:
    text = axes.text(0, 0, name, fontsize=9)
    box = text.get_window_extent()
    text.remove()
    return np.array([box.width, box.height])


def _candidates(place: Floats, size: Floats) -> Any:
    """Boxes around a point, nearest first."""
    for distance, angle in product(_DISTANCES, _ANGLES):
        direction = np.array([np.cos(angle), np.sin(angle)])
        middle = place + direction * (distance + size / 2)
        yield Bbox.from_extents(*(middle - size / 2), *(middle + size / 2))


def _fits(box: Bbox, frame: Bbox, taken: Sequence[Bbox]) -> bool:
    inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
    return inside and not any(box.overlaps(other) for other in taken)


def _write(axes: Any, name: str, place: Floats, box: Bbox) -> None:
    to_data = axes.transData.inverted()
    middle = np.array([(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2])
    arrow = {"arrowstyle": "-", "color": "grey", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 4}
    axes.annotate(
        name,
        to_data.transform(place),
        to_data.transform(middle),
        fontsize=9,
        ha="center",
        va="center",
        arrowprops=arrow if np.abs(middle - place).max() > box.width / 2 + 25 else None,
    )
