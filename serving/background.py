"""A model that judges in the background: its thread steps back, and never keeps Python's lock from the others.

    background = Background(engine)
    rows, cpu_seconds = background.predict(images)

A thread of low priority that holds the lock stops the whole process wherever another program wants its core. So the
caller's thread has the priority of all others, and waits; ONNX Runtime computes in a thread of its own, which has
inherited its priority from the one that opened the session.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

from emotion_detection.bundle import INPUT_NAME, OUTPUT_NAME
from emotion_detection.preprocess import Pixels
from serving.engine import Engine, Probabilities, open_session
from serving.priority import step_back

THREADS = 2
"""Of the session: the caller's, which only waits, and the one that computes."""


class Background:
    """Another session of a model that has been loaded. Belongs to one thread."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._spent = 0.0
        self._done: SimpleQueue[tuple[list[Probabilities], str, float]] = SimpleQueue()
        with ThreadPoolExecutor(1, initializer=step_back) as thread:
            self._session = thread.submit(open_session, engine.graph, THREADS).result()

    def predict(self, images: Pixels) -> tuple[Probabilities, float]:
        """Wait for the answers.

        Args:
            images: uint8 (N, S, S, C).

        Returns:
            As `Engine.predict`, and the processor time that it took, seconds.

        Raises:
            RuntimeError: the graph cannot be run on them.
        """
        self._session.run_async([OUTPUT_NAME], {INPUT_NAME: images}, self._note, None)
        outputs, error, spent = self._done.get()
        before, self._spent = self._spent, spent
        if error:
            raise RuntimeError(error)
        return outputs[0], spent - before

    def _note(self, outputs: list[Probabilities], _: object, error: str) -> None:
        self._done.put((outputs, error, time.thread_time()))  # in the thread that computes
