"""How far a distribution has moved, in NumPy: what PromQL and `comparison.agreement` are held against."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from emotion_detection.stats import Floats


def population_stability_index(reference: ArrayLike, counts: ArrayLike) -> float:
    """How far observed counts have moved from reference shares; 0: not at all, above 0.25: much.

    Sum of (p - q) log(p / q), the symmetric Kullback-Leibler divergence (Jeffreys 1946). Half an image is
    added to every count and no reference share counts as less than one in a million, so that empty classes
    and no traffic at all give finite values.

    Args:
        reference: shares (K,), summing to 1.
        counts: observed answers per class (K,).
    """
    expected = np.maximum(np.asarray(reference, dtype=np.float64), 1e-6)
    observed = np.asarray(counts, dtype=np.float64) + 0.5
    observed /= observed.sum()
    return float(((observed - expected) * np.log(observed / expected)).sum())


def jensen_shannon(first: ArrayLike, second: ArrayLike) -> float:
    """Jensen-Shannon divergence of two distributions (K,) in bits, 0 to 1; each is scaled to sum 1.

    Lin: Divergence Measures Based on the Shannon Entropy, IEEE Transactions on Information Theory 37, 1991.
    """
    p, q = (np.asarray(values, dtype=np.float64) for values in (first, second))
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2
    return float(max(0.0, (_kullback_leibler(p, middle) + _kullback_leibler(q, middle)) / 2))


def _kullback_leibler(p: Floats, q: Floats) -> float:
    used = p > 0
    return float((p[used] * np.log2(p[used] / q[used])).sum())
