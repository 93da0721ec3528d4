"""The shadow: the challenger judges a share of what the champion has answered, and nobody waits for it.

    queue.tap = shadow.offer          # the workers hand over what they have judged, after it is on its way

What is drawn waits in a queue of its own, for one thread that works only while most of the workers are free, and
computes where it steps back for everybody (background.py). So under load it is the first to stop: its queue fills, and
what does not fit is left out and counted. The challenger sees the very crops that the champion saw; one that takes
other input is not shown any.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from random import random
from weakref import WeakSet

import numpy as np

from emotion_detection.preprocess import Pixels
from serving.background import Background
from serving.batching import Job
from serving.challenger_metrics import Pair, ShadowMetrics
from serving.engine import Probabilities
from serving.model import ModelSlot, ServedModel
from serving.settings import Settings

RUN = 8
"""Most faces in one run of the model: between two of them it steps back."""
PAUSE, LONG_PAUSE = 0.001, 0.05
"""Seconds until it is looked again whether most workers are free: the longer they are not, the longer."""
LOOK = 1.0
"""Seconds after which a new champion or challenger has its series at the latest."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Faces of one image."""

    champion: ServedModel
    crops: Pixels
    """uint8 (n, S, S, C)"""
    rows: Probabilities
    """What the champion answered, float32 (n, K)."""
    queued: float
    """`time.perf_counter()`"""


class Shadow(threading.Thread):
    """A daemon: what waits when the process ends is nobody's answer."""

    def __init__(
        self,
        settings: Settings,
        champion: ModelSlot,
        challenger: ModelSlot,
        metrics: ShadowMetrics,
        busy: Callable[[], bool],
    ) -> None:
        """Args:
        busy: whether the workers are to be left alone.
        """
        super().__init__(name="shadow", daemon=True)
        self._share, self._size = settings.shadow_share, settings.shadow_queue_size
        self._champion, self._challenger, self._metrics, self._busy = champion, challenger, metrics, busy
        self._waiting: SimpleQueue[Sample | None] = SimpleQueue()
        self._faces, self._room = 0, threading.Lock()
        self._pair: Pair | None = None
        self._background: Background | None = None
        self._told: WeakSet[ServedModel] = WeakSet()
        self._ended = False

    def offer(self, jobs: Sequence[Job]) -> None:
        """Draw some of the jobs that have been answered. In any thread; waits for nothing."""
        for job in jobs:
            if random() >= self._share or job.model.on_trial:  # noqa: S311
                continue
            if isinstance(job.outcome, np.ndarray) and len(job.outcome):
                assert job.crops is not None  # noqa: S101  (there is no outcome without)
                self._add(Sample(job.model, job.crops, job.outcome, time.perf_counter()))

    def run(self) -> None:
        """Until `stop`."""
        while not self._ended:
            self._prepare()
            self._step()

    def stop(self) -> None:
        """End soon; what waits is left out."""
        self._ended = True
        self._waiting.put(None)
        if self.is_alive():
            self.join()

    def _add(self, sample: Sample) -> None:
        count = len(sample.crops)
        challenger = self._challenger.other_than(sample.champion)
        if challenger is None:
            return self._metrics.count("no-challenger", count)
        if not _sees_the_same(challenger, sample.champion):
            return self._metrics.count("other-input", count)
        with self._room:
            fits = self._faces + count <= self._size
            self._faces += count * fits
        if not fits:
            return self._metrics.count("queue-full", count)
        self._metrics.queue_length.inc(count)
        return self._waiting.put(sample)

    def _step(self) -> None:
        """A round of its own, so that a thread which waits holds neither faces nor a model that was replaced."""
        with suppress(Empty):
            sample = self._waiting.get(timeout=LOOK)
            if sample is not None:
                count = len(sample.crops)
                self._metrics.count(self._try(sample), count)
                self._metrics.queue_length.dec(count)
                with self._room:
                    self._faces -= count

    def _try(self, sample: Sample) -> str:
        """What becomes of a sample."""
        self._wait_for_free_workers()
        challenger = self._challenger.other_than(sample.champion)
        if challenger is None or not _sees_the_same(challenger, sample.champion):
            return "no-challenger"  # it has left meanwhile
        try:
            self._judge(sample, challenger)
        except Exception as error:
            if challenger not in self._told:
                self._told.add(challenger)
                log.warning("shadow: version %s failed: %s: %s", challenger.version, type(error).__name__, error)
            return "error"
        return "scored"

    def _judge(self, sample: Sample, challenger: ServedModel) -> None:
        pair = self._pair_of(sample.champion, challenger)
        pair.queue_seconds.observe(time.perf_counter() - sample.queued)
        starts = range(0, len(sample.crops), RUN)
        background = self._background_of(challenger)
        rows = np.concatenate([self._run(pair, background, sample.crops[start : start + RUN]) for start in starts])
        if not np.isfinite(rows).all():
            raise ArithmeticError("its answers are no finite numbers")
        pair.count(sample.rows, rows)

    def _run(self, pair: Pair, background: Background, crops: Pixels) -> Probabilities:
        self._wait_for_free_workers()
        start = time.perf_counter()
        rows, cpu_seconds = background.predict(crops)
        pair.inference_seconds.observe(time.perf_counter() - start)
        self._metrics.cpu_seconds.inc(cpu_seconds)
        return rows

    def _wait_for_free_workers(self) -> None:
        pause = PAUSE
        while self._busy() and not self._ended:
            time.sleep(pause)
            pause = min(2 * pause, LONG_PAUSE)

    def _prepare(self) -> None:
        """Have the series of whoever is there stand at zero before they are counted in, and let go of all others."""
        champion = self._champion.model
        challenger = self._challenger.other_than(champion) if champion is not None else None
        if self._background is not None and (challenger is None or self._background.engine is not challenger.engine):
            self._background = None
        if champion is None or challenger is None:
            self._pair = None
        else:
            self._pair_of(champion, challenger)

    def _background_of(self, challenger: ServedModel) -> Background:
        if self._background is None or self._background.engine is not challenger.engine:
            self._background = Background(challenger.engine)
        return self._background

    def _pair_of(self, champion: ServedModel, challenger: ServedModel) -> Pair:
        if self._pair is None or self._pair.models != (champion, challenger):
            self._pair = Pair(self._metrics, champion, challenger)
        return self._pair


def _sees_the_same(one: ServedModel, other: ServedModel) -> bool:
    """Whether two models take crops of the same side and colours."""
    first, second = one.bundle.info, other.bundle.info
    return (first.image_size, first.channels) == (second.image_size, second.channels)
