"""What it brings that batch norm is one operation while it learns: images/s against that of Keras.

    python -m benchmarks.batch_norm [--rounds 5] [--precision mixed_bfloat16]

Two copies of each model train in turn at batch 64 on the same 48 x 48 grey images. Prints a line per model: images/s
of each, and their ratio, the median over the rounds.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import numpy as np

from emotion_detection.backend import keras, tf
from emotion_detection.batches import Dataset
from emotion_detection.data.shards import untuned
from emotion_detection.execution import fuse_batch_norm
from emotion_detection.models import InputSpec, build_model
from emotion_detection.optimization import optimizer
from emotion_detection.params import TrainingParams

BATCH, STEPS, CLASSES = 64, 10, 7
MODELS = ("emotion_cnn", "se_resnet")


def images() -> Dataset:
    random = np.random.default_rng(0)
    faces = random.integers(0, 256, (BATCH * STEPS, 48, 48, 1), np.uint8)
    labels = keras.utils.to_categorical(random.integers(0, CLASSES, len(faces)), CLASSES)
    return untuned(tf.data.Dataset.from_tensor_slices((faces, labels)).batch(BATCH).prefetch(2))


def ready(architecture: str, fused: bool, data: Dataset) -> keras.Model:
    """A model that has made its first steps, which trace it."""
    model = build_model(architecture, InputSpec(48, 1, CLASSES), {})
    if fused:
        fuse_batch_norm(model)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(optimizer(TrainingParams(optimizer="sgd"), STEPS), loss, jit_compile=False)
    model.fit(data.take(2), shuffle=False, verbose=0)
    return model


def seconds(model: keras.Model, data: Dataset) -> float:
    started = time.perf_counter()
    model.fit(data, shuffle=False, verbose=0)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch_norm", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="epochs of each that are measured")
    parser.add_argument("--precision", default="float32", metavar="POLICY", help="or mixed_bfloat16")
    options = parser.parse_args()
    keras.config.set_dtype_policy(options.precision)
    data = images()
    for architecture in MODELS:
        plain, fused = (ready(architecture, fused, data) for fused in (False, True))
        times = [(seconds(plain, data), seconds(fused, data)) for _ in range(options.rounds)]
        before, after = (BATCH * STEPS / median(column) for column in zip(*times, strict=True))
        ratio = median(one / other for one, other in times)
        print(f"{architecture:12} of Keras {before:6,.0f} images/s   fused {after:6,.0f}   ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
