"""Faces sent to a server at a steady rate, and what it answers; `replay.py` says which faces.

tally = send("http://127.0.0.1:8000", phase, rate=20.0)
tally.summary()
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from emotion_detection.detection import ServerDetector
from emotion_detection.errors import DetectionError, ImageError
from emotion_detection.labels import plain
from emotion_detection.replay import Phase

CONNECTIONS, GIVE_UP = 8, 100
"""Requests at a time; and how many in a row may fail before no more are sent."""


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
    right: Counter[str] = field(default_factory=Counter)
    """Answers that were as the face's label, by version."""
    judged: int = 0
    """Answers of which the server was told what the face shows."""
    failures: Counter[str] = field(default_factory=Counter)
    """Requests without an answer, by what was said."""
    confidence: float = 0.0
    """Sum over all answers."""
    milliseconds: list[float] = field(default_factory=list)
    """From request to answer."""
    seconds: float = 0.0
    """That it took in all."""
    failed_in_a_row: int = 0

    def add(self, emotion: str, record: Mapping[str, Any], milliseconds: float) -> None:
        """Count an answer to a face that shows `emotion`."""
        self.failed_in_a_row = 0
        label, version = plain(record["label"]), str(record["model"]["version"])
        self.answered[label] += 1
        self.versions[version] += 1
        self.right[version] += label == emotion
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
            "accuracy": round(self.right.total() / answers, 4) if answers else None,
            "judged": self.judged,
            "versions": dict(self.versions),
            "median_ms": slow[0],
            "p99_ms": slow[1],
        }


def send(
    url: str, phase: Phase, rate: float, advance: Callable[[], object] = lambda: None, feedback: float = 0.0
) -> Tally:
    """Send a phase's faces, evenly spaced where the server keeps up.

    Args:
        url: of the server.
        rate: faces per second.
        advance: called after each answer.
        feedback: share of the faces of which the server is then told what they show.
    """
    tally, own, lock = Tally(phase.name), threading.local(), threading.Lock()
    room = threading.Semaphore(2 * CONNECTIONS)  # no more is held in memory where the server is slower

    def judge(emotion: str, data: bytes, tell: bool) -> None:
        if not hasattr(own, "detector"):
            own.detector = ServerDetector(url)
        start = time.perf_counter()
        try:
            record = own.detector.file(data, "none")
            milliseconds = 1000 * (time.perf_counter() - start)
            label = next((label for label in record["probabilities"] if plain(label) == emotion), None)
            if tell and label is not None:
                own.detector.tell(record, label)
        except (DetectionError, ImageError) as error:
            with lock:
                tally.fail(str(error))
        else:
            with lock:
                tally.add(emotion, record, milliseconds)
                tally.judged += tell and label is not None
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
            task = threads.submit(judge, emotion, data, int((number + 1) * feedback) > int(number * feedback))
            task.add_done_callback(lambda _: room.release())
            tasks.append(task)
    for task in tasks:
        task.result()  # what should never happen is not kept quiet
    tally.seconds = max(time.monotonic() - start, len(tasks) / rate)
    return tally


def _shares(counts: Mapping[str, int]) -> dict[str, float]:
    total = sum(counts.values())
    return {label: round(count / total, 4) for label, count in sorted(counts.items())}
