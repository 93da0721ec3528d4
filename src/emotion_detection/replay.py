"""Faces with a known shift, sent to a running server, so that one sees its panels move and its alerts fire.

    pool = read_pool(drawn_faces(seed=0))
    for phase in phases("dark-room", pool, shares, baseline=600, shifted=1800, seed=0):
        tally = send(url, phase, rate=20.0)

First a baseline: faces as they are, in the shares that the model was trained on. Then the same faces, changed. What is
sent depends on the seed, the faces and the shares alone.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from emotion_detection.corruptions import BY_NAME, corrupt
from emotion_detection.data.sources.base import Sample
from emotion_detection.data.sources.synthetic import SyntheticSource
from emotion_detection.detection import ServerDetector
from emotion_detection.errors import DetectionError, ImageError
from emotion_detection.labels import listed, plain
from emotion_detection.params import SplitParams, SyntheticParams
from emotion_detection.preprocess import decode, encode_png, fit

STRANGERS = 1_000_003
"""Added to the seed of drawn faces: people whom no model has been trained on."""
DRAWN, READ = 560, 20_000
"""Faces of a pool: how many are drawn, and how many of a directory are held at most."""
CONNECTIONS, GIVE_UP = 8, 100
"""Requests at a time; and how many in a row may fail before no more are sent."""
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


@dataclass
class Tally:
    """What was sent in a phase, and what the server answered."""

    phase: str
    sent: Counter[str] = field(default_factory=Counter)
    """Faces by emotion."""
    answered: Counter[str] = field(default_factory=Counter)
    """Answers by emotion."""
    versions: Counter[str] = field(default_factory=Counter)
    """Answers by version of the model."""
    failures: Counter[str] = field(default_factory=Counter)
    """Requests without an answer, by what was said."""
    confidence: float = 0.0
    """Sum over all answers."""
    milliseconds: list[float] = field(default_factory=list)
    """From request to answer."""
    seconds: float = 0.0
    """That it took in all."""
    failed_in_a_row: int = 0

    def add(self, record: Mapping[str, Any], milliseconds: float) -> None:
        """Count an answer."""
        self.failed_in_a_row = 0
        self.answered[plain(record["label"])] += 1
        self.versions[str(record["model"]["version"])] += 1
        self.confidence += record["confidence"]
        self.milliseconds.append(milliseconds)

    def fail(self, why: str) -> None:
        """Count a request without an answer."""
        self.failed_in_a_row += 1
        self.failures[why] += 1

    def summary(self) -> dict[str, Any]:
        """The figures, ready for JSON: shares 0 to 1, times in milliseconds."""
        answers = sum(self.answered.values())
        slow = np.percentile(self.milliseconds, [50, 99]).round(2).tolist() if self.milliseconds else [None, None]
        return {
            "phase": self.phase,
            "sent": sum(self.sent.values()),
            "answered": answers,
            "failed": dict(self.failures),
            "per_second": round(sum(self.sent.values()) / self.seconds, 2) if self.seconds else 0.0,
            "sent_shares": _shares(self.sent),
            "answered_shares": _shares(self.answered),
            "mean_confidence": round(self.confidence / answers, 4) if answers else None,
            "versions": dict(self.versions),
            "median_ms": slow[0],
            "p99_ms": slow[1],
        }


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


def send(url: str, phase: Phase, rate: float, advance: Callable[[], object] = lambda: None) -> Tally:
    """Send a phase's faces, evenly spaced where the server keeps up.

    Args:
        url: of the server.
        rate: faces per second.
        advance: called after each answer.
    """
    tally, own, lock = Tally(phase.name), threading.local(), threading.Lock()
    room = threading.Semaphore(2 * CONNECTIONS)  # no more is held in memory where the server is slower

    def judge(data: bytes) -> None:
        if not hasattr(own, "detector"):
            own.detector = ServerDetector(url)
        start = time.perf_counter()
        try:
            record = own.detector.file(data, "none")
        except (DetectionError, ImageError) as error:
            with lock:
                tally.fail(str(error))
        else:
            with lock:
                tally.add(record, 1000 * (time.perf_counter() - start))
        advance()

    start = time.monotonic()
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        tasks: list[Future[None]] = []
        for number, (emotion, data) in enumerate(phase.faces()):
            time.sleep(max(0.0, start + number / rate - time.monotonic()))
            room.acquire()
            if tally.failed_in_a_row >= GIVE_UP:
                break
            tally.sent[emotion] += 1
            task = threads.submit(judge, data)
            task.add_done_callback(lambda _: room.release())
            tasks.append(task)
    for task in tasks:
        task.result()  # what should never happen is not kept quiet
    tally.seconds = max(time.monotonic() - start, len(tasks) / rate)
    return tally


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


def _shares(counts: Mapping[str, int]) -> dict[str, float]:
    total = sum(counts.values())
    return {label: round(count / total, 4) for label, count in sorted(counts.items())}
