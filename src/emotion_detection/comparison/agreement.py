"""Do models give the same answers, and err on the same images? Pairwise figures, and the images they disagree on.

pairs(["lenet", "vit"], predicted, labels)      predicted (M, N), labels (N,)
disagreement(probabilities)                     (M, N, K) -> (N,)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emotion_detection.stats import Floats, mcnemar


@dataclass(frozen=True)
class Pair:
    """Two models on the same images."""

    first: str
    second: str
    agreement: float
    """Share of images with the same answer."""
    kappa: float
    only_first: int
    """Images that the first model alone of the two has right."""
    only_second: int
    error_overlap: float
    """Images that both have wrong / images that either has wrong (Jaccard); 0 where neither errs."""
    p_value: float
    """Of McNemar's test that both are equally often right, corrected for the number of pairs (Holm 1979)."""


def pairs(names: Sequence[str], predicted: NDArray[np.integer], labels: NDArray[np.integer]) -> list[Pair]:
    """All pairs of models.

    Args:
        predicted: (M, N), in the order of `names`.
        labels: (N,), N > 0.
    """
    found = [
        _pair(names[a], names[b], predicted[a], predicted[b], labels) for a, b in combinations(range(len(names)), 2)
    ]
    corrected = holm([pair.p_value for pair in found])
    return [replace(pair, p_value=float(p)) for pair, p in zip(found, corrected, strict=True)]


def matrix(names: Sequence[str], found: Sequence[Pair], figure: str) -> Floats:
    """One figure of all pairs as a symmetric matrix (M, M) with ones on its diagonal."""
    values = np.eye(len(names))
    for pair in found:
        a, b = names.index(pair.first), names.index(pair.second)
        values[a, b] = values[b, a] = getattr(pair, figure)
    return values


def cohen_kappa(first: ArrayLike, second: ArrayLike) -> float:
    """Agreement beyond chance, at most 1; 1 where both always give one and the same answer.

    J. Cohen, "A coefficient of agreement for nominal scales", Educational and Psychological Measurement 20, 1960.

    Args:
        first, second: answers (N,), N > 0.
    """
    a, b = np.asarray(first), np.asarray(second)
    observed = float((a == b).mean())
    by_chance = float(sum((a == answer).mean() * (b == answer).mean() for answer in np.union1d(a, b)))
    return 1.0 if by_chance == 1 else (observed - by_chance) / (1 - by_chance)


def holm(p_values: Sequence[float]) -> Floats:
    """p values that hold together: of m tests the k-th smallest is multiplied by m - k + 1, and none falls below a
    smaller one.

    S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979.
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(1, np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)))
    return corrected


def disagreement(probabilities: Floats) -> Floats:
    """How far the answers of models to each image lie apart: their Jensen-Shannon divergence in bits.

    Entropy of the mean distribution less the mean entropy (Lin, IEEE Transactions on Information Theory 37, 1991):
    0 where all say the same, log2 M where M models are sure of different classes.

    Args:
        probabilities: (M, N, K).

    Returns:
        (N,).
    """
    apart: Floats = np.maximum(0, _entropy(probabilities.mean(axis=0)) - _entropy(probabilities).mean(axis=0))
    return apart


def wrong_models(predicted: NDArray[np.integer], labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Images by how many of the M models have them wrong: (M + 1,), from none to all; predicted (M, N)."""
    return np.bincount((predicted != labels).sum(axis=0), minlength=len(predicted) + 1)


def _pair(first: str, second: str, a: NDArray[np.integer], b: NDArray[np.integer], labels: NDArray[np.integer]) -> Pair:
    right_a, right_b = a == labels, b == labels
    either_wrong = int((~right_a | ~right_b).sum())
    return Pair(
        first=first,
        second=second,
        agreement=float((a == b).mean()),
        kappa=cohen_kappa(a, b),
        only_first=int((right_a & ~right_b).sum()),
        only_second=int((~right_a & right_b).sum()),
        error_overlap=int((~right_a & ~right_b).sum()) / max(either_wrong, 1),
        p_value=mcnemar(right_a, right_b),
    )


def _entropy(distributions: Floats) -> Floats:
    """In bits, over the last axis."""
    result: Floats = -(distributions * np.log2(np.maximum(distributions, 1e-300))).sum(axis=-1)
    return result
