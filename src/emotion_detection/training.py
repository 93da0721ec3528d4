"""Train one model on the shards: `python -m pipeline.train NAME` makes models/NAME/.

Killed at any moment, the same command goes on with the epoch after the last finished one: with the optimizer's
state, the learning rate schedule, the curves, the best weights so far, and the order, augmentation and dropout that
the epoch would have had. On a CPU the model file then equals that of an uninterrupted training to the last bit, on
the same machine and with the same versions; on a GPU the order of parallel sums may change the last digits.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from emotion_detection.artifacts import DatasetInfo, History, RunInfo, atomic_directory, write_record
from emotion_detection.averaging import WeightAverage
from emotion_detection.backend import keras
from emotion_detection.batches import (
    Dataset,
    Source,
    count,
    epoch_seed,
    equal_parts,
    training_batches,
    validation_batches,
)
from emotion_detection.checkpoint import CHECKPOINTS, Checkpoint
from emotion_detection.data.shards import verify_shards
from emotion_detection.display import EpochDisplay
from emotion_detection.distillation import open_teachers
from emotion_detection.errors import ArtifactError, ParamsError
from emotion_detection.execution import Execution
from emotion_detection.models import InputSpec, build_model, check_hyperparameters, freeze
from emotion_detection.optimization import compile_model
from emotion_detection.params import Params, Split, TrainingParams
from emotion_detection.saving import save_model
from emotion_detection.tracking import LiveRun, live_run
from emotion_detection.weights import teachers_sha256, weights_sha256

MODEL_FILE, HISTORY_FILE, RUN_FILE = "model.keras", "history.json", "run.json"
DECIDING = (
    "augmentation",
    "averaging",
    "batches",
    "checkpoint",
    "data/shards",
    "distillation",
    "execution",
    "huggingface",
    "huggingface_tensors",
    "labels",
    "models/__init__",
    "optimization",
    "pretrained",
    "saving",
    "training",
)
"""Modules that decide a training, besides the architecture's: those on which the stage depends in dvc.yaml."""


def train(name: str, params: Params, shards: Path, output: Path, checkpoints: Path = CHECKPOINTS) -> History:
    """Train a model, or go on where a killed training stopped, and write model, curves and run.

    Args:
        name: entry in `models` of params.yaml.
        params: all parameters.
        shards: directory that the shards stage made.
        output: directory to write, replaced as a whole: model.keras (of the best epoch), history.json, run.json.
        checkpoints: where unfinished trainings are kept.

    Raises:
        ParamsError: there is no such model, a hyperparameter is wrong, votes are asked for where there are none, or
            the loss is no longer a number.
        ArtifactError: the shards are missing, damaged or without validation images, or the disk is full.
    """
    return train_with(Trainer(name, params, trainable(shards), shards), params, output, checkpoints)


def trainable(shards: Path) -> DatasetInfo:
    """What the shards hold; an ArtifactError where that is not enough for a training, or one has been altered."""
    info = verify_shards(shards)
    if not count(info, "val"):
        raise ArtifactError(f"{shards}: no validation images; raise data.split.val, then run `dvc repro`")
    return info


def train_with(trainer: Trainer, params: Params, output: Path, checkpoints: Path) -> History:
    """As `train`, by a trainer of its own kind."""
    name, info = trainer.name, trainer.info
    identity, code = training_id(name, params, info), code_version(params.model(name).architecture, info)
    checkpoint = Checkpoint(checkpoints / name / f"{identity}-{code}")
    with live_run(LiveRun(identity, code), params, name, info, summary(trainer.model)) as run:
        history = trainer.run(checkpoint, run)
        if trainer.training.total_epochs:
            checkpoint.restore_best(trainer.model)
        with atomic_directory(output) as directory:
            save_model(trainer.model, directory / MODEL_FILE)
            write_record(directory / HISTORY_FILE, history)
            record = RunInfo(training_id=identity, run_id=run.run_id, experiment=params.registry.experiment)
            write_record(directory / RUN_FILE, record)
    checkpoint.remove()
    return history


