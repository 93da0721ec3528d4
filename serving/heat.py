"""Heat maps of the served model, without keeping anybody from an answer.

    heat = HeatMaps(metrics, size=16)
    await heat.explain(room, model, images, targets, client)           -> float32 (N, S, S) in [0, 1]

One thread beside the workers, and where the system lets it (Linux) with a lower priority than theirs: a heat map may
cost a hundred predictions. A model's `explain.onnx` is loaded with its first heat map and goes with the model. Most
servers are never asked for one: it would cost each of them its memory, and every swap its time, see
`python -m benchmarks.serving.heat_maps`.
"""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from emotion_detection.explain.bundles import BundleExplainer
from emotion_detection.explain.heatmaps import Heat
from emotion_detection.preprocess import Pixels
from serving.batching import Job, Outcome
from serving.errors import Overloaded
from serving.metrics import Metrics
from serving.model import ServedModel
from serving.priority import step_back
from serving.waiting import Client, WaitingRoom

Targets = NDArray[np.int64]


class HeatMaps:
    """Explains the answers of models, one after the other. `explain` belongs to one event loop."""

    def __init__(self, metrics: Metrics, size: int) -> None:
        """Args:
        size: requests that may wait for their heat maps.
        """
        self._metrics, self._size, self._waiting = metrics, size, 0
        self._explainers: WeakKeyDictionary[ServedModel, BundleExplainer] = WeakKeyDictionary()
        self._thread = ThreadPoolExecutor(1, "heat", initializer=step_back)

    def stop(self) -> None:
        """End the thread once all that waits is done."""
        self._thread.shutdown()

    def check_room(self) -> None:
        """Do nothing, or fail where `explain` would.

        Raises:
            Overloaded: too many wait already.
        """
        if self._waiting >= self._size:
            raise Overloaded(f"{self._size} requests wait for a heat map already; try again later")

    async def explain(
        self, room: WaitingRoom, model: ServedModel, images: Pixels, targets: Targets, client: Client
    ) -> Heat:
        """Explain classes `targets`, (N,), of uint8 (N, S, S, C).

        Args:
            room: where to wait for it.
            client: for whom.

        Returns:
            float32 (N, S, S) in [0, 1].

        Raises:
            Overloaded: too many wait already.
            ClientGone, TimedOut: the waiting ended before the work.
            BundleError: the bundle's `explain.onnx` has changed since the model was loaded, or cannot be run.
        """
        self.check_room()
        [outcome] = await room.wait([self._submit(model, images, targets)], client)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _submit(self, model: ServedModel, images: Pixels, targets: Targets) -> Job:
        job = Job(model, lambda: images, asyncio.get_running_loop().create_future(), time.perf_counter())
        self._waiting += 1
        job.future.add_done_callback(self._one_less)
        self._thread.submit(self._run, job, targets)
        return job

    def method(self, model: ServedModel) -> str:
        """How a model is explained."""
        explanation = model.bundle.info.explanation
        return explanation.method if explanation else "occlusion"

    def _one_less(self, _: asyncio.Future[Outcome]) -> None:
        self._waiting -= 1

    def _run(self, job: Job, targets: Targets) -> None:
        heat: list[Heat] = []
        try:
            images = job.prepare()
            for place in range(len(images)):  # one by one: between two, the client may leave
                if job.future.done():
                    return
                with self._metrics.heat_seconds.time():
                    heat.append(self._explain(job.model, images[place : place + 1], targets[place : place + 1]))
            outcome: Outcome = np.concatenate(heat) if heat else np.empty(images.shape[:3], np.float32)
        except Exception as error:
            outcome = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            job.future.get_loop().call_soon_threadsafe(job.settle, outcome)

    def _explain(self, model: ServedModel, images: Pixels, targets: Targets) -> Heat:
        explainer = self._explainers.get(model)
        if explainer is None:
            explainer = self._explainers[model] = BundleExplainer(model.bundle, model.engine.predict)
        return explainer(images, targets)


def heat_json(heat: NDArray[np.float32]) -> str:
    """A heat map (S, S) as rows of numbers with three decimals."""
    return json.dumps(heat.astype(np.float64).round(3).tolist(), separators=(",", ":"))
