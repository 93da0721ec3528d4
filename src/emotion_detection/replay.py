"""Faces with a known shift, for a running server, so that one sees its panels move and its alerts fire.

    pool = read_pool(drawn_faces(seed=0))
    for phase in phases("dark-room", pool, shares, baseline=600, shifted=1800, seed=0):
        tally = send(url, phase, rate=20.0)         # see sending.py

First a baseline: faces as they are, in the shares that the model was trained on. Then the same faces, changed. What is
sent depends on the seed, the faces and the shares alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from emotion_detection.corruptions import BY_NAME, corrupt
from emotion_detection.data.sources.base import Sample
from emotion_detection.data.sources.synthetic import SyntheticSource
from emotion_detection.errors import DetectionError
from emotion_detection.labels import listed, plain
from emotion_detection.params import SplitParams, SyntheticParams
from emotion_detection.preprocess import decode, encode_png, fit

STRANGERS = 1_000_003
"""Added to the seed of drawn faces: people whom no model has been trained on."""
DRAWN, READ = 560, 20_000
"""Faces of a pool: how many are drawn, and how many of a directory are held at most."""
Pool = Mapping[str, Sequence[bytes]]
"""Image files by the plain name of their emotion, see labels.py."""


@dataclass(frozen=True)
class Scenario:
    """What is different from the training data."""

    about: str
    steps: tuple[tuple[str, float], ...] = ()
    """Corruptions by name, see corruptions.py, with their strength."""
    shares: Mapping[str, float] = field(default_factory=dict)
    """Of some emotions; the others divide the rest as before."""


SCENARIOS: Mapping[str, Scenario] = {
    "happy-hour": Scenario("eight of ten faces are happy", shares={"happy": 0.8}),
    "dark-room": Scenario("four fifths of the light are gone", (("darker", 0.8),)),
    "blur": Scenario("out of focus", (("blur", 0.05),)),
    "new-camera": Scenario(
        "less contrast, a third of the resolution, JPEG of quality 15",
        (("low contrast", 0.5), ("low resolution", 0.67), ("JPEG", 0.85)),
    ),
}


@dataclass(frozen=True)
class Phase:
    """A number of faces to send."""

    name: str
    count: int
    faces: Callable[[], Iterator[tuple[str, bytes]]]
    """Emotion and image file of each."""


def drawn_faces(seed: int, params: SyntheticParams | None = None) -> Iterator[Sample]:
    """Drawn faces of people whom no model was trained on.

    Args:
        params: how they look; as many as a pool wants are drawn.
    """
    looks = (params or SyntheticParams()).model_copy(update={"count": DRAWN})
    yield from SyntheticSource(looks, SplitParams(), seed + STRANGERS)


def read_pool(samples: Iterable[Sample]) -> Pool:
    """Hold faces in memory, by emotion; of many the first `READ`."""
    pool: dict[str, list[bytes]] = {}
    for number, sample in enumerate(samples):
        if number == READ:
            break
        pool.setdefault(plain(sample.label), []).append(sample.data)
    return pool


def phases(  # noqa: PLR0913  (each a number of its own)
    scenario: str, pool: Pool, reference: Mapping[str, float], *, baseline: int, shifted: int, seed: int
) -> list[Phase]:
    """The baseline and the shift; the former is left out where it has no faces.

    Args:
        scenario: one of `SCENARIOS`.
        reference: shares that the model was trained on, by emotion.
        baseline, shifted: faces to send.

    Raises:
        DetectionError: the pool has none of the model's emotions, or lacks one that the scenario needs.
    """
    change = SCENARIOS[scenario]
    usual = _usual(pool, reference)
    shares = _with_emphasis(usual, change.shares)
    both = [
        Phase("baseline", baseline, lambda: _faces(pool, usual, (), baseline, (seed, 1))),
        Phase(scenario, shifted, lambda: _faces(pool, shares, change.steps, shifted, (seed, 2))),
    ]
    return [phase for phase in both if phase.count]


def _faces(
    pool: Pool, shares: Mapping[str, float], steps: Sequence[tuple[str, float]], count: int, seed: tuple[int, int]
) -> Iterator[tuple[str, bytes]]:
    random = np.random.default_rng(seed)
    emotions, weights = list(shares), np.array(list(shares.values()))
    changed: dict[tuple[str, int], bytes] = {}
    for emotion in random.choice(emotions, count, p=weights / weights.sum()):
        place = int(random.integers(len(pool[emotion])))
        if steps and (emotion, place) not in changed:
            changed[emotion, place] = change_face(pool[emotion][place], steps, seed[0], place)
        yield str(emotion), changed[emotion, place] if steps else pool[emotion][place]


def change_face(data: bytes, steps: Sequence[tuple[str, float]], seed: int, place: int) -> bytes:
    """Change an image file.

    Returns:
        A PNG of its largest centred square.
    """
    image = decode(data, 3)
    face = fit(image, min(image.shape[:2]))
    for name, strength in steps:
        face = corrupt(face[np.newaxis], BY_NAME[name], strength, seed, place)[0]
    return encode_png(np.ascontiguousarray(face))


def _usual(pool: Pool, reference: Mapping[str, float]) -> dict[str, float]:
    """The reference's shares of those emotions that there are faces of, sorted by name."""
    shares = {plain(label): share for label, share in sorted(reference.items())}
    usual = {label: share for label, share in shares.items() if share > 0 and label in pool}
    if not usual:
        raise DetectionError(
            f"the faces show {listed(sorted(pool))}, the server's model knows {listed(sorted(reference))}; expected "
            "folders that are named as its labels"
        )
    return usual


def _with_emphasis(usual: Mapping[str, float], wanted: Mapping[str, float]) -> dict[str, float]:
    if missing := sorted(set(wanted) - set(usual)):
        raise DetectionError(
            f"this scenario needs faces that are {listed(missing)}; these are {listed(sorted(usual))}; choose another"
        )
    rest = sum(share for label, share in usual.items() if label not in wanted)
    left = 1 - sum(wanted.values())
    return {label: wanted.get(label, share * left / rest if rest else 0.0) for label, share in usual.items()}
