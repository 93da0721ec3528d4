"""What a training needs to go on after it was killed: written after every epoch, whole or not at all.

    .checkpoints/NAME/TRAINING_ID/epoch-00003/state.weights.h5    model, optimizer, schedule
                                              average.npz         moving average of the weights, where there is one
                                              best.weights.h5     weights of the best epoch so far
                                              history.json        the curves so far

It is no output of DVC, which deletes outputs before it runs a stage again. Keras's own BackupAndRestore keeps
neither the curves nor the best weights nor how long nothing improved, and overwrites its only copy in place.
"""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emotion_detection.artifacts import History, atomic_directory, read_record, write_record
from emotion_detection.averaging import WeightAverage
from emotion_detection.saving import bare

if TYPE_CHECKING:
    import keras

CHECKPOINTS = Path(".checkpoints")
STATE, AVERAGE, BEST, HISTORY = "state.weights.h5", "average.npz", "best.weights.h5", "history.json"


class Checkpoint:
    """The last finished epoch of one training, on disk."""

    def __init__(self, directory: Path) -> None:
        """`directory` belongs to this training alone; it need not exist."""
        self.directory = directory

    def read_history(self) -> History | None:
        """The curves up to the last finished epoch; none if no epoch was finished."""
        latest = self._latest()
        return read_record(latest / HISTORY, History) if latest else None

    def save(self, model: keras.Model, history: History, average: WeightAverage | None = None) -> None:
        """Replace the checkpoint.

        Args:
            model: compiled, in its state after the last epoch of `history`.
            history: all epochs so far.
            average: of the model's weights, if it is what was judged.

        Raises:
            ArtifactError: the disk is full or cannot be written.
        """
        previous = self._latest()
        epochs = len(history.metrics["loss"])
        # Under a new name, and the old one goes last: a kill at any point leaves one of the two.
        with atomic_directory(self.directory / f"epoch-{epochs:05d}") as new:
            model.save_weights(new / STATE)
            if average:
                np.savez(new / AVERAGE, *average.state())
            if previous is None or history.best_epoch == epochs - 1:
                with average.in_model() if average else nullcontext():
                    bare(model).save_weights(new / BEST)
            else:
                shutil.copyfile(previous / BEST, new / BEST)
            write_record(new / HISTORY, history)
        if previous:
            shutil.rmtree(previous)

    def restore_last(self, model: keras.Model, average: WeightAverage | None = None) -> None:
        """Load weights and optimizer state of the last finished epoch into the compiled model, and their average."""
        model.optimizer.build(model.trainable_variables)
        model.load_weights(self._existing() / STATE)
        if average:
            with np.load(self._existing() / AVERAGE, allow_pickle=False) as state:
                average.restore([state[name] for name in state.files])

    def restore_best(self, model: keras.Model) -> None:
        """Load the weights of the best epoch; optimizer and schedule stay as they are."""
        bare(model).load_weights(self._existing() / BEST)

    def remove(self) -> None:
        """Forget the training, because it is finished."""
        finished = self.directory.with_suffix(".finished")
        shutil.rmtree(finished, ignore_errors=True)
        if self.directory.exists():
            self.directory.rename(finished)  # a kill in the middle of rmtree must not leave half a checkpoint
            shutil.rmtree(finished)

    def _latest(self) -> Path | None:
        return max(self.directory.glob("epoch-*"), default=None)

    def _existing(self) -> Path:
        latest = self._latest()
        if latest is None:
            raise FileNotFoundError(self.directory)
        return latest
