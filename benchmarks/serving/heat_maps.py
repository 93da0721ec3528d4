"""What heat maps cost a server: loading `explain.onnx`, its memory, a map by it, a map by occlusion.

python -m benchmarks.serving.heat_maps bundles/lenet bundles/emotion_cnn
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

from emotion_detection.bundle import read_bundle
from emotion_detection.explain.bundles import BundleExplainer
from serving.engine import Engine

ROUNDS = 5


def measure(directory: Path) -> str:
    """One line of the table."""
    bundle = read_bundle(directory)
    engine, before = Engine(bundle), psutil.Process().memory_info().rss
    start = time.perf_counter()
    explain = BundleExplainer(bundle, engine.predict)
    loading, memory = time.perf_counter() - start, psutil.Process().memory_info().rss - before
    info = bundle.info
    shape = (1, info.image_size, info.image_size, info.channels)
    image, target = np.random.default_rng(0).integers(0, 256, shape, np.uint8), np.zeros(1, np.int64)
    costs = [median(lambda: engine.predict(image)), median(lambda: explain(image, target))]
    costs.append(median(lambda: explain.occlusion(image, target)))
    numbers = " | ".join(f"{1000 * cost:.1f}" for cost in costs)
    return f"| {info.model} | {explain.method} | {1000 * loading:.0f} | {memory / 2**20:.1f} | {numbers} |"


def median(work: Callable[[], object]) -> float:
    """Seconds."""
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+")
    print("| model | method | load, ms | memory, MiB | answer, ms | heat map, ms | by occlusion, ms |")
    print("|---" * 7 + "|")
    for directory in parser.parse_args().bundles:
        print(measure(directory))


if __name__ == "__main__":
    main()
