"""Pictures of where a model loses accuracy: slices of the test split, and faces that were corrupted.

    write_figures(directory, {"slices": partial(slices, rows, overall), "robustness": partial(robustness, found, face)})

Colours and style are those of `figures`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from numpy.typing import NDArray

from emotion_detection.artifacts import Robustness, SliceAccuracy
from emotion_detection.corruptions import BY_NAME, corrupt
from emotion_detection.stats import Floats


def slices(rows: Sequence[SliceAccuracy], overall: float) -> Figure:
    """Accuracy of each slice with its interval and its number of images, against that of the whole test split."""
    figure = Figure(figsize=(7.6, 0.27 * len(rows) + 1.6))
    axes = figure.subplots()
    groups = [list(group) for _, group in groupby(rows, key=lambda row: row.slicing)]
    places = _places([len(group) for group in groups])
    for group, place, colour in zip(groups, places, sns.color_palette("colorblind", len(groups)), strict=True):
        values, low, high = (
            np.array([getattr(row.accuracy, end) for row in group]) for end in ("value", "low", "high")
        )
        errors = [np.maximum(values - low, 0), np.maximum(high - values, 0)]
        axes.errorbar(values, place, xerr=errors, fmt="o", color=colour, elinewidth=1.5, label=group[0].slicing)
    axes.axvline(overall, color="black", linestyle="--", linewidth=1, label=f"all: {overall:.3f}")
    named = [f"{row.title}  ({row.images:,})" for row in rows]
    axes.set(xlabel="Accuracy on test", yticks=np.concatenate(places), yticklabels=named)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    figure.legend(loc="outside upper center", ncols=len(groups) + 1)
    return figure


def robustness(found: Robustness, face: NDArray[np.uint8], seed: int) -> Figure:
    """Accuracy under each corruption at each strength, beside what the corruption makes of a face (S, S, C)."""
    names = list(found.by_corruption())
    texts = [f"{row.accuracy.value:.2f}\n{row.strength:g}" for row in found.rows]
    figure = Figure(figsize=(8.4, 0.68 * len(names) + 1.2))
    numbers, pictures = figure.subplots(1, 2, width_ratios=[1.7, 1])
    figure.suptitle(
        f"Accuracy on {found.images:,} corrupted test images: {found.mean.value:.3f} on average, "
        f"{found.clean.value:.3f} as they are"
    )
    sns.heatmap(
        np.array([row.accuracy.value for row in found.rows]).reshape(len(names), -1),
        annot=np.array(texts).reshape(len(names), -1),
        fmt="",
        annot_kws={"fontsize": 9},
        cmap="Blues",
        vmin=0,
        vmax=1,
        cbar=False,
        linewidths=0.5,
        xticklabels=["weak", "medium", "strong"],
        yticklabels=names,
        ax=numbers,
    )
    numbers.tick_params(axis="y", rotation=0)
    numbers.set_xlabel("Accuracy, and below it the strength")
    pictures.imshow(_mosaic(face, names, seed), cmap="gray", vmin=0, vmax=255, aspect="auto", interpolation="nearest")
    pictures.axis("off")
    return figure


def _places(sizes: Sequence[int]) -> list[Floats]:
    """Places of the rows from top to bottom, with a gap between groups."""
    starts = np.cumsum([0, *sizes[:-1]]) + 0.6 * np.arange(len(sizes))
    return [start + np.arange(size, dtype=np.float64) for start, size in zip(starts, sizes, strict=True)]


def _mosaic(face: NDArray[np.uint8], names: Sequence[str], seed: int) -> NDArray[np.uint8]:
    """The face under each corruption, a row each, from weak to strong."""
    rows = [
        np.hstack([corrupt(face[np.newaxis], BY_NAME[name], strength, seed)[0] for strength in BY_NAME[name].strengths])
        for name in names
    ]
    return np.vstack(rows).squeeze()
