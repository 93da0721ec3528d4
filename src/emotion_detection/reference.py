"""What faces a model learned from and how it answered on the validation split: what drift is measured against.

    reference.brightness.shares()      -> float64 (B,), of the bins between `EDGES["brightness"]`
    reference.predicted                -> how often each label was answered on the validation split

The server counts the same figures of the faces that it judges, in bins with the same edges, which stand here alone.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

Floats = NDArray[np.float64]
Feature = Literal["brightness", "contrast", "sharpness", "confidence", "entropy"]
EDGES: dict[Feature, tuple[float, ...]] = {
    "brightness": (20, 40, 60, 80, 100, 120, 140, 160, 180, 200, 220, 240),
    "contrast": (10, 20, 30, 40, 50, 60, 70, 80, 90, 100),
    "sharpness": (100, 200, 300, 500, 700, 1000, 1400, 2000, 2800, 4000, 5600, 8000, 16_000),
    "confidence": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    "entropy": (0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 2.75, 3.0),
}
"""Upper ends of bins, each within its bin; a last bin has no end. Brightness, contrast and sharpness as `face_quality`
measures them, confidence of the predicted label, entropy of all probabilities in bits."""
SMOOTHING = 0.5
"""Added to every count, as Prometheus' rules for drift do to those that they compare with them."""


class Histogram(BaseModel):
    """How many values fell into each bin."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    edges: tuple[float, ...] = Field(min_length=1)
    """Increasing; a value belongs to the first bin whose edge is not below it."""
    counts: tuple[int, ...]
    """One more than edges: the last is of values above them all."""

    @model_validator(mode="after")
    def _fits(self) -> Histogram:
        if any(low >= high for low, high in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError("edges must increase")
        if len(self.counts) != len(self.edges) + 1 or min(self.counts) < 0 or sum(self.counts) == 0:
            raise ValueError("counts must be one more than edges, none below 0, not all 0")
        return self

    def shares(self) -> Floats:
        """Shares of the bins, float64 (len(edges) + 1,), none of them 0, summing to 1."""
        counts = np.asarray(self.counts, dtype=np.float64) + SMOOTHING
        shares: Floats = counts / counts.sum()
        return shares


class Reference(BaseModel):
    """Faces of the training split, and calibrated answers to those of the validation split."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    brightness: Histogram
    contrast: Histogram
    sharpness: Histogram
    confidence: Histogram
    entropy: Histogram
    predicted: dict[str, int]
    """Answers by label. A model that is not always right does not answer in the shares of its training data."""
    accuracy: float = Field(ge=0, le=1)
    """Share of those answers that were right."""
    mean_confidence: float = Field(ge=0, le=1)

    def histogram(self, feature: Feature) -> Histogram:
        found: Histogram = getattr(self, feature)
        return found

    def predicted_shares(self) -> dict[str, float]:
        """Share of each label among the answers, none of them 0, summing to 1."""
        total = sum(self.predicted.values()) + SMOOTHING * len(self.predicted)
        return {label: (count + SMOOTHING) / total for label, count in self.predicted.items()}


def histogram(feature: Feature, values: ArrayLike) -> Histogram:
    """Count values (N,), N > 0, in the bins of a feature."""
    edges = EDGES[feature]
    bins = np.searchsorted(edges, np.asarray(values, dtype=np.float64), side="left")
    return Histogram(edges=edges, counts=tuple(np.bincount(bins, minlength=len(edges) + 1).tolist()))


def entropy_bits(probabilities: ArrayLike) -> Floats:
    """Shannon entropy (N,) of probabilities (N, K) in bits, 0 to log2 K."""
    values = np.asarray(probabilities, dtype=np.float64)
    logarithms = np.log2(values, out=np.zeros_like(values), where=values > 0)
    entropies: Floats = np.maximum(0.0, -(values * logarithms).sum(axis=-1))
    return entropies
