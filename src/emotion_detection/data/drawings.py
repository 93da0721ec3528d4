"""Pictures of a data set, drawn from tables and arrays; `pictures` gathers those and writes the files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

Images = NDArray[np.uint8]
GAP = 2  # pixels between the images of a mosaic
CONTRAST = 4
_TILE = 0.62  # inches
_PALE = 0.35


def classes(counts: pd.DataFrame, splits: Sequence[str]) -> Figure:
    """Bars of the images of each class, one panel for each split.

    Args:
        counts: columns `split`, `label`, `found`, `kept`.
    """
    labels = sorted(counts["label"].unique())
    figure = Figure(figsize=(11, max(2.2, 0.32 * len(labels) + 1.0)))
    colour = sns.color_palette("colorblind", 1)[0]
    panels = figure.subplots(1, len(splits), sharey=True)
    for axes, split in zip(panels, splits, strict=True):
        rows = counts[counts["split"] == split]
        for column, alpha in (("found", _PALE), ("kept", 1.0)):
            sns.barplot(rows, x=column, y="label", order=labels, color=colour, alpha=alpha, ax=axes, saturation=1)
        axes.set(title=f"{split}: {rows['kept'].sum():,} of {rows['found'].sum():,}", xlabel="Images", ylabel="")
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    return figure


def sizes(files: pd.DataFrame) -> Figure:
    """Width against height, and bars of pixel formats and file formats.

    Args:
        files: columns `width`, `height`, `mode`, `format`, `images`; one row for each combination that occurs.
    """
    figure = Figure(figsize=(11, 3.8))
    left, middle, right = figure.subplots(1, 3, width_ratios=[2, 1, 1])
    known = files.dropna(subset=["width", "height"]).groupby(["width", "height"], as_index=False)["images"].sum()
    areas = 15 + 400 * known["images"] / max(known["images"].max(), 1)
    left.scatter(known["width"], known["height"], s=areas, alpha=0.5, color=sns.color_palette("colorblind", 1)[0])
    left.set(title=f"Sizes: {len(known):,}; area: images", xlabel="Width, pixels", ylabel="Height, pixels")
    left.margins(0.15)
    for axes, column, title in ((middle, "mode", "Pixel format"), (right, "format", "File format")):
        _bars(axes, files.assign(**{column: files[column].fillna("unreadable")}).groupby(column)["images"].sum())
        axes.set(title=title, xlabel="Images", ylabel="")
    return figure


def faces(rows: Mapping[str, Images], columns: Sequence[str] = ()) -> Figure:
    """Images in rows that have names.

    Args:
        rows: for each name uint8 (N, S, S, C), N > 0; shorter rows end in white.
        columns: names above the first columns.
    """
    names, longest = list(rows), max(len(images) for images in rows.values())
    size = next(iter(rows.values())).shape[1]
    figure = Figure(figsize=(_TILE * longest + 1.6, _TILE * len(rows) + 0.3 + 0.2 * bool(columns)))
    axes = figure.subplots()
    axes.imshow(mosaic(list(rows.values()), longest), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    places = np.arange(max(len(names), len(columns))) * (size + GAP) + size / 2
    axes.set_yticks(places[: len(names)], names)
    axes.set_xticks(places[: len(columns)], columns)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.grid(visible=False)
    axes.set_frame_on(False)
    return figure


def means(images: Mapping[str, Images]) -> Figure:
    """The mean image (S, S, C) of each class, and below it what sets it apart from their mean, enlarged."""
    stack = np.stack(list(images.values()))
    apart = 128 + CONTRAST * (stack - stack.mean(axis=0))
    return faces({"mean": stack, "apart": apart.round().clip(0, 255).astype(np.uint8)}, columns=list(images))


def mosaic(rows: Sequence[Images], longest: int) -> Images:
    """Put rows of images (N, S, S, C) into one image (height, width) or (height, width, 3), with white gaps."""
    _, size, _, channels = rows[0].shape
    step = size + GAP
    canvas = np.full((len(rows) * step - GAP, longest * step - GAP, channels), 255, np.uint8)
    for row, images in enumerate(rows):
        for column, image in enumerate(images):
            canvas[row * step : row * step + size, column * step : column * step + size] = image
    return canvas[:, :, 0] if channels == 1 else canvas


def crossed_out(size: int, channels: int) -> Images:
    """What stands for an image that cannot be decoded: a grey cross, uint8 (S, S, C)."""
    image = np.full((size, size, channels), 235, np.uint8)
    diagonal = np.arange(size)
    image[diagonal, diagonal] = image[diagonal, size - 1 - diagonal] = 120
    return image


def _bars(axes: Any, counts: pd.Series) -> None:
    counts = counts.sort_values(ascending=False, kind="stable")
    colour = sns.color_palette("colorblind", 1)[0]
    sns.barplot(x=counts.to_numpy(), y=list(counts.index), orient="h", color=colour, saturation=1, width=0.6, ax=axes)
    axes.set_ylim(max(2.5, len(counts) - 0.5), -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
