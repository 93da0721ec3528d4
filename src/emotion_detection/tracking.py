"""A training as it runs, in MLflow: parameters, curves, system metrics, data set, lineage.

    with live_run(LiveRun(training_id, code), params, "lenet", dataset, summary) as run:
        run.log_epoch(0, {"loss": 1.9, "val_loss": 1.8})

MLflow is a witness, never a condition: if it cannot be reached, at the start or midway, one line says so and
the training goes on. `registration.complete_run` adds what is missing from DVC's files.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Experiment, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from emotion_detection.artifacts import DatasetInfo
from emotion_detection.bundle import Lineage
from emotion_detection.errors import RegistryError
from emotion_detection.lineage import current_lineage
from emotion_detection.mlflow_store import artifact_location, connect, explained, shown, tracking_uri
from emotion_detection.params import Params

__all__ = ["LiveRun", "live_run", "tracking_uri"]

SUMMARY_FILE = "model_summary.txt"
CODE_TAG = "training_code"
RunType = TypeVar("RunType", bound="LiveRun")
DIGEST_LENGTH = 36  # MLflow's limit; the tag data_hash has all of it


class LiveRun:
    """The MLflow run of a training that is going on; without MLflow its methods do nothing."""

    without_mlflow = "Training goes on; register completes the run."

    def __init__(self, training_id: str, code: str = "", tags: Mapping[str, str] | None = None) -> None:
        """
        Args:
            training_id: `RunInfo.training_id`.
            code: `training.code_version`.
            tags: set besides those of lineage and model.
        """
        self.training_id, self.code, self.tags = training_id, code, tags or {}
        self.run_id: str | None = None
        self._uri = ""
        self._client: MlflowClient | None = None
        self._monitor: Any = None

    def log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Add one point to each curve; epochs are counted from zero."""
        self._attempt(lambda client, run_id: log_points(client, run_id, {k: {epoch: v} for k, v in metrics.items()}))

    def _start(self, params: Params, model: str, dataset: DatasetInfo, summary: str) -> None:
        try:
            self._uri = tracking_uri()
            client = connect(self._uri)
            with explained(self._uri):
                same = {"training_id": self.training_id, CODE_TAG: self.code}
                self.run_id = open_run(client, self._uri, params, model, same).info.run_id
                self._client = client
                # dvc.lock still has the entries of the training before; export knows those of this one.
                lineage = current_lineage(model, dataset.data_hash, self.training_id).model_copy(
                    update={"dvc_lock": None}
                )
                describe(client, self.run_id, params, model, dataset)
                set_tags(client, self.run_id, lineage_tags(lineage) | model_tags(params, model) | dict(self.tags))
                client.log_text(self.run_id, summary, SUMMARY_FILE)
                self._monitor = _started_monitor(self.run_id, self._uri)
        except RegistryError as error:
            self._give_up(error)

    def _end(self, status: str) -> None:
        self._attempt(lambda client, run_id: client.set_terminated(run_id, status))
        if self._monitor:
            self._monitor.finish()

    def _attempt(self, call: Callable[[MlflowClient, str], object]) -> None:
        if self._client is None or self.run_id is None:
            return
        try:
            with explained(self._uri):
                call(self._client, self.run_id)
        except RegistryError as error:
            self._give_up(error)

    def _give_up(self, error: RegistryError) -> None:
        self._client = None  # one silence is enough: trying again at every epoch would hold up the training
        print(f"warning: {error}. {self.without_mlflow}", file=sys.stderr, flush=True)


def _started_monitor(run_id: str, uri: str) -> Any:
    monitor: Any = SystemMetricsMonitor(run_id, sampling_interval=5, resume_logging=True, tracking_uri=uri)  # type: ignore[no-untyped-call]
    monitor.start()
    return monitor


@contextmanager
def live_run(run: RunType, params: Params, model: str, dataset: DatasetInfo, summary: str) -> Iterator[RunType]:
    """Record a training in MLflow; never fails because of MLflow.

    A run of the same training by the same code that did not finish is continued.

    Args:
        run: not started yet.
        model: name of the entry in `models` of params.yaml.
        summary: what `keras.Model.summary` prints.
    """
    run._start(params, model, dataset, summary)
    try:
        yield run
    except KeyboardInterrupt:
        run._end("KILLED")
        raise
    except BaseException:
        run._end("FAILED")
        raise
    run._end("FINISHED")


def open_run(client: MlflowClient, uri: str, params: Params, model: str, tags: Mapping[str, str]) -> Run:
    """The unfinished run that carries these tags, set to running again; else a new one."""
    experiment = ensure_experiment(client, uri, params.registry.experiment)
    for run in find_runs(client, params.registry.experiment, **tags):
        if run.info.status != "FINISHED":
            client.update_run(run.info.run_id, status="RUNNING")
            return run
    return client.create_run(experiment.experiment_id, run_name=model, tags=dict(tags))


