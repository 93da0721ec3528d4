"""A study in MLflow: a run of its own, and nested below it a run for each trial, in an experiment beside the models'.

MLflow is a witness here as it is for trainings: where it cannot be reached, one line says so and tuning goes on.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Param
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME
from optuna.study import Study

from emotion_detection.errors import RegistryError
from emotion_detection.mlflow_store import connect, explained, if_any, tracking_uri
from emotion_detection.params import Params
from emotion_detection.tracking import LiveRun, ensure_experiment, set_tags

PARENT = "mlflow_run"
WAIT_SECONDS = 10
FILES = "tuning"


class TrialRun(LiveRun):
    """The run of one trial; it also hears of every epoch."""

    without_mlflow = "Tuning goes on; MLflow will lack this trial."

    def __init__(
        self, training_id: str, code: str, tags: Mapping[str, str], heard: Callable[[int, Mapping[str, float]], None]
    ) -> None:
        """`heard` is called after each epoch, counted from zero, with its figures, and may raise."""
        super().__init__(training_id, code, tags)
        self._heard = heard

    def log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        super().log_epoch(epoch, metrics)
        self._heard(epoch, metrics)

    def tag(self, tags: Mapping[str, str]) -> None:
        """Note how the trial ended."""
        self._attempt(lambda client, run_id: set_tags(client, run_id, tags))


class StudyRun:
    """The run of a study, shared by all processes that work on it."""

    def __init__(self, params: Params, name: str) -> None:
        """For the study `name`; nothing is sent before `start`."""
        self.experiment, self.name = f"{params.registry.experiment}-tuning", name
        self.run_id: str | None = None

    def start(self, study: Study, created: bool, about: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Open the run again, or make it if this process has made the study or nobody else does.

        Args:
            created: whether this process has made the study.
            about: parameters that MLflow shows.
            tags: such as `model`.
        """

        def call(client: MlflowClient, uri: str) -> None:
            experiment = ensure_experiment(client, uri, self.experiment)
            known = None if created else _known_run(study)
            run = if_any(lambda: client.get_run(known)) if known else None
            if run is not None and run.info.lifecycle_stage == "active":
                self.run_id = str(run.info.run_id)
                client.update_run(self.run_id, status="RUNNING")
                return
            run = client.create_run(experiment.experiment_id, run_name=self.name, tags=dict(tags))
            self.run_id = str(run.info.run_id)
            study.set_user_attr(PARENT, self.run_id)
            client.log_batch(self.run_id, params=[Param(key, str(value)[:6000]) for key, value in about.items()])

        if not self._attempt(call):
            study.set_user_attr(PARENT, study.user_attrs.get(PARENT, ""))  # nobody needs to wait for it

    def beside_models(self, params: Params) -> Params:
        """Parameters by which a trial's run lies in the experiment of this one, not among those of the models."""
        return params.model_copy(
            update={"registry": params.registry.model_copy(update={"experiment": self.experiment})}
        )

    def tags(self, number: int) -> dict[str, str]:
        """What makes the run of a trial one below this; nothing where there is none."""
        parent = {MLFLOW_PARENT_RUN_ID: self.run_id} if self.run_id else {}
        return {MLFLOW_RUN_NAME: f"{self.name}-{number}", "study": self.name, "trial": str(number)} | parent

    def log_best(self, metric: str, finished: int, value: float) -> None:
        """Add a point to the curve of the best value over the finished trials."""
        if run_id := self.run_id:
            self._attempt(lambda client, _: client.log_metric(run_id, f"best/{metric}", value, step=finished))

    def end(self, status: str, files: Path | None = None, best: Mapping[str, Any] | None = None) -> None:
        """Close the run, with a directory of pictures and tables, and the best values as tags."""
        if not (run_id := self.run_id):
            return

        def call(client: MlflowClient, _: str) -> None:
            if files:
                client.log_artifacts(run_id, str(files), FILES)
            set_tags(client, run_id, {f"best.{key}": json.dumps(value) for key, value in (best or {}).items()})
            client.set_terminated(run_id, status)

        self._attempt(call)

    def _attempt(self, call: Callable[[MlflowClient, str], object]) -> bool:
        try:
            uri = tracking_uri()
            client = connect(uri)
            with explained(uri):
                call(client, uri)
        except RegistryError as error:
            self.run_id = None
            print(f"warning: {error}. Tuning goes on without the study's run.", file=sys.stderr, flush=True)
            return False
        return True


def _known_run(study: Study) -> str | None:
    """The run that the process which made the study has opened; it is given some seconds for it."""
    end = time.monotonic() + WAIT_SECONDS
    while PARENT not in study.user_attrs and time.monotonic() < end:
        time.sleep(0.2)
    return study.user_attrs.get(PARENT)
