"""Batches of training and validation images, the same in every run with the same seed.

The order and the augmentation of epoch k depend on the seed and on k alone, so that a training which was
interrupted sees what it would have seen. Data sets up to a gibibyte are decoded once and kept in memory.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emotion_detection.artifacts import DatasetInfo
from emotion_detection.augmentation import augment, mix
from emotion_detection.backend import tf
from emotion_detection.data.shards import WHOLE, Part, load_arrays, load_split, load_voted, untuned
from emotion_detection.distillation import Teachers
from emotion_detection.errors import ParamsError
from emotion_detection.params import Split, TrainingParams

Dataset = Any
Tensor = Any
MEMORY_LIMIT = 2**30


@dataclass(frozen=True)
class Source:
    """One split of the shards."""

    directory: Path
    split: Split
    images: int
    memory: tuple[Tensor, Tensor] | None
    """Decoded uint8 (N, S, S, C) and int32 (N,), where they fit."""
    voted: bool = False
    """Whether float32 (N, classes), the shares of the votes, stand in the place of labels."""
    part: Part = WHOLE
    """What to read of the shards, where they do not fit into memory."""

    @classmethod
    def open(
        cls, directory: Path, split: Split, info: DatasetInfo, memory_limit: int = MEMORY_LIMIT, *, voted: bool = False
    ) -> Source:
        """Look at a split, and read it into memory if both splits of a training fit.

        Raises:
            ArtifactError: a shard is missing or damaged.
            ParamsError: votes are asked for, but no image of the split has some.
        """
        if voted and not (info.votes or {}).get(split):
            raise ParamsError(
                f"training.targets: found votes, but {directory} has none for {split}; set data.votes to a file with "
                "votes, or training.targets to labels"
            )
        decoded = sum(count(info, name) for name in ("train", "val")) * info.image_size**2 * info.channels
        memory = read_split(directory, split, voted) if decoded <= memory_limit else None
        return cls(directory, split, count(info, split), memory, voted)

    def in_order(self, batch_size: int) -> Dataset:
        """All images, as they stand in the shards: (uint8 (B, S, S, C), int32 (B,)), or votes for labels."""
        if self.memory is None:
            return self._streamed(batch_size, None)
        return tf.data.Dataset.from_tensor_slices(self.memory).batch(batch_size)

    def shuffled(self, batch_size: int, seed: int) -> Dataset:
        """All images, in an order that `seed` decides."""
        if self.memory is None:
            return self._streamed(batch_size, seed)
        images, labels = self.memory
        order = np.random.default_rng(seed).permutation(self.images)
        rows = tf.data.Dataset.from_tensor_slices(order).batch(batch_size)
        return rows.map(lambda some: (tf.gather(images, some), tf.gather(labels, some)))

    def _streamed(self, batch_size: int, seed: int | None) -> Dataset:
        load = load_voted if self.voted else load_split
        return load(self.directory, self.split, batch_size, shuffle_seed=seed, part=self.part)


def training_batches(
    source: Source, info: DatasetInfo, training: TrainingParams, seed: int, teachers: Teachers | None = None
) -> Dataset:
    """One epoch: augmented uint8 (B, S, S, C), targets float32 (B, classes), weight of each image float32 (B,).

    Args:
        source: the training split; where it gives votes, their shares are the targets.
        info: labels and class weights.
        training: batch size, augmentation, class weights.
        seed: as `epoch_seed` gives it.
        teachers: what they say becomes a part of the targets.
    """
    weights = tf.constant(class_weights(info, training))

    def prepare(step: Tensor, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        images, labels = batch
        drawn = tf.stack([seed, tf.cast(step, tf.int32)])
        changed = augment(images, drawn, training.augmentation)
        targets = labels if source.voted else tf.one_hot(labels, len(info.labels))
        weight = tf.linalg.matvec(targets, weights)
        if teachers:
            targets = teachers.taught(changed, targets)
        return mix(changed, targets, weight, drawn, training.augmentation)

    numbered = source.shuffled(training.batch_size, seed).enumerate()
    return untuned(numbered.map(prepare, num_parallel_calls=os.cpu_count()).prefetch(4))


def validation_batches(source: Source, info: DatasetInfo, training: TrainingParams) -> Dataset:
    """Unchanged uint8 (B, S, S, C), one-hot float32 (B, classes)."""
    batches = source.in_order(training.batch_size)
    return untuned(batches.map(lambda images, labels: (images, tf.one_hot(labels, len(info.labels)))).prefetch(2))


def equal_parts(batches: Dataset, images: int, batch_size: int, devices: int) -> Dataset:
    """Leave out the last images, fewer than `devices`, so that the devices can share each batch equally.

    Args:
        batches: `images` in batches of `batch_size`, a multiple of `devices`; the last one may be smaller.

    Raises:
        ParamsError: there are fewer images than devices.
    """
    if devices == 1:
        return batches
    kept = images // devices * devices
    if not kept:
        raise ParamsError(f"training.devices: found {devices}, more than there are images in a split ({images})")
    shared = batches.take(math.ceil(kept / batch_size))
    return shared.map(lambda *parts: tuple(part[: tf.shape(part)[0] // devices * devices] for part in parts))


def class_weights(info: DatasetInfo, training: TrainingParams) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Weight in the loss of an image of each class, float32 (classes,)."""
    balanced = training.class_weights == "balanced"
    return np.array([info.class_weights[label] if balanced else 1 for label in info.labels], np.float32)


def epoch_seed(seed: int, epoch: int) -> int:
    """A seed for one epoch, below 2^31; no sum, or epoch 1 of seed 0 would be epoch 0 of seed 1."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0] >> 1)


def count(info: DatasetInfo, split: Split) -> int:
    """Images of a split."""
    return sum(info.counts[split].values())


def read_split(directory: Path, split: Split, voted: bool = False) -> tuple[Tensor, Tensor]:
    """All images and labels of a split, decoded: uint8 (N, S, S, C) and int32 (N,), or votes, float32 (N, classes)."""
    arrays = load_arrays(directory, split)
    with tf.device("CPU"):  # they are drawn from there; a GPU's memory is for the model
        return tf.constant(arrays.images), tf.constant(arrays.votes if voted else arrays.labels)
