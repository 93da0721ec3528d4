"""One trial: drawn, trained by the pipeline's own `Trainer`, judged on val after each epoch, and told in a line."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import Trial, TrialState

from emotion_detection.artifacts import History
from emotion_detection.backend import keras, tf
from emotion_detection.checkpoint import Checkpoint
from emotion_detection.display import EpochDisplay
from emotion_detection.errors import ParamsError
from emotion_detection.tracking import live_run
from emotion_detection.training import Trainer, code_version, summary, training_id
from emotion_detection.tuning.interrupt import Interrupt
from emotion_detection.tuning.owners import OWNER, owner
from emotion_detection.tuning.space import Values, with_values
from emotion_detection.tuning.study import FINISHED, REASON, Say, claim, suggest, trials
from emotion_detection.tuning.task import Task
from emotion_detection.tuning.tracking import StudyRun, TrialRun


class Objective:
    """Trains trials of one study, one after the other."""

    def __init__(self, task: Task, study: Study, tracked: StudyRun, wanted: int, say: Say) -> None:
        """For a study that is to have `wanted` finished trials; `say` takes a line for each."""
        self.task, self.study, self.tracked, self.wanted, self.say = task, study, tracked, wanted, say
        self.interrupt = Interrupt()
        self.metric = task.training.monitor
        self._checkpoint: Checkpoint | None = None

    def __call__(self, trial: Trial) -> float:
        """One trial, as Optuna calls it: the value of its best epoch.

        Raises:
            Withdrawn: it is not to be trained.
            optuna.TrialPruned: it was ended early, or failed; its attribute `reason` says why.
        """
        trial.set_user_attr(OWNER, owner())
        suggest(trial, self.task.space.distributions)
        values = claim(self.study, trial, self.task.space, self.wanted)
        started = time.monotonic()
        try:
            value = self._trained(trial, values)
        except optuna.TrialPruned as pruned:
            self._tell(trial, values, str(pruned), time.monotonic() - started, None)
            raise
        self._tell(trial, values, f"{self.metric} {value:.4f}", time.monotonic() - started, value)
        return value

    def told(self) -> None:
        """The database has the end of the trial, which needs nothing any more to go on."""
        if self._checkpoint:
            self._checkpoint.remove()

    def _trained(self, trial: Trial, values: Values) -> float:
        try:
            ended = self._epochs(trial, values)
        except (ParamsError, tf.errors.ResourceExhaustedError) as error:
            reason = str(error) if isinstance(error, ParamsError) else "the device's memory is full"
            trial.set_user_attr(REASON, reason)
            raise optuna.TrialPruned(f"failed: {reason}") from error
        if isinstance(ended, optuna.TrialPruned):
            raise ended
        return ended

    def _epochs(self, trial: Trial, values: Values) -> float | optuna.TrialPruned:
        task = self.task
        params = with_values(task.params, task.name, values)
        trainer = Trainer(task.name, params, task.info, task.shards)
        progress = f"trial {trial.number}, {len(trials(self.study, FINISHED))} of {self.wanted} finished,"
        trainer.display = Quiet(progress, task.how.epochs, trainer.steps, self.interrupt)
        identity = training_id(task.name, params, task.info)
        code = code_version(params.model(task.name).architecture, task.info)
        self._checkpoint = Checkpoint(task.checkpoints / f"{identity}-{code}")
        for epoch, figures in enumerate(_figures(self._checkpoint.read_history())):
            trial.report(figures[self.metric], epoch)  # the trial before it was broken off after these
        run = TrialRun(identity, code, self.tracked.tags(trial.number), lambda *heard: self._heard(trial, *heard))
        with live_run(run, self.tracked.beside_models(params), task.name, task.info, summary(trainer.model)):
            try:
                history = trainer.run(self._checkpoint, run)
            except optuna.TrialPruned as pruned:  # no failure of the run
                run.tag({"state": "ended early"})
                return pruned
            value = history.metrics[self.metric][history.best_epoch]
            if not math.isfinite(value):
                raise ParamsError(f"{self.metric} became {value}")
            run.tag({"state": "finished"})
        return value

    def _heard(self, trial: Trial, epoch: int, figures: Mapping[str, float]) -> None:
        value = figures[self.metric]
        trial.report(value, epoch)
        self.interrupt.check()
        if epoch + 1 < self.task.how.epochs and trial.should_prune():
            raise optuna.TrialPruned(f"ended after epoch {epoch + 1} with {self.metric} {value:.4f}")

    def _tell(self, trial: Trial, values: Values, result: str, seconds: float, value: float | None) -> None:
        finished = trials(self.study, FINISHED)
        reached = {
            one.number: one.value for one in finished if one.state == TrialState.COMPLETE and one.value is not None
        }
        if value is not None:
            reached[trial.number] = value
        best = ""
        if reached:
            number = (max if self.task.how.maximize else min)(reached, key=lambda one: reached[one])
            best = f"; best {reached[number]:.4f} (trial {number})"
            self.tracked.log_best(self.metric, len(finished) + 1, reached[number])
        course = f"{len(finished) + 1}/{self.wanted} trial {trial.number}: {result}, {seconds:.0f} s"
        self.say(f"{course}; {shown_values(values)}{best}")


class Quiet(EpochDisplay):
    """The bar of the running epoch, but no line for a finished one: a trial has one in all."""

    def __init__(self, name: str, epochs: int, steps: int, interrupt: Interrupt) -> None:
        """As `EpochDisplay`; Ctrl-C comes through between two batches."""
        super().__init__(name, epochs, steps)
        self.say = lambda *_, **__: None
        self._interrupt = interrupt

    @contextmanager
    def epoch(self, number: int) -> Iterator[Any]:
        """As `EpochDisplay.epoch`."""
        with super().epoch(number) as bar:

            def moved(batch: int, logs: Any = None) -> None:
                bar.on_train_batch_end(batch, logs=logs)
                self._interrupt.check()

            yield keras.callbacks.LambdaCallback(on_train_batch_end=moved)

    def finished(self, history: History) -> None:
        """Say nothing."""


def shown_values(values: Mapping[str, Any]) -> str:
    """The values of a trial in a line."""
    return ", ".join(f"{key.removeprefix('training.')} {shown_value(value)}" for key, value in values.items())


def shown_value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _figures(history: History | None) -> list[dict[str, float]]:
    """The figures of each epoch that is done."""
    if history is None:
        return []
    columns = [[(name, value) for value in values] for name, values in history.metrics.items()]
    return [dict(epoch) for epoch in zip(*columns, strict=False)]
