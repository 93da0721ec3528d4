"""What is tuned, with everything checked that can be checked before a training."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from emotion_detection.artifacts import SHARDS, DatasetInfo
from emotion_detection.errors import ArtifactError, ParamsError
from emotion_detection.params import Params, TrainingParams
from emotion_detection.training import Trainer, trainable, training_id
from emotion_detection.tuning.space import Space, search_space, with_values
from emotion_detection.tuning.study import How

TUNING = Path("tuning")


@dataclass(frozen=True)
class Task:
    """One model, its search space, and the data."""

    name: str
    """Entry in `models` of params.yaml."""
    params: Params
    """With the epochs of a trial."""
    space: Space
    info: DatasetInfo
    shards: Path

    @cached_property
    def training(self) -> TrainingParams:
        return self.params.training_of(self.name)

    @cached_property
    def study(self) -> str:
        """Names all that decides the result, but not the present values of what is tuned."""
        others = training_id(self.name, with_values(self.params, self.name, self.space.first()), self.info)
        space = {key: repr(distribution) for key, distribution in self.space.distributions.items()}
        decisive = json.dumps([others, space, self.training.total_epochs], sort_keys=True)
        return f"{self.name}-{hashlib.sha256(decisive.encode()).hexdigest()[:12]}"

    @property
    def how(self) -> How:
        tuning, maximize = self.params.tuning, self.training.monitor != "val_loss"
        return How(self.params.seed, self.training.total_epochs, maximize, tuning.startup, tuning.pruner)

    @property
    def directory(self) -> Path:
        return TUNING / self.name

    @property
    def checkpoints(self) -> Path:
        """Of trials that are not finished."""
        return self.directory / "checkpoints" / self.study


def prepare(name: str, params: Params, epochs: int | None = None, shards: Path = SHARDS) -> Task:
    """Check everything that can be checked before a training.

    Args:
        name: entry in `models` of params.yaml.
        params: all parameters.
        epochs: of each trial, in place of `training.epochs`; stages of fine-tuning keep theirs.
        shards: directory that the shards stage made.

    Raises:
        ParamsError: there is no such model, it cannot be built, or the search space is wrong.
        ArtifactError: the shards are missing, damaged or do not fit params.yaml.
    """
    params = with_values(params, name, {} if epochs is None else {"training.epochs": epochs})
    if not params.training_of(name).total_epochs:
        raise ParamsError(f"models.{name}: trains for no epoch, so there is nothing to tune; see --epochs")
    task = Task(name, params, search_space(params, name), checked_info(params, shards), shards)
    Trainer(name, params, task.info, shards)  # what is wrong without any tuned value would end every trial
    return task


def checked_info(params: Params, shards: Path) -> DatasetInfo:
    """What the shards hold.

    Raises:
        ArtifactError: they are missing, altered, have no validation images, or are not those of params.yaml.
    """
    info = trainable(shards)
    if (info.image_size, info.channels) != (params.data.image_size, params.data.channels):
        raise ArtifactError(f"{shards}: not made with the present data.image_size and data.channels; run `dvc repro`")
    return info
