"""The limit: decoding and the model in one process, with as many threads as the server has, and no HTTP at all.

    python -m benchmarks.serving.limit BUNDLE IMAGE SECONDS BATCH        -> images per second, CPU seconds per 1,000

A batch is decoded in the thread that then runs the model on it, as the server does.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np

from emotion_detection.bundle import read_bundle
from serving.engine import Engine
from serving.settings import available_cores


def images_per_second(engine: Engine, image: bytes, seconds: float, batch: int, threads: int) -> float:
    """Run all threads for so long."""
    done = [0] * threads
    end = time.perf_counter() + seconds

    def work(number: int) -> None:
        while time.perf_counter() < end:
            engine.predict(np.concatenate([engine.crops(image) for _ in range(batch)]))
            done[number] += batch

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(done) / (time.perf_counter() - start)


def main(bundle: str, image: str, seconds: str, batch: str) -> None:
    """Print the speed and what it costs."""
    cv2.setNumThreads(1)
    engine, data = Engine(read_bundle(Path(bundle))), Path(image).read_bytes()
    images_per_second(engine, data, 0.2, int(batch), available_cores())
    before = time.process_time()
    start = time.perf_counter()
    speed = images_per_second(engine, data, float(seconds), int(batch), available_cores())
    images = speed * (time.perf_counter() - start)
    print(speed, 1000 * (time.process_time() - before) / images)


if __name__ == "__main__":
    main(*sys.argv[1:])
