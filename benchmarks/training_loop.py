"""What the training loop costs beside the arithmetic: images/s of `Trainer` against bare `model.fit` on arrays.

    python -m benchmarks.training_loop [--rounds 3] [--weight-average 0.999]

Both train the same compiled model at batch 64 on the same 48 x 48 grey images, in turn, and judge it on the same
validation images. The bare one shuffles arrays in memory and does nothing else; the loop also augments each image,
checkpoints and logs. Prints a line per model: images/s of each, and their ratio, the median over the rounds (1.0: the
loop costs nothing).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median

import numpy as np

from emotion_detection.backend import keras
from emotion_detection.checkpoint import Checkpoint
from emotion_detection.data.shards import load_arrays, read_dataset_info
from emotion_detection.params import Split, parse_params
from emotion_detection.tracking import LiveRun
from emotion_detection.training import Trainer
from tests.toy_shards import toy_shards

BATCH, CLASSES = 64, 7
STEPS = {"lenet": 200, "emotion_cnn": 30}


class Alternation(LiveRun):
    """After each epoch of the loop, checkpoint and all, one of bare `fit`; the first of each traces the model."""

    def __init__(self, trainer: Trainer, shards: Path) -> None:
        super().__init__("benchmark")
        self.model, self.train, self.val = trainer.model, arrays(shards, "train"), arrays(shards, "val")
        self.loop: list[float] = []
        self.bare: list[float] = []
        self.started = time.perf_counter()

    def log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        del epoch, metrics
        ended = time.perf_counter()
        self.model.fit(*self.train, batch_size=BATCH, validation_data=self.val, verbose=0)
        self.loop.append(ended - self.started)
        self.bare.append(time.perf_counter() - ended)
        self.started = time.perf_counter()


def arrays(shards: Path, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Images and one-hot labels."""
    content = load_arrays(shards, split)
    return content.images, keras.utils.to_categorical(content.labels, CLASSES)


def compare(model: str, rounds: int, weight_average: float) -> None:
    """Measure one model and print its line."""
    share = STEPS[model] * BATCH // CLASSES
    counts, few = ({str(label): number for label in range(CLASSES)} for number in (share, share // 10))
    training = {"batch_size": BATCH, "epochs": rounds + 1, "weight_average": weight_average}
    params = parse_params({"training": training, "models": {model: {"architecture": model}}})
    with tempfile.TemporaryDirectory() as name:
        shards = Path(name, "shards")
        toy_shards(shards, counts, few, size=48)
        trainer = Trainer(model, params, read_dataset_info(shards), shards)
        times = Alternation(trainer, shards)
        trainer.run(Checkpoint(Path(name, "checkpoint")), times)
    images, loop, bare = share * CLASSES, median(times.loop[1:]), median(times.bare[1:])
    ratio = median(b / a for a, b in zip(times.loop[1:], times.bare[1:], strict=True))
    print(f"{model:12} bare fit {images / bare:7,.0f} images/s   loop {images / loop:7,.0f}   ratio {ratio:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_loop", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="epochs of each that are measured")
    parser.add_argument("--weight-average", type=float, default=0.0, metavar="DECAY", help="the loop averages weights")
    options = parser.parse_args()
    for model in STEPS:
        compare(model, options.rounds, options.weight_average)


if __name__ == "__main__":
    main()
