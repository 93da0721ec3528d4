"""Pictures of images whose labels are suspicious."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

COLUMNS = 8


def suspects(items: Sequence[tuple[NDArray[np.uint8], Any]]) -> Figure:
    """Images (S, S, C), each with its `label`, what is `suggested` in place of it, and its `score`; at least one."""
    rows = -(-len(items) // COLUMNS)
    figure = Figure(figsize=(1.45 * COLUMNS, 1.85 * rows + 0.1))
    grid = figure.subplots(rows, COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, (image, row) in zip(grid.flat, items, strict=False):
        axes.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_title(f"{row['label']}\n→ {row['suggested']} {row['score']:.2f}", fontsize=8)
    return figure