class Trainer:
    """The loop over the epochs of one training."""

    def __init__(self, name: str, params: Params, info: DatasetInfo, shards: Path) -> None:
        """For the entry `name` of `models`, on `shards`, which `info` describes."""
        keras.utils.clear_session()  # layer names start anew, so equal trainings give equal files
        self.name, self.seed, self.info = name, params.seed_of(name), info
        keras.utils.set_random_seed(self.seed)
        self.training = params.training_of(name)
        self.execution = Execution(self.training)
        self.steps = steps_per_epoch(info, self.training, len(self.execution.devices))
        with self.execution.scope():
            self.model = build(name, params, info)
            self._begin_stage(0)
        self.teachers = open_teachers(self.training.distillation, info)
        self.train = Source.open(shards, "train", info, voted=self.training.targets == "votes")
        validation = validation_batches(Source.open(shards, "val", info), info, self.training)
        self.validation = self._shared(validation, "val")
        self.display = EpochDisplay(name, self.training.total_epochs, self.steps)

    def run(self, checkpoint: Checkpoint, run: LiveRun) -> History:
        """Train through all stages; each ends with its last epoch, or `patience` epochs after the best one."""
        with self.execution.scope():
            return self._stages(checkpoint, run) if self.training.total_epochs else self._untrained(run)

    def _stages(self, checkpoint: Checkpoint, run: LiveRun) -> History:
        history = self._start(checkpoint)
        while True:
            if is_finished(history, self.training):
                if len(history.stages) == len(self.training.finetuning):
                    return history
                history = self._next_stage(history, checkpoint)
            epoch = len(history.metrics["loss"])
            figures = self._epoch(epoch)
            history = extended(history, figures, self.training.monitor)
            checkpoint.save(self.model, history, self.average)
            run.log_epoch(epoch, figures)
            self.display.finished(history)

    def _epoch(self, number: int) -> dict[str, float]:
        """Train one epoch, counted from zero, and return its figures, as in `History.metrics`."""
        started = time.perf_counter()
        with self.display.epoch(number) as bar:
            callbacks = [bar, self.average] if self.average else [bar]
            figures = self._fitted(epoch_seed(self.seed, number), callbacks)
        figures["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        figures["seconds"] = round(time.perf_counter() - started, 3)
        if not math.isfinite(figures["loss"]):
            section = f"training.finetuning.{self.stage - 1}" if self.stage else "training"
            raise ParamsError(
                f"models.{self.name}: the loss became {figures['loss']} in epoch {number + 1}; lower "
                f"{section}.learning_rate ({self.training.stage(self.stage).learning_rate}) "
                "or raise training.warmup_epochs"
            )
        return figures

    def _fitted(self, seed: int, callbacks: list[Any]) -> dict[str, float]:
        """One epoch and a look at val: loss and accuracy of both."""
        data = self._shared(training_batches(self.train, self.info, self.training, seed, self.teachers), "train")
        reseed_dropout(self.model, seed)
        fitted = self.model.fit(data, validation_data=self.validation, shuffle=False, verbose=0, callbacks=callbacks)
        return {key: float(values[-1]) for key, values in fitted.history.items()}

    def _untrained(self, run: LiveRun) -> History:
        """Judge weights that are taken as they are on val, as epoch 0."""
        figures = self.model.evaluate(self.validation, return_dict=True, verbose=0)
        metrics = {f"val_{key}": float(value) for key, value in figures.items()}
        run.log_epoch(0, metrics)
        curves = {key: [value] for key, value in metrics.items()}
        return History(metrics=curves, best_epoch=0, resumed_at=[], parameters=self.model.count_params())

    def _start(self, checkpoint: Checkpoint) -> History:
        history = checkpoint.read_history()
        if history is None:
            metrics: dict[str, list[float]] = {"loss": []}
            return History(metrics=metrics, best_epoch=0, resumed_at=[], parameters=self.model.count_params())
        self._begin_stage(len(history.stages))
        checkpoint.restore_last(self.model, self.average)
        done, all_epochs = len(history.metrics["loss"]), self.training.total_epochs
        self.display.say(f"{self.name}: resumes after epoch {done} of {all_epochs} ({checkpoint.directory})")
        return history.model_copy(update={"resumed_at": [*history.resumed_at, done]})

    def _next_stage(self, history: History, checkpoint: Checkpoint) -> History:
        if history.metrics["loss"]:
            checkpoint.restore_best(self.model)
        self._begin_stage(len(history.stages) + 1)
        unfrozen, rate = (
            self.training.finetuning[self.stage - 1].unfrozen,
            self.training.stage(self.stage).learning_rate,
        )
        self.display.say(f"{self.name}: fine-tunes the best weights: unfrozen {unfrozen}, learning rate {rate:g}")
        return history.model_copy(update={"stages": [*history.stages, len(history.metrics["loss"])]})

    def _begin_stage(self, number: int) -> None:
        self.stage = number
        if number:
            freeze(self.model, self.training.finetuning[number - 1].unfrozen)
        compile_model(self.model, self.training.stage(number), self.steps)
        decay = self.training.weight_average
        self.average = WeightAverage(self.model, decay) if decay else None

    def _shared(self, data: Dataset, split: Split) -> Dataset:
        return equal_parts(data, count(self.info, split), self.training.batch_size, len(self.execution.devices))


def is_finished(history: History, training: TrainingParams) -> bool:
    """Whether the stage that runs has done all its epochs or patience is at its end."""
    done, start = len(history.metrics["loss"]), [0, *history.stages][-1]
    waited = done - 1 - max(history.best_epoch, start - 1)
    return done - start >= training.stage(len(history.stages)).epochs or 0 < training.patience <= waited


def extended(history: History, figures: dict[str, float], monitor: str) -> History:
    """The history with one more epoch; of equal epochs the first is the best."""
    metrics = {key: [*history.metrics.get(key, []), value] for key, value in figures.items()}
    best = np.argmin(metrics[monitor]) if monitor == "val_loss" else np.argmax(metrics[monitor])
    return history.model_copy(update={"metrics": metrics, "best_epoch": int(best)})


def build(name: str, params: Params, info: DatasetInfo) -> keras.Model:
    """Build the model of one entry in params.yaml for this data set."""
    entry = params.model(name)
    spec = InputSpec(info.image_size, info.channels, len(info.labels), info.labels)
    return build_model(entry.architecture, spec, check_hyperparameters(name, entry))


def steps_per_epoch(info: DatasetInfo, training: TrainingParams, devices: int = 1) -> int:
    return math.ceil(count(info, "train") // devices * devices / training.batch_size)


def reseed_dropout(model: keras.Model, seed: int) -> None:
    """Set the state of every random layer; Keras saves it with no weights, so it would start anew when resumed."""
    states = [variable for variable in model.non_trainable_variables if variable.name == "seed_generator_state"]
    for number, state in enumerate(states):
        state.assign([seed, number])


def training_id(name: str, params: Params, info: DatasetInfo) -> str:
    """SHA-256 over all that decides a training, apart from code and the order of the data: `RunInfo.training_id`.

    Raises:
        ParamsError: there is no such model, a hyperparameter is wrong, or the file of the weights is missing.
    """
    entry = params.model(name)
    hyperparameters = check_hyperparameters(name, entry)
    weights = weights_sha256(str(hyperparameters.get("weights", "none")))
    training = params.training_of(name)
    teachers = teachers_sha256(training.distillation.teachers)
    decisive = {
        "model": name,
        "architecture": entry.architecture,
        "hyperparameters": hyperparameters,
        "training": training.identity(),
        "seed": params.seed_of(name),
        "data_hash": info.data_hash,
        "input": [info.image_size, info.channels, list(info.labels)],
    }
    decisive |= {key: digest for key, digest in {"weights": weights, "teachers": teachers}.items() if digest}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def code_version(architecture: str, info: DatasetInfo) -> str:
    """Short hash of what else decides a training, code and the bytes of the shards: a checkpoint of other code, or of
    pixels that other code has made, is not gone on with."""
    package = Path(__file__).parent
    digest = hashlib.sha256(keras.backend.backend().encode() + json.dumps(info.files, sort_keys=True).encode())
    for module in (*DECIDING, f"models/{architecture}"):
        digest.update((package / f"{module}.py").read_bytes())
    return digest.hexdigest()[:8]


def summary(model: keras.Model) -> str:
    """What `keras.Model.summary` prints."""
    lines: list[str] = []
    model.summary(line_length=100, print_fn=lambda line, **_: lines.append(line))
    return "\n".join(lines)
