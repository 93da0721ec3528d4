"""Crowd votes of an image: how many people saw which emotion in it.

    votes = {"happy": 7.0, "neutral": 2.0, "no face": 1.0, "unknown": 0.0}
    distribution(votes, ("Happy", "neutral", "sad"))     [0.78, 0.22, 0.0]
    no_face_share(votes)                                 0.1

Categories have the names of `labels.plain`. Those that the data set lacks, such as FER+'s contempt, are counted among
the votes, but nothing is learnt from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from emotion_detection.labels import plain

Votes = Mapping[str, float]
NO_FACE, UNKNOWN = "no face", "unknown"


def distribution(votes: Votes, labels: Sequence[str]) -> NDArray[np.float32] | None:
    """Share of each label among the votes for any of them, float32 (K,); None where nobody voted for one.

    E. Barsoum et al., "Training deep networks for facial expression recognition with crowd-sourced label
    distribution" (2016), section 3.4.
    """
    counts = np.array([votes[plain(label)] for label in labels], np.float64)
    total = counts.sum()
    return (counts / total).astype(np.float32) if total else None


def target(votes: Votes | None, label: str, labels: Sequence[str]) -> NDArray[np.float32]:
    """What a model learns to answer, float32 (K,): the `distribution`, or the label alone where there is none."""
    shares = distribution(votes, labels) if votes else None
    return np.eye(len(labels), dtype=np.float32)[labels.index(label)] if shares is None else shares


def voters(votes: Votes | None, labels: Sequence[str]) -> float:
    """Of how many votes the `distribution` is; 0 where there is none."""
    return sum(votes[plain(label)] for label in labels) if votes else 0


def no_face_share(votes: Votes | None) -> float:
    """Share of the votes for "no face", in 0 to 1; NaN without votes."""
    total = sum(votes.values()) if votes else 0
    return votes.get(NO_FACE, 0) / total if votes and total else float("nan")


def missing_labels(categories: Iterable[str], labels: Iterable[str]) -> list[str]:
    """The labels of a data set for which nobody could vote."""
    known = set(categories)
    return [label for label in labels if plain(label) not in known]