def find_runs(client: MlflowClient, experiment: str, **tags: str) -> list[Run]:
    """Runs of the experiment that carry all these tags, newest first."""
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return []
    query = " and ".join(f"tags.{key} = '{value}'" for key, value in tags.items())
    return list(client.search_runs([found.experiment_id], query, order_by=["attributes.start_time DESC"]))


def ensure_experiment(client: MlflowClient, uri: str, name: str) -> Experiment:
    """The experiment, made if there is none.

    Raises:
        RegistryError: it has been deleted in MLflow.
    """
    experiment = client.get_experiment_by_name(name) or _new_experiment(client, uri, name)
    if experiment.lifecycle_stage != "active":
        raise RegistryError(
            f"MLflow at {shown(uri)}: the experiment {name!r} is deleted; restore it with `mlflow experiments restore "
            f"--experiment-id {experiment.experiment_id}`, or set registry.experiment to another name"
        )
    return experiment


def _new_experiment(client: MlflowClient, uri: str, name: str) -> Experiment:
    try:
        return client.get_experiment(client.create_experiment(name, artifact_location(uri)))
    except MlflowException as error:
        found = client.get_experiment_by_name(name)  # another pipeline may have been quicker
        if found is None:
            raise error
        return found


def describe(client: MlflowClient, run_id: str, params: Params, model: str, dataset: DatasetInfo) -> None:
    """Log parameters and data set of a run; what is there already stays."""
    known = client.get_run(run_id).data.params
    wanted = {key: value[:6000] for key, value in flat_params(params, model).items()}
    client.log_batch(run_id, params=[Param(key, value) for key, value in wanted.items() if key not in known])
    inputs = [DatasetInput(dataset_entity(dataset, params.data.source))]
    try:
        client.log_inputs(run_id, inputs)
    except MlflowException as error:
        if error.error_code != "BAD_REQUEST":
            raise
        client.log_inputs(run_id, inputs)  # another pipeline was quicker to enter the data set: now MLflow finds it


def set_tags(client: MlflowClient, run_id: str, tags: Mapping[str, str]) -> None:
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])


def flat_params(params: Params, model: str) -> dict[str, str]:
    """What decides the training of one model, as `section.key` -> text."""
    sections = {
        "seed": params.seed_of(model),
        "data": params.data.model_dump(),
        "training": params.training_of(model).model_dump(exclude={"seed"}),
        "model": {"architecture": params.model(model).architecture, **params.model(model).hyperparameters},
    }
    return dict(_flatten(sections))


def model_tags(params: Params, model: str) -> dict[str, str]:
    return {"model": model, "architecture": params.model(model).architecture}


def lineage_tags(lineage: Lineage) -> dict[str, str]:
    """The links that `emotion trace` follows; `mlflow.source.git.commit` is what MLflow's pages show."""
    tags = {
        "training_id": lineage.training_id,
        "data_hash": lineage.data_hash,
        "git_commit": lineage.commit,
        "git_dirty": str(lineage.dirty).lower(),
        "dvc_lock": lineage.dvc_lock,
        "mlflow.source.git.commit": lineage.commit,
    }
    return {key: value for key, value in tags.items() if value is not None}


def dataset_entity(dataset: DatasetInfo, source: str) -> Dataset:
    """The data set as MLflow shows it: counts by split and class, digest from the data hash."""
    return Dataset(
        name=source.rstrip("/").rpartition("/")[2],
        digest=dataset.data_hash[:DIGEST_LENGTH],
        source_type="dvc",
        source=json.dumps({"uri": source, "path": "data/shards"}),
        profile=json.dumps({"labels": dataset.labels, "counts": dataset.counts, "image_size": dataset.image_size}),
    )


def log_points(client: MlflowClient, run_id: str, curves: Mapping[str, Mapping[int, float]]) -> None:
    """Add the points (metric -> step -> value) that the run does not have yet."""
    now = int(time.time() * 1000)
    present = client.get_run(run_id).data.metrics
    points = [
        Metric(key, value, now, step)
        for key, curve in curves.items()
        for step, value in _missing(client, run_id, key, curve, key in present).items()
    ]
    for start in range(0, len(points), 1000):
        client.log_batch(run_id, metrics=points[start : start + 1000])


def _missing(
    client: MlflowClient, run_id: str, key: str, curve: Mapping[int, float], present: bool
) -> dict[int, float]:
    logged = {(point.step, point.value) for point in client.get_metric_history(run_id, key)} if present else set()
    return {step: value for step, value in curve.items() if not any(s == step and _same(value, v) for s, v in logged)}


def _same(first: float, second: float) -> bool:
    return math.isclose(first, second, rel_tol=1e-9) or (math.isnan(first) and math.isnan(second))


def _flatten(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)
