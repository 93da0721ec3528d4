"""The queue between requests and threads: waits for no timer, never mixes models, never lets one image fail another.

    queue = BatchQueue(metrics, workers=2, size=256, max_batch=32)
    queue.start()
    [job] = queue.submit(model, [functools.partial(model.engine.crops, data)])      # on the event loop
    outcome = await job.future           # float32 (n, K), or the exception that this job ended with

A free worker takes its fair share of the jobs that wait at that moment, decodes them in its thread, and runs the
model on all of them at once: batches grow with the load, and a lone request waits for nobody.

Every job carries the model it was admitted with. What a worker takes is split by model, so a batch has one, whatever
becomes of the `ModelSlot` meanwhile; who waits for one model does not wait for the next one's batch.

A job is more general than one image. `prepare` runs in a worker and gives any number of crops, none included, and
may keep in itself whatever else it found (boxes, say): that is where other ways to come by crops are added.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import numpy as np

from emotion_detection.errors import EmotionError
from emotion_detection.preprocess import Pixels
from serving.engine import Probabilities
from serving.errors import ClientGone, Overloaded
from serving.metrics import Metrics, several_processes
from serving.model import ServedModel

Outcome = Probabilities | Exception
Prepare = Callable[[], Pixels]


@dataclass(eq=False, slots=True, repr=False)
class Job:
    """Crops that one model is to judge."""

    model: ServedModel
    prepare: Prepare
    """Gives uint8 (n, S, S, C); may raise."""
    future: asyncio.Future[Outcome]
    """Done before its time where nobody waits for it any more: the job is skipped then."""
    queued: float
    """`time.perf_counter()`"""
    crops: Pixels | None = None
    outcome: Outcome | None = None

    def forget(self) -> None:
        """Nobody waits any more: what was to be prepared goes at once, not when a worker comes across the job."""
        self.future.cancel()  # nothing where it is done
        self.prepare = _gone  # a worker that has just found the future not done may still call it

    def settle(self, outcome: Outcome) -> None:
        """Wake up who waits; the first outcome counts. On the event loop."""
        if not self.future.done():
            self.future.set_result(outcome)


class BatchQueue:
    """Jobs, and the threads that work on them. `submit` belongs to one event loop."""

    def __init__(self, metrics: Metrics, workers: int, size: int, max_batch: int) -> None:
        """Nothing runs before `start`.

        Args:
            workers: threads.
            size: jobs that may wait.
            max_batch: most jobs that a worker takes at once, and most crops in one run of the model.
        """
        self._metrics, self._size, self._max_batch = metrics, size, max_batch
        self._waiting: SimpleQueue[Job | None] = SimpleQueue()
        self.tap: Callable[[Sequence[Job]], None] | None = None
        """Is given what has been judged, in a worker, once it is on its way to who waits for it."""
        self._counts = several_processes()  # a gauge that is read there cannot call anybody here
        if not self._counts:
            metrics.queue_length.set_function(self._waiting.qsize)
        metrics.queue_capacity.set(size)
        metrics.worker_threads.set(workers)
        self._busy: set[int] = set()
        self._threads = [
            threading.Thread(target=self._work, args=(number,), name=f"worker-{number}", daemon=True)
            for number in range(workers)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads once all that waits is done."""
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    @property
    def full(self) -> bool:
        """Whether there is no room for a single job."""
        return self._waiting.qsize() >= self._size

    def busy(self) -> bool:
        """Whether half of the workers or more have work."""
        return 2 * len(self._busy) >= len(self._threads)

    def overloaded(self) -> Overloaded:
        """What `check_room` fails with."""
        return Overloaded(f"{self._size} images wait already; try again later")

    def check_room(self, jobs: int = 1) -> None:
        """Do nothing, or fail where `submit` would.

        Raises:
            Overloaded: the queue has no room for so many jobs.
        """
        if self._waiting.qsize() + jobs > self._size:
            raise self.overloaded()

    def submit(self, model: ServedModel, prepares: Sequence[Prepare]) -> list[Job]:
        """Queue jobs, all or none.

        Raises:
            Overloaded: the queue has no room for them.
        """
        self.check_room(len(prepares))
        loop, now = asyncio.get_running_loop(), time.perf_counter()
        jobs = [Job(model, prepare, loop.create_future(), now) for prepare in prepares]
        self._moved(len(jobs))
        for job in jobs:
            self._waiting.put(job)
        return jobs

    def _moved(self, by: int) -> None:
        if self._counts:
            self._metrics.queue_length.inc(by)

    def _work(self, number: int) -> None:
        while self._work_once(number):
            pass

    def _work_once(self, number: int) -> bool:
        """A round of its own, so that a thread which waits holds neither images nor a model that was replaced."""
        taken = self._take()
        self._busy.add(number)
        batches: dict[ServedModel, list[Job]] = {}
        for job in taken:
            batches.setdefault(job.model, []).append(job)
        for left, batch in enumerate(batches.values(), 1 - len(batches)):
            self._run(batch)
            if not left:  # first: who has waited for this may be back at once, and finds everybody free
                self._busy.discard(number)
            _hand_over(batch)
        if self.tap is not None:
            self.tap(taken)
        return bool(taken)

    def _take(self) -> list[Job]:
        taken = [self._waiting.get()]
        share = min(-(-(self._waiting.qsize() + 1) // len(self._threads)), self._max_batch)
        with suppress(Empty):
            while taken[-1] is not None and len(taken) < share:
                taken.append(self._waiting.get_nowait())
        jobs = [job for job in taken if job is not None]
        if jobs and len(jobs) < len(taken):
            self._waiting.put(None)  # the end, for the next round
        self._moved(-len(jobs))
        return jobs

    def _run(self, batch: list[Job]) -> None:
        for job in batch:
            if not job.future.done():
                self._prepare(job)
        ready = [job for job in batch if job.crops is not None and not job.future.done()]
        try:
            self._predict(ready)
        except Exception as error:
            for job in ready:
                job.outcome = error

    def _prepare(self, job: Job) -> None:
        self._metrics.queue_seconds.observe(time.perf_counter() - job.queued)
        try:
            job.crops = job.prepare()
        except EmotionError as error:
            job.outcome = error.with_traceback(None)  # whose frames would hold the image
        except Exception as error:
            job.outcome = error
        del job.prepare  # and with it the image

    def _predict(self, jobs: list[Job]) -> None:
        blocks = [job.crops for job in jobs if job.crops is not None]
        count = sum(map(len, blocks))
        if not jobs:
            return
        start = time.perf_counter()
        alone = len(jobs) == 1 and len(self._busy) == 1 and self._waiting.empty()
        images = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
        rows = self._rows(jobs[0].model, images, alone)
        self._metrics.inference_seconds.observe(time.perf_counter() - start)
        self._metrics.batch_size.observe(count)
        for job, block in zip(jobs, blocks, strict=True):
            job.outcome, rows = rows[: len(block)], rows[len(block) :]

    def _rows(self, model: ServedModel, images: Pixels, alone: bool) -> Probabilities:
        """Runs of `max_batch` at most: what a run takes of memory must not depend on how many faces a photo has."""
        if len(images) == 0:
            return np.empty((0, len(model.labels)), np.float32)
        starts = range(0, len(images), self._max_batch)
        runs = [model.engine.predict(images[start : start + self._max_batch], alone) for start in starts]
        return runs[0] if len(runs) == 1 else np.concatenate(runs)


def _gone() -> Pixels:
    raise ClientGone("nobody waits any more")


def _hand_over(batch: list[Job]) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        batch[0].future.get_loop().call_soon_threadsafe(_deliver, batch)


def _deliver(batch: list[Job]) -> None:
    for job in batch:
        if job.outcome is not None:
            job.settle(job.outcome)
