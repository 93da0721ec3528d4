"""What every source gives: labelled, encoded images, one after the other.

for sample in source:
    print(sample.path, sample.label, sample.split, len(sample.data))
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from emotion_detection.params import Split


@dataclass(frozen=True)
class Sample:
    """One labelled image."""

    path: str
    """Inside the source, with "/"; unique there."""
    label: str
    """Class name as the source has it."""
    data: bytes
    """The encoded image, untouched."""
    split: Split | None
    """None where the source names no split."""
    votes: Mapping[str, float] | None = None
    """How many people saw what in it, by `labels.plain` names; None where `data.votes` has nothing about it."""
    only_train: bool = False
    """Never to be cut out for val or test."""


class Source(Protocol):
    """Labelled images in a fixed order; iterating again starts over."""

    kind: str
    """synthetic, directory, archive, fer_csv, feedback or kaggle."""
    named_splits: frozenset[Split]
    """Splits that the source names itself, known before the first image; empty: every sample's split is None."""

    def __len__(self) -> int:
        """Number of images."""

    def __iter__(self) -> Iterator[Sample]:
        """Stream the images, holding one at a time."""
