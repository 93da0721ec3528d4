"""How much of its accuracy a model keeps on faces that are corrupted: `corruptions`, each at all its strengths.

    robustness = measure(predict, images, labels, how, seed)
    robustness.mean.value, robustness.by_corruption()

Evaluate asks the Keras model, the gate the bundle; both draw the same images and spoil them alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from emotion_detection import stats
from emotion_detection.artifacts import CorruptionAccuracy, Interval, Robustness
from emotion_detection.corruptions import CORRUPTIONS, Corruption, corrupt
from emotion_detection.params import EvaluationParams
from emotion_detection.slices import share

BATCH = 256
Predict = Callable[[NDArray[np.uint8]], NDArray[np.integer]]
"""Class (N,) of each image uint8 (N, S, S, C)."""


def measure(
    predict: Predict,
    images: NDArray[np.uint8],
    labels: NDArray[np.integer],
    how: EvaluationParams,
    seed: int,
) -> Robustness | None:
    """Judge a model on corrupted images, with a progress bar on a terminal.

    Args:
        images: uint8 (N, S, S, C), N > 0, of which `how.robustness_images` are drawn.
        labels: (N,).

    Returns:
        None where no image is to be drawn.
    """
    chosen = draw(len(images), how.robustness_images, seed)
    if not len(chosen):
        return None
    faces, truth = images[chosen], labels[chosen]
    changes, console = list(_changes()), Console(stderr=True)
    right = np.array(
        [
            _predict_corrupted(predict, faces, *change, seed) == truth
            for change in track(changes, "corruptions", console=console, disable=not console.is_terminal)
        ]
    )
    return Robustness(
        images=len(chosen),
        clean=_share(predict(faces) == truth, how),
        mean=mean_interval(right, how, seed),
        rows=tuple(
            CorruptionAccuracy(corruption=corruption.name, strength=strength, accuracy=_share(row, how))
            for (corruption, strength), row in zip(changes, right, strict=True)
        ),
    )


def draw(count: int, limit: int, seed: int) -> NDArray[np.intp]:
    """Places of at most `limit` of `count` images, ascending; the same for equal seeds."""
    random = np.random.default_rng(seed)
    return np.sort(random.choice(count, min(count, limit), replace=False)).astype(np.intp)


def mean_interval(right: NDArray[np.bool_], how: EvaluationParams, seed: int) -> Interval:
    """Mean of answers (changes, images) with its interval: images are resampled, each with all its changes."""
    changes = len(right)
    hits = np.bincount(right.sum(axis=0), minlength=changes + 1)  # images by how often they were read
    scores = np.arange(changes + 1) / changes

    def mean(counts: stats.Counts) -> stats.Floats:
        return np.asarray(counts @ scores / counts.sum(axis=-1))

    low, high = stats.bootstrap_interval(hits, mean, how.bootstrap, how.confidence, seed)
    return Interval(value=float(mean(hits)), low=low, high=high)


def _changes() -> Iterator[tuple[Corruption, float]]:
    return ((corruption, strength) for corruption in CORRUPTIONS for strength in corruption.strengths)


def _predict_corrupted(
    predict: Predict, faces: NDArray[np.uint8], corruption: Corruption, strength: float, seed: int
) -> NDArray[np.integer]:
    """In batches, so that memory does not depend on the number of images."""
    starts = range(0, len(faces), BATCH)
    return np.concatenate(
        [predict(corrupt(faces[start : start + BATCH], corruption, strength, seed, start)) for start in starts]
    )


def _share(right: NDArray[np.bool_], how: EvaluationParams) -> Interval:
    return share(int(right.sum()), len(right), how.confidence)
