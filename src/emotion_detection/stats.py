"""Statistics of classification: calibration, intervals, paired comparisons. NumPy alone.

    confusion_matrix, accuracy, macro_f1, precision, recall     figures of one split
    softmax, fit_temperature, expected_calibration_error        calibration
    bootstrap_interval, paired_bootstrap, mcnemar               how sure we are, and which model is better

Resampling n images with replacement and counting is the same as drawing the counts from a multinomial
distribution. So every bootstrap here draws counts: time and memory do not depend on the number of images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

Statistic = Callable[[Counts], Floats]

TEMPERATURES = (0.05, 20.0)
_BLOCK = 1_000_000  # numbers held at once while resampling


def softmax(logits: ArrayLike) -> Floats:
    """Probabilities of logits (..., K), over the last axis."""
    values = np.asarray(logits, dtype=np.float64)
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    result: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return result


def confusion_matrix(labels: ArrayLike, predicted: ArrayLike, classes: int) -> Counts:
    """Counts (K, K): row the true class, column the predicted one; both inputs (N,), in 0 to K - 1."""
    cells = np.asarray(labels, dtype=np.int64) * classes + np.asarray(predicted, dtype=np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def accuracy(confusion: ArrayLike) -> Floats:
    """Share of correct answers; confusion (..., K, K) -> (...)."""
    counts = np.asarray(confusion)
    return _ratio(_hits(counts).sum(axis=-1), counts.sum(axis=(-2, -1)))


def recall(confusion: ArrayLike) -> Floats:
    """Share of each true class that was found; confusion (..., K, K) -> (..., K); 0 for a class without images."""
    counts = np.asarray(confusion)
    return _ratio(_hits(counts), counts.sum(axis=-1))


def precision(confusion: ArrayLike) -> Floats:
    """Share of each predicted class that was right; (..., K, K) -> (..., K); 0 for a class never predicted."""
    counts = np.asarray(confusion)
    return _ratio(_hits(counts), counts.sum(axis=-2))


def f1(confusion: ArrayLike) -> Floats:
    """Harmonic mean of precision and recall; confusion (..., K, K) -> (..., K); 0 for a class never seen."""
    counts = np.asarray(confusion)
    return _ratio(2 * _hits(counts), counts.sum(axis=-1) + counts.sum(axis=-2))


def macro_f1(confusion: ArrayLike) -> Floats:
    """Mean F1 of the classes that occur, as truth or as answer; confusion (..., K, K) -> (...)."""
    counts = np.asarray(confusion)
    occurring = (counts.sum(axis=-1) + counts.sum(axis=-2)) > 0
    return _ratio(f1(counts).sum(axis=-1), occurring.sum(axis=-1))


def balanced_accuracy(confusion: ArrayLike) -> Floats:
    """Mean recall of the classes that have images; confusion (..., K, K) -> (...)."""
    counts = np.asarray(confusion)
    return _ratio(recall(counts).sum(axis=-1), (counts.sum(axis=-1) > 0).sum(axis=-1))


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """Temperature T that minimises the mean negative log-likelihood of softmax(logits / T).

    Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017. The likelihood is
    convex in 1 / T, so halving the interval of log T by the sign of its slope always finds the minimum.

    Args:
        logits: (N, K), finite, N > 0.
        labels: (N,), in 0 to K - 1.

    Returns:
        T within `TEMPERATURES`: near the lower end where every answer is right, 1 where all T are equally good.
    """
    values = np.asarray(logits, dtype=np.float64)
    true = np.take_along_axis(values, np.asarray(labels, dtype=np.int64)[:, None], axis=1).mean()
    low, high = np.log(TEMPERATURES)
    for _ in range(50):
        middle = (low + high) / 2
        slope = (softmax(values / np.exp(middle)) * values).sum(axis=1).mean() - true  # of the loss, by 1 / T
        if slope == 0:
            break
        low, high = (middle, high) if slope > 0 else (low, middle)
    return float(np.exp(middle))


@dataclass(frozen=True)
class Reliability:
    """Answers grouped by their confidence into equal-width bins; each array (bins,)."""

    counts: Counts
    confidence: Floats
    """Mean probability of the predicted class; 0 in empty bins."""
    accuracy: Floats
    """Share of correct answers; 0 in empty bins."""

    @property
    def error(self) -> float:
        """Expected calibration error, 0 to 1."""
        gaps = np.abs(self.accuracy - self.confidence)
        return float((gaps * self.counts).sum() / self.counts.sum())


def reliability(probabilities: ArrayLike, labels: ArrayLike, bins: int) -> Reliability:
    """Group answers by confidence into bins ((m - 1) / M, m / M]; probabilities (N, K), labels (N,), N > 0."""
    values = np.asarray(probabilities, dtype=np.float64)
    confidence, correct = values.max(axis=1), values.argmax(axis=1) == np.asarray(labels)
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(index, minlength=bins)
    return Reliability(
        counts=counts,
        confidence=_ratio(np.bincount(index, confidence, minlength=bins), counts),
        accuracy=_ratio(np.bincount(index, correct, minlength=bins), counts),
    )


def expected_calibration_error(probabilities: ArrayLike, labels: ArrayLike, bins: int) -> float:
    """Mean gap between confidence and accuracy over equal-width bins, weighted by their images, 0 to 1.

    Naeini, Cooper, Hauskrecht: Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015.

    Args:
        probabilities: (N, K), N > 0.
        labels: (N,), in 0 to K - 1.
    """
    return reliability(probabilities, labels, bins).error


def bootstrap_interval(
    counts: ArrayLike, statistic: Statistic, resamples: int, confidence: float, seed: int
) -> tuple[float, float]:
    """Percentile bootstrap interval of a statistic of counts.

    Efron, Tibshirani: An Introduction to the Bootstrap, 1993, section 13.3.

    Args:
        counts: how many images fell into each cell, of any shape, for example a confusion matrix; not all 0.
        statistic: from counts (R, *shape) to values (R,).
        confidence: coverage, 0 to 1.

    Returns:
        Lower and upper end.
    """
    observed = np.asarray(counts, dtype=np.int64)
    total, random = observed.sum(), np.random.default_rng(seed)
    shares = observed.ravel() / total
    block = max(1, _BLOCK // observed.size)
    values = [
        statistic(random.multinomial(total, shares, size=min(block, resamples - start)).reshape(-1, *observed.shape))
        for start in range(0, resamples, block)
    ]
    low, high = np.quantile(np.concatenate(values), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def paired_bootstrap(
    correct_challenger: ArrayLike, correct_champion: ArrayLike, resamples: int, confidence: float, seed: int
) -> tuple[float, float, float]:
    """Difference in accuracy of two models on the same images, with its percentile bootstrap interval.

    Args:
        correct_challenger, correct_champion: bool (N,), the same images in the same order, N > 0.

    Returns:
        Challenger minus champion, lower end, upper end.
    """
    first, second = _paired(correct_challenger, correct_champion)
    counts = np.array([(first & ~second).sum(), (~first & second).sum(), (first == second).sum()])

    def difference(drawn: Counts) -> Floats:
        return _ratio(drawn[..., 0] - drawn[..., 1], drawn.sum(axis=-1))

    low, high = bootstrap_interval(counts, difference, resamples, confidence, seed)
    return float(difference(counts)), low, high


def mcnemar(correct_a: ArrayLike, correct_b: ArrayLike) -> float:
    """Two-sided mid-p value of McNemar's test that two models are equally often right on the same images.

    Fagerland, Lydersen, Laake: The McNemar test for binary matched-pairs data, BMC Medical Research
    Methodology 13:91, 2013: the mid-p form keeps its level from the smallest counts on.

    Args:
        correct_a, correct_b: bool (N,), the same images in the same order.

    Returns:
        p value, 0 to 1; 1 where the models disagree on no image.
    """
    first, second = _paired(correct_a, correct_b)
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    total, fewer = only_first + only_second, min(only_first, only_second)
    steps = np.arange(1, fewer + 1)
    # log of C(n, k) / 2^n for k = 0 to `fewer`: binomial probabilities that neither overflow nor vanish
    log_probability = np.cumsum(np.r_[-total * np.log(2), np.log((total - steps + 1) / steps)])
    probability = np.exp(log_probability)
    return float(min(1.0, 2 * probability.sum() - probability[-1]))


def _hits(confusion: NDArray[np.integer]) -> NDArray[np.integer]:
    return np.diagonal(confusion, axis1=-2, axis2=-1)


def _ratio(part: ArrayLike, whole: ArrayLike) -> Floats:
    """part / whole, 0 where whole is 0."""
    return np.asarray(part, dtype=np.float64) / np.maximum(np.asarray(whole, dtype=np.float64), 1e-300)


def _paired(first: ArrayLike, second: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if a.shape != b.shape:
        raise ValueError(f"paired answers must be of the same images; got shapes {a.shape} and {b.shape}")
    return a, b
