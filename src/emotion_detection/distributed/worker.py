"""One of the workers that share a training; started by Ray Train, which tells each who the others are.

Every worker goes through the whole loop of `Trainer`. Data that fit into memory: each prepares the same batches, by the
same seeds, and computes on every n-th image of them. Data that do not: each reads every n-th shard, and its batches are
an n-th as large. Gradients are summed over all workers and divided by the number of images of the whole
batch, so that each image counts the same whoever has it. Batch norm is synchronised: its statistics are those of the
whole batch, and so are the moving ones. Thus all workers make the same step, and for a model without dropout it is the
step of one worker, up to the order of sums in float32; dropout draws for each worker anew.

The first worker writes the checkpoints, which all read when they start. Collectives are those of TensorFlow's
MultiWorkerMirroredStrategy (ring over gRPC, or NCCL); Keras's `fit` cannot be run inside it, hence the loop here.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from emotion_detection.artifacts import DatasetInfo, History
from emotion_detection.averaging import WeightAverage
from emotion_detection.backend import keras, tf
from emotion_detection.batches import Dataset, Source, count, epoch_seed, training_batches, validation_batches
from emotion_detection.checkpoint import Checkpoint
from emotion_detection.data.shards import read_dataset_info
from emotion_detection.errors import ParamsError
from emotion_detection.params import Params
from emotion_detection.tracking import LiveRun
from emotion_detection.training import Trainer, reseed_dropout

Tensor = Any


@dataclass(frozen=True)
class Job:
    """What is to be trained."""

    name: str
    params: Params
    shards: Path
    root: Path
    """Of the project: relative paths in params.yaml start there."""


def work(config: dict[str, Any]) -> str | None:
    """Train to the end; what Ray Train calls on each worker.

    Returns:
        Why the training was refused, if params.yaml is at fault: to try again would not help.
    """
    from ray.train import get_context  # noqa: PLC0415  an extra

    # First of all: collectives must be set up before TensorFlow does anything.
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    job, context = config["job"], get_context()
    os.chdir(job.root)
    first = context.get_world_rank() == 0
    try:
        trainer = Worker(job, context.get_world_rank(), context.get_world_size(), strategy)
        trainer.run(SharedCheckpoint(config["directory"], first), LiveRun(""))
    except ParamsError as error:
        return str(error)
    return None


class SharedCheckpoint(Checkpoint):
    """Written by the first worker, read by all."""

    def __init__(self, directory: Path, first: bool) -> None:
        """`first`: whether this is that worker."""
        super().__init__(directory)
        self._first = first

    def save(self, model: keras.Model, history: History, average: WeightAverage | None = None) -> None:
        """As `Checkpoint.save`; returns when it is written, on all workers."""
        from ray.train.collective import barrier  # noqa: PLC0415  an extra

        if self._first:
            super().save(model, history, average)
        barrier()


class Worker(Trainer):
    """The loop over the epochs, with batches that are shared."""

    def __init__(self, job: Job, rank: int, workers: int, strategy: Any) -> None:
        """For worker `rank` of so many; `strategy` joins them."""
        self.job, self._rank, self._workers, self._strategy = job, rank, workers, strategy
        info: DatasetInfo = read_dataset_info(job.shards)
        super().__init__(job.name, job.params, info, job.shards)
        if self.train.memory is None:
            self._divide(job.shards)
        else:
            self.validation = self.validation.shard(workers, rank)

    def _divide(self, shards: Path) -> None:
        """Let each worker read shards of its own: all together read them once."""
        for key, found in {
            "data.shards": self.job.params.data.shards,
            "training.batch_size": self.training.batch_size,
        }.items():
            if found % self._workers:
                raise ParamsError(
                    f"{key}: found {found}, which {self._workers} workers cannot share equally; use a multiple of "
                    f"{self._workers}"
                )
        part = (self._rank, self._workers)
        self.train = replace(self.train, part=part)
        val = replace(Source.open(shards, "val", self.info), part=part)
        self.validation = validation_batches(val, self.info, self.training)

    def _begin_stage(self, number: int) -> None:
        super()._begin_stage(number)
        synchronise_batch_norm(self.model)
        self.model.optimizer.build(self.model.trainable_variables)
        self._step, self._judge, self._sum = self._functions()

    def _fitted(self, seed: int, callbacks: list[Any]) -> dict[str, float]:
        reseed_dropout(self.model, epoch_seed(seed, self._rank))
        trained = np.zeros(3)
        for number, batch in enumerate(self.batches(seed)):
            trained += self._step(*batch).numpy()
            for callback in callbacks:
                callback.on_train_batch_end(number)
        for callback in callbacks:
            callback.on_test_begin()
        judged = np.zeros(3)
        for batch in self.validation:
            judged += self._judge(*batch).numpy()
        for callback in callbacks:
            callback.on_test_end()
        figures = zip(("", "val_"), (trained, self._sum(judged).numpy()), strict=True)
        return {name: value for prefix, sums in figures for name, value in _means(prefix, sums)}

    def batches(self, seed: int) -> Dataset:
        """This worker's part of each batch of an epoch, as `training_batches` gives it."""
        if self.train.memory is None:
            least = count(self.info, "train") // self._workers
            size = self.training.batch_size // self._workers
            own = self.training.model_copy(update={"batch_size": size})
            drawn = training_batches(self.train, self.info, own, epoch_seed(seed, self._rank), self.teachers)
            return drawn.take(math.ceil(least / size))  # workers with one image more leave one out
        whole = training_batches(self.train, self.info, self.training, seed, self.teachers)
        enough = whole.filter(lambda images, *_: tf.shape(images)[0] >= self._workers)  # collectives fail on nothing
        return enough.map(lambda *batch: tuple(tensor[self._rank :: self._workers] for tensor in batch)).prefetch(2)

    def _functions(self) -> tuple[Any, Any, Any]:
        """A step of training, a look at a batch, and a sum over all workers.

        The first two take (images, targets, weights) and (images, targets) of any number of images, and give float32
        (3,): sum of the losses, right answers, images; the step those of all workers. Each is traced once:
        workers must not differ in the order of their collectives.
        """
        model, optimizer, run = self.model, self.model.optimizer, self._strategy.run
        pair = [
            tf.TensorSpec((None, *model.input_shape[1:]), tf.uint8),
            tf.TensorSpec((None, model.output_shape[-1]), tf.float32),
        ]

        def shared(images: Tensor, targets: Tensor, weights: Tensor) -> tuple[list[Tensor], Tensor]:
            sums = self._sums(images, targets, weights, training=True)
            # A constant first, the number of images later: only all workers together know it.
            scaled = optimizer.scale_loss(sums[0] / self.training.batch_size)
            # Backwards in the order of the graph, which is the same for all workers, as collectives need it.
            variables = [variable.value for variable in model.trainable_variables]
            gradients = tf.gradients(scaled, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            *summed, sums = _all_sum([*map(tf.convert_to_tensor, gradients), sums])
            return summed, sums

        @tf.function(autograph=False, input_signature=[*pair, tf.TensorSpec((None,), tf.float32)])  # type: ignore[untyped-decorator]
        def step(images: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
            gradients, sums = run(shared, (images, targets, weights))
            share = self.training.batch_size / sums[2]
            optimizer.apply([gradient * share for gradient in gradients], model.trainable_variables)
            return sums

        @tf.function(autograph=False, input_signature=pair)  # type: ignore[untyped-decorator]
        def judge(images: Tensor, targets: Tensor) -> Tensor:
            return self._sums(images, targets, tf.ones(tf.shape(images)[:1]), training=False)

        @tf.function(autograph=False, input_signature=[tf.TensorSpec((3,), tf.float64)])  # type: ignore[untyped-decorator]
        def total(sums: Tensor) -> Tensor:
            return run(lambda value: _all_sum([tf.identity(value)])[0], (sums,))  # on a device of this worker

        return step, judge, total

    def _sums(self, images: Tensor, targets: Tensor, weights: Tensor, training: bool) -> Tensor:
        """Of a part of a batch: sum of the losses, right answers, images, as Keras's `fit` counts them."""
        logits = tf.cast(self.model(images, training=training), tf.float32)
        count = tf.cast(tf.shape(images)[0], tf.float32)
        loss = tf.reduce_sum(self.model.loss.call(targets, logits) * weights)
        loss += count * sum(tf.cast(penalty, tf.float32) for penalty in self.model.losses)
        right = tf.argmax(logits, axis=1) == tf.argmax(targets, axis=1)
        return tf.stack([loss, tf.reduce_sum(tf.cast(right, tf.float32)), count])


def synchronise_batch_norm(model: keras.Model) -> None:
    """Let batch norm take its statistics from the parts of all workers.

    Keras's own `synchronized=True` has the variance from E(x^2) - E(x)^2, whose rounding a training makes visible: 3 %
    of the loss in an epoch. There is no public place for another formula.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer._moments = partial(_shared_moments, layer._reduction_axes)
            layer.call = partial(type(layer).call, layer)  # the fused one asks for no moments
        elif isinstance(layer, keras.Model):
            synchronise_batch_norm(layer)


def _shared_moments(axes: list[int], inputs: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and mean squared deviation from it, of all workers' inputs: in two passes, as `tf.nn.moments` has them."""
    del mask  # images have none
    inputs = tf.cast(inputs, tf.float32)
    here = tf.reduce_sum(inputs, axes)
    total, count = _all_sum([here, tf.cast(tf.size(inputs) / tf.size(here), tf.float32)[None]])
    mean = total / count
    (squared,) = _all_sum([tf.reduce_sum(tf.math.squared_difference(inputs, mean), axes)])
    return mean, squared / count


def _all_sum(values: list[Tensor]) -> list[Tensor]:
    summed: list[Tensor] = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)
    return summed


def _means(prefix: str, sums: Any) -> Iterator[tuple[str, float]]:
    loss, right, images = sums
    yield f"{prefix}accuracy", float(right / images)
    yield f"{prefix}loss", float(loss / images)
