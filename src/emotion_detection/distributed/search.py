"""Trials of one study by the workers of a Ray cluster: `emotion tune` with EMOTION_ENGINE=ray.

Each worker is a task that does what `emotion tune` does on one machine, on the same study. So a study may be begun
here and finished there, whoever claims a trial does it alone, and what a dead worker has begun goes on from its last
epoch. Ray Tune has no part in it: its searcher draws for all trials in one process, on a study of its own, which no
other process may join and which knows neither claims nor checkpoints.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from emotion_detection.distributed.cluster import RETRIES, Cluster, connected
from emotion_detection.errors import TuningError
from emotion_detection.tuning.objective import shown_values
from emotion_detection.tuning.search import Search
from emotion_detection.tuning.storage import SQLITE, shown
from emotion_detection.tuning.study import FINISHED, REASON, trials, values_of
from emotion_detection.tuning.task import Task

POLL_SECONDS = 0.5


def run_trials(search: Search) -> None:
    """As `tuning.search.run_trials`, with as many trials at a time as the cluster has workers.

    Raises:
        TuningError: as there, or machines are to share an sqlite file.
        EngineError: there is no such cluster, or its workers died too often.
    """
    told = {trial.number for trial in trials(search.study, FINISHED)}
    if len(told) >= search.wanted:
        return
    with connected() as cluster:
        if cluster.machines > 1 and search.url.startswith(SQLITE):
            raise TuningError(
                f"--storage {shown(search.url)}: an sqlite file is for one machine, and the cluster has "
                f"{cluster.machines}; expected a server such as postgresql://USER:PASSWORD@HOST/DATABASE"
            )
        search.track()
        try:
            _follow(cluster, _started(cluster, search), search, told)
        except BaseException as error:
            search.tracked.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise


def work(task: Task, wanted: int, url: str, root: Path, environment: dict[str, str]) -> None:
    """Do trials until the study has enough, as one of several processes; runs on a worker."""
    os.chdir(root)
    os.environ.update(environment)
    Search(task, wanted, url).run()


def _started(cluster: Cluster, search: Search) -> list[Any]:
    remote = cluster.ray.remote(
        num_cpus=1, num_gpus=1 if cluster.gpus else 0, max_retries=RETRIES, scheduling_strategy="SPREAD"
    )(work)
    environment = {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}
    number = min(cluster.workers, search.wanted - search.finished)
    url = search.url
    if url.startswith(SQLITE):
        url = f"{SQLITE}{Path(url.removeprefix(SQLITE)).absolute()}"
    return [remote.remote(search.task, search.wanted, url, Path.cwd(), environment) for _ in range(number)]


def _follow(cluster: Cluster, pending: list[Any], search: Search, told: set[int]) -> None:
    """Tell of each trial once, until all workers are done."""
    while pending:
        done, pending = cluster.ray.wait(pending, num_returns=len(pending), timeout=POLL_SECONDS)
        for trial in trials(search.study, FINISHED):
            if trial.number not in told:
                told.add(trial.number)
                search.say(f"{len(told)}/{search.wanted} trial {trial.number}: {_result(trial, search)}")
        cluster.ray.get(done)


def _result(trial: FrozenTrial, search: Search) -> str:
    metric, values = search.task.training.monitor, values_of(trial, search.task.space) or {}
    if trial.value is None:
        found = f"failed: {trial.user_attrs[REASON]}" if REASON in trial.user_attrs else "ended early"
    else:
        found = f"{metric} {trial.value:.4f}"
    return f"{found}; {shown_values(values)}"
