"""Accuracy of parts of a split: which faces a model reads badly.

    slicings = [by_class(labels, names), *face_slicings(images), by_value("agreement", votes, (0.5, 0.8))]
    accuracy_by_slice(slicings, predicted == labels, confidence=0.95)      -> one row per slice

A slicing puts every image into exactly one slice, so that slices add up to the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emotion_detection.artifacts import Interval, SliceAccuracy
from emotion_detection.face_quality import measure

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Slicing:
    """One way to cut a split into slices."""

    name: str
    titles: tuple[str, ...]
    """Of the slices, in their order."""
    places: NDArray[np.intp]
    """(N,): the slice of each image, index into `titles`."""


def by_class(labels: ArrayLike, names: Sequence[str]) -> Slicing:
    """A slice for each true class; labels (N,), indices into `names`."""
    return Slicing("class", tuple(names), np.asarray(labels, np.intp))


def by_value(name: str, values: ArrayLike, edges: Sequence[float]) -> Slicing:
    """Slices by a figure of each image.

    Args:
        values: (N,); NaN where it is not known: those images are a slice of their own.
        edges: ascending; a value that equals an edge belongs below it.
    """
    known = np.asarray(values, np.float64)
    texts = [f"{edge:,.0f}" if edge >= 100 else f"{edge:.3g}" for edge in edges]
    between = [f"{low} to {high}" for low, high in pairwise(texts)]
    titles = [f"≤ {texts[0]}", *between, f"> {texts[-1]}"] if texts else ["all"]
    places = np.searchsorted(np.asarray(edges, np.float64), known, side="left")
    return Slicing(name, (*titles, UNKNOWN), np.where(np.isnan(known), len(titles), places))


def terciles(values: ArrayLike) -> tuple[float, float]:
    """Edges that cut values (N,), N > 0, into three slices of about equal size."""
    low, high = np.quantile(np.asarray(values, np.float64), (1 / 3, 2 / 3))
    return float(low), float(high)


def face_slicings(images: NDArray[np.uint8]) -> list[Slicing]:
    """Thirds of the images uint8 (N, S, S, C), N > 0, by brightness, contrast and sharpness of the face."""
    found = [measure(image, image.shape[0]) for image in images]
    figures = {name: [float(getattr(face, name)) for face in found] for name in ("brightness", "contrast", "sharpness")}
    return [by_value(name, values, terciles(values)) for name, values in figures.items()]


def accuracy_by_slice(
    slicings: Sequence[Slicing], right: NDArray[np.bool_], confidence: float
) -> tuple[SliceAccuracy, ...]:
    """Accuracy of each slice that has images, in the order of the slicings.

    Args:
        right: (N,), whether each answer is.
    """
    return tuple(
        SliceAccuracy(
            slicing=slicing.name,
            title=title,
            images=int(inside.sum()),
            accuracy=share(int((inside & right).sum()), int(inside.sum()), confidence),
        )
        for slicing in slicings
        for place, title in enumerate(slicing.titles)
        if (inside := slicing.places == place).any()
    )


def share(hits: int, images: int, confidence: float) -> Interval:
    """A share with its score interval (E. B. Wilson, "Probable inference", JASA 22:158, 1927).

    Unlike the bootstrap's it has a width where all answers are right, as happens in small slices.
    """
    z, value = NormalDist().inv_cdf((1 + confidence) / 2), hits / images
    middle = (value + z**2 / (2 * images)) / (1 + z**2 / images)
    half = z / (1 + z**2 / images) * sqrt(value * (1 - value) / images + z**2 / (4 * images**2))
    return Interval(value=value, low=max(0.0, middle - half), high=min(1.0, middle + half))
