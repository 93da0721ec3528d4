"""Confident learning: which labels are probably wrong, from the answers of a model that has not seen them. Pure NumPy.

    limits = thresholds(labels, probabilities)
    confident = confident_classes(probabilities, limits)        # -1 where the model is sure of nothing
    joint = estimated_joint(confident_joint(labels, confident, K), np.bincount(labels, minlength=K))

C. G. Northcutt, L. Jiang, I. L. Chuang: "Confident learning: Estimating uncertainty in dataset labels", JAIR 70 (2021),
section 3. Below, labels are (N,) indices into the classes, probabilities (N, K) with rows that sum to 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from emotion_detection.stats import Counts, Floats

Labels = NDArray[np.integer]
NONE = -1


def self_confidence(labels: Labels, probabilities: Floats) -> Floats:
    """Probability of the given label, (N,)."""
    return probabilities[np.arange(len(labels)), labels]


def normalised_margin(labels: Labels, probabilities: Floats) -> Floats:
    """How far the given label is ahead of the best other class, (N,) in 0 to 1; 0.5 where the two are equal.

    (p(label) - max p(other) + 1) / 2, section 3.3 of the paper.
    """
    others = probabilities.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    return np.asarray((self_confidence(labels, probabilities) - others.max(axis=1) + 1) / 2)


def thresholds(labels: Labels, probabilities: Floats) -> Floats:
    """Mean probability of each class among the images labelled so, (K,); infinite where there is none (equation 2)."""
    sums = np.bincount(labels, self_confidence(labels, probabilities), probabilities.shape[1])
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)


def confident_classes(probabilities: Floats, limits: Floats) -> NDArray[np.intp]:
    """The most probable class of those that reach their threshold, (N,); `NONE` where none does."""
    # Rounding must not keep a class below the mean of values that all equal it.
    reached = np.where(probabilities >= limits - 1e-9, probabilities, -1.0)
    return np.where(reached.max(axis=1) >= 0, reached.argmax(axis=1), NONE)


def confident_joint(labels: Labels, confident: NDArray[np.intp], classes: int) -> Counts:
    """Images by given label (row) and the class that the model is confident of (column), (K, K); equation 1."""
    counts = np.zeros((classes, classes), np.int64)
    sure = confident != NONE
    np.add.at(counts, (labels[sure], confident[sure]), 1)
    return counts


def estimated_joint(counts: Counts, labelled: Counts) -> Floats:
    """Joint distribution of given (row) and true labels (column), (K, K), sums to 1; equation 3.

    Args:
        counts: as `confident_joint` gives them.
        labelled: images of each given label, (K,), not all zero; the marginal of the result.
    """
    rows = counts.sum(axis=1, keepdims=True)
    shares = np.where(rows > 0, counts / np.maximum(rows, 1), np.eye(len(counts)))
    return np.asarray(shares * labelled[:, None] / labelled.sum())
