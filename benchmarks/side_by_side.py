"""What `emotion run --jobs N` saves: N models trained and evaluated one after the other, against at the same time.

    python -m benchmarks.side_by_side [--jobs 2] [--architecture emotion_cnn] [--images 2000] [--epochs 3] [--rounds 3]

In a clone of this checkout, on drawn faces, through DVC as a user would. One after the other, each training has all
cores; at the same time, each has its share of them. Prints the seconds of each round and the median ratio.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median

from emotion_detection.reproduction import reproduce, train_side_by_side
from tests.clone import Clone, clone_of_this_checkout


def begun(clone: Clone, seed: int) -> float:
    """Make every model out of date; the time."""
    clone.set_params(training={"seed": seed})
    return time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.side_by_side", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="models, and how many are trained at a time")
    parser.add_argument("--architecture", default="emotion_cnn")
    parser.add_argument("--images", type=int, default=2000, metavar="N", help="drawn faces")
    parser.add_argument("--epochs", type=int, default=3, metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    options = parser.parse_args()

    names = [f"model{number}" for number in range(options.jobs)]
    stages = [f"{stage}@{name}" for name in names for stage in ("train", "evaluate")]
    with tempfile.TemporaryDirectory() as directory:
        clone = clone_of_this_checkout(Path(directory, "clone"))
        models = {key: {"architecture": options.architecture, "training": {"epochs": options.epochs}} for key in names}
        clone.set_params(data={"synthetic": {"count": options.images}}, models={"lenet": None, "vit": None, **models})
        os.chdir(clone.path)
        reproduce(["--quiet", "shards"])
        ratios = []
        for number in range(options.rounds):
            started = begun(clone, 2 * number)
            reproduce(["--quiet", "--single-item", *stages])
            one_by_one = time.perf_counter() - started
            started = begun(clone, 2 * number + 1)
            train_side_by_side(names, options.jobs)
            together = time.perf_counter() - started
            ratios.append(one_by_one / together)
            print(f"round {number + 1}: one after the other {one_by_one:.0f} s, at the same time {together:.0f} s")
    print(f"{options.jobs} x {options.architecture}: {median(ratios):.2f} times as fast at the same time")


if __name__ == "__main__":
    main()
