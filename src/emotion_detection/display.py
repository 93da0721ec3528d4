"""What a training shows: a bar over the running epoch on a terminal, and one line for each finished epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from emotion_detection.artifacts import History
from emotion_detection.backend import keras


class EpochDisplay:
    """Prints the course of one training."""

    def __init__(self, name: str, epochs: int, steps: int) -> None:
        """For a model `name` that trains for `epochs` of `steps` batches each."""
        self.name, self.epochs, self.steps = name, epochs, steps
        self.console = Console(highlight=False)
        self.say = self.console.print

    @contextmanager
    def epoch(self, number: int) -> Iterator[Any]:
        """Show a bar while an epoch runs; yields the Keras callback that moves it."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as bar:
            task: TaskID = bar.add_task(f"{self.name} epoch {number + 1}/{self.epochs}", total=self.steps)
            yield keras.callbacks.LambdaCallback(on_train_batch_end=lambda _, **__: bar.advance(task))

    def finished(self, history: History) -> None:
        """Print one line for the last epoch of `history`; a star marks the best one so far."""
        last = {name: values[-1] for name, values in history.metrics.items()}
        done = len(history.metrics["loss"])
        star = "*" if history.best_epoch == done - 1 else " "
        self.say(f"{self.name} {done:>3}/{self.epochs} {describe(last)} {star} {self._times(history)}", soft_wrap=True)

    def _times(self, history: History) -> str:
        seconds = history.metrics["seconds"]
        left = sum(seconds) / len(seconds) * (self.epochs - len(seconds))
        return f"{seconds[-1]:.1f} s, {timedelta(seconds=round(left))} left"


def describe(metrics: Mapping[str, float]) -> str:
    """The figures of one epoch in a line."""
    return (
        f"loss {metrics['loss']:.3f} accuracy {metrics['accuracy']:6.1%}"
        f"  val_loss {metrics['val_loss']:.3f} val_accuracy {metrics['val_accuracy']:6.1%}"
    )
