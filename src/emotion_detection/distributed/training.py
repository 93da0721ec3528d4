"""One training by all workers of a Ray cluster: what `training` does, each batch shared among them.

    EMOTION_ENGINE=ray python -m pipeline.train NAME

The workers are a group under Ray Train, in `worker.py`. What they tell are their checkpoints: this process reads the
curves there, shows them, and records them in MLflow. When a worker dies, Ray Train starts all of them anew, and they go
on after the last finished epoch, as a training does that was killed on one machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from shutil import rmtree

from emotion_detection.artifacts import DatasetInfo, History
from emotion_detection.backend import keras
from emotion_detection.checkpoint import CHECKPOINTS, Checkpoint
from emotion_detection.distributed.cluster import RETRIES, Cluster, connected
from emotion_detection.distributed.worker import Job, work
from emotion_detection.errors import ArtifactError, EngineError, ParamsError
from emotion_detection.params import Params, TrainingParams
from emotion_detection.tracking import LiveRun
from emotion_detection.training import Trainer, extended, train_with, trainable

POLL_SECONDS = 0.5


def train(name: str, params: Params, shards: Path, output: Path, checkpoints: Path = CHECKPOINTS) -> History:
    """As `training.train`, by all workers of a cluster, which see the same files under the same paths.

    Raises:
        ParamsError: as there, or a setting needs one machine.
        ArtifactError: as there.
        EngineError: there is no such cluster, its workers died too often, or Keras's backend is not TensorFlow.
    """
    check_supported(params.training_of(name))
    return train_with(RayTrainer(name, params, trainable(shards), shards), params, output, checkpoints)


def check_supported(training: TrainingParams) -> None:
    """Refuse what one worker of several cannot do."""
    if keras.backend.backend() != "tensorflow":
        raise EngineError(
            f"KERAS_BACKEND={keras.backend.backend()}: EMOTION_ENGINE=ray trains with TensorFlow; unset one of the two"
        )
    if training.devices != 1:
        raise ParamsError(
            f"training.devices: found {training.devices!r}; under EMOTION_ENGINE=ray each GPU of the cluster has a "
            "worker of its own: set it to 1"
        )


class RayTrainer(Trainer):
    """Has the epochs done by others."""

    def __init__(self, name: str, params: Params, info: DatasetInfo, shards: Path) -> None:
        """As `Trainer`."""
        super().__init__(name, params, info, shards)
        self._job = Job(name, params, shards.absolute(), Path.cwd())

    def run(self, checkpoint: Checkpoint, run: LiveRun) -> History:
        """As `Trainer.run`; a training of no epochs is judged here."""
        if not self.training.total_epochs:
            return super().run(checkpoint, run)
        with ThreadPoolExecutor(1) as pool, connected() as cluster:
            fit = pool.submit(_fit, self._job, checkpoint, cluster)
            history = self._follow(fit, checkpoint, run)
            if refused := fit.result():
                raise ParamsError(refused)
        if history is None:
            raise EngineError(f"{checkpoint.directory}: the workers have left no checkpoint; is it on shared files?")
        return history

    def _follow(self, fit: Future[str | None], checkpoint: Checkpoint, run: LiveRun) -> History | None:
        """Tell of each epoch once, until the workers are done; gives all of them."""
        told = _read(checkpoint)
        if told:
            self.display.say(f"{self.name}: resumes after epoch {len(told.metrics['loss'])} ({checkpoint.directory})")
        while True:
            done = bool(wait([fit], POLL_SECONDS).done)
            found = _read(checkpoint)
            for epoch, figures in _news(told, found):
                run.log_epoch(epoch, figures)
                told = extended(told or _nothing(found), figures, self.training.monitor)
                self.display.finished(told)
            if done:
                return checkpoint.read_history()


def _fit(job: Job, checkpoint: Checkpoint, cluster: Cluster) -> str | None:
    """Run the workers to their end; what they refused to train, if they did."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig  # noqa: PLC0415  an extra
    from ray.train.tensorflow import TensorflowTrainer  # noqa: PLC0415  an extra

    directory = checkpoint.directory.absolute()
    storage = directory.with_name(f"{directory.name}.ray")
    trainer = TensorflowTrainer(
        work,
        train_loop_config={"job": job, "directory": directory},
        scaling_config=ScalingConfig(
            num_workers=cluster.workers, use_gpu=bool(cluster.gpus), placement_strategy="SPREAD"
        ),
        run_config=RunConfig(
            name=job.name, storage_path=str(storage), failure_config=FailureConfig(max_failures=RETRIES)
        ),
    )
    try:
        result: str | None = trainer.fit().return_value
    finally:
        rmtree(storage, ignore_errors=True)
    return result


def _read(checkpoint: Checkpoint) -> History | None:
    with suppress(ArtifactError, OSError):  # it is being replaced: the next look finds the new one
        return checkpoint.read_history()
    return None


def _news(told: History | None, found: History | None) -> Iterator[tuple[int, dict[str, float]]]:
    """Epochs of `found` that were not told, counted from zero, and their figures."""
    done = len(told.metrics["loss"]) if told else 0
    for epoch in range(done, len(found.metrics["loss"]) if found else 0):
        yield epoch, {name: values[epoch] for name, values in found.metrics.items()}  # type: ignore[union-attr]


def _nothing(found: History | None) -> History:
    return History(metrics={}, best_epoch=0, resumed_at=[], parameters=found.parameters if found else 0)
