"""Figures of explanations; `figures.write_figures` writes them.

write_figures(directory, {"explanations": partial(explanations, items, "Grad-CAM at conv5")})
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from emotion_detection.explain.heatmaps import Images, Method, overlay

COLUMNS = 6
CHANNELS = 8
SIDE = 192  # pixels of an overlay
NAMES: Mapping[Method, str] = {
    "grad_cam": "Grad-CAM",
    "attention_rollout": "Attention rollout",
    "occlusion": "Occlusion",
}


@dataclass(frozen=True)
class Explained:
    """A face, and where in it the reason for an answer lies."""

    image: Images
    """uint8 (S, S, C)."""
    heat: NDArray[np.float32]
    """(S, S), 0 to 1."""
    title: str


def explanations(items: Sequence[Explained], title: str) -> Figure:
    """Faces, each above its overlay."""
    rows = -(-len(items) // COLUMNS)
    figure = Figure(figsize=(1.75 * COLUMNS, 3.9 * rows + 0.4))
    figure.suptitle(title)
    grid = figure.subplots(2 * rows, COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for number, item in enumerate(items):
        row, column = divmod(number, COLUMNS)
        _face(grid[2 * row, column], item.image)
        grid[2 * row, column].set_title(item.title, fontsize=9)
        grid[2 * row + 1, column].imshow(overlay(item.image, item.heat, SIDE))
        if not item.heat.any():
            grid[2 * row + 1, column].set_title("no part speaks for it", fontsize=8)
    return figure


def channels(image: Images, maps: Mapping[str, NDArray[np.float32]]) -> Figure:
    """The channels of each block that vary most over one face, strongest first; each scaled by itself."""
    figure = Figure(figsize=(1.3 * (CHANNELS + 1), 1.5 * len(maps) + 0.5))
    figure.suptitle("Feature maps of the convolution blocks: dark is low, bright is high")
    grid = figure.subplots(len(maps), CHANNELS + 1, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    _face(grid[0, 0], image)
    for axes, (name, values) in zip(grid, maps.items(), strict=True):
        strongest = np.argsort(-values.std(axis=(0, 1)), kind="stable")[:CHANNELS]
        axes[1].set_title(f"{name}, {values.shape[0]} x {values.shape[1]} x {values.shape[2]}", loc="left", fontsize=8)
        for cell, channel in zip(axes[1:], strongest, strict=False):
            cell.imshow(values[:, :, channel], cmap="viridis", interpolation="nearest")
    return figure


def _face(axes: Any, image: Images) -> None:
    axes.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
