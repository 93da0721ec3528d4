"""The embedded data set: drawn faces, each a pure function of the seed and its index.

    source = SyntheticSource(SyntheticParams(), SplitParams(), seed=0)
    source.sample(123)      # the same bytes in any order, in any process

Each person is drawn eight times: with every emotion once, and with one of them a second time, more often a common one.
So happy, neutral and sad make up 15 % of the images each, the other four 13.75 %. All pictures of a person stand in one
split.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from emotion_detection.data.sources.action_units import EMOTIONS, Points, geometry
from emotion_detection.data.sources.base import Sample
from emotion_detection.data.sources.faces import Person, sample_person
from emotion_detection.data.sources.shots import Shot, photograph, project, render, sample_shot
from emotion_detection.params import Split, SplitParams, SyntheticParams

IMAGES_PER_PERSON = 8
_TWICE = ("happy", "neutral", "sad", "angry", "surprise", "happy", "neutral", "fear", "sad", "disgust")
_GOLDEN_RATIO = (5**0.5 - 1) / 2
_PEOPLE, _IMAGES = 1, 2  # keep the random streams of person 7 and image 7 apart


class SyntheticSource:
    """Drawn faces.

    Args:
        params: how many, how hard, how large.
        split: shares of the people in val and test.
        seed: at least 0.
    """

    kind = "synthetic"
    named_splits: frozenset[Split] = frozenset(("train", "val", "test"))

    def __init__(self, params: SyntheticParams, split: SplitParams, seed: int) -> None:
        self.params, self.split, self.seed = params, split, seed

    def __len__(self) -> int:
        return self.params.count

    def __iter__(self) -> Iterator[Sample]:
        return map(self.sample, range(len(self)))

    def sample(self, index: int) -> Sample:
        """Draw one image: a JPEG with `params.image_size` pixels a side.

        Raises:
            IndexError: `index` is not in 0 to len - 1.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"index {index}: expected 0 to {len(self) - 1}")
        person, label = person_of(index), label_of(index)
        split = split_of(person, self.seed, self.split)
        data = draw(self.seed, index, label, self.params)
        return Sample(f"{split}/{label}/{index:06d}.jpg", label, data, split)


def draw(seed: int, index: int, label: str, params: SyntheticParams) -> bytes:
    """The JPEG of one image of the person that `index` belongs to, showing `label`."""
    rng, shot = _shot(seed, index, label, params)
    return photograph(rng, render(person(seed, person_of(index)), shot, params.image_size), shot)


def landmarks(seed: int, index: int, label: str, params: SyntheticParams) -> Points:
    """Where the curves `action_units.CURVES` lie in the image that `draw` makes: float64 (vertices, 2), pixels."""
    _, shot = _shot(seed, index, label, params)
    vertices = geometry(shot.actions, person(seed, person_of(index)).shape, shot.asymmetry)
    return project(vertices, shot, params.image_size)


def _shot(seed: int, index: int, label: str, params: SyntheticParams) -> tuple[np.random.Generator, Shot]:
    rng = np.random.default_rng([seed, _IMAGES, index])
    return rng, sample_shot(rng, label, params.difficulty)


@lru_cache(maxsize=16)
def person(seed: int, number: int) -> Person:
    """Person `number` of the data set."""
    return sample_person(np.random.default_rng([seed, _PEOPLE, number]))


def person_of(index: int) -> int:
    """Number of the person that an image shows."""
    return index // IMAGES_PER_PERSON


def label_of(index: int) -> str:
    """Label of an image; where `count` cuts the last person short, the missing labels differ from case to case."""
    number = person_of(index)
    labels = (*EMOTIONS, _TWICE[number % len(_TWICE)])
    return labels[(index + number) % IMAGES_PER_PERSON]


def split_of(number: int, seed: int, split: SplitParams) -> Split:
    """Split of a person, whatever the size of the data set.

    Multiples of the golden ratio (modulo 1) fill the unit interval evenly, so the shares hold to within one or two
    people; a random draw would leave small data sets without a test split.
    """
    place = (number * _GOLDEN_RATIO + 0.5 + seed * 2**0.5) % 1
    if place < split.test:
        return "test"
    return "val" if place < split.test + split.val else "train"
