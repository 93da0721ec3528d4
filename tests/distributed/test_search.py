"""`emotion tune` with EMOTION_ENGINE=ray: two workers on one study."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest
from optuna.study import Study
from optuna.trial import TrialState
from typer.testing import CliRunner, Result

from emotion_detection.artifacts import SHARDS
from emotion_detection.cli import app
from emotion_detection.distributed import search as distributed_search
from emotion_detection.distributed.cluster import Cluster, imported
from emotion_detection.errors import TuningError
from emotion_detection.params import load_params
from emotion_detection.tuning.owners import OWNER
from emotion_detection.tuning.search import Search
from emotion_detection.tuning.study import FINISHED
from emotion_detection.tuning.task import prepare
from tests.distributed.conftest import soon
from tests.toy_shards import toy_shards

pytestmark = pytest.mark.xdist_group("ray")
EPOCHS = "6"
PARAMS = """\
data: {image_size: 16, channels: 1, shards: 1}
training: {batch_size: 16, learning_rate: 0.01}
models: {toy: {architecture: lenet, filters: [4], dense: [8]}}
tuning:
  space:
    training.learning_rate: {choices: [0.01, 0.02]}
    training.optimizer: {choices: [adam, sgd]}
"""


@pytest.fixture
def here(tmp_path: Path, sqlite_uri: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    assert str(tmp_path) in sqlite_uri
    toy_shards(tmp_path / SHARDS)
    (tmp_path / "params.yaml").write_text(PARAMS)
    monkeypatch.setenv("EMOTION_ENGINE", "ray")
    return tmp_path


def tune(trials: str) -> Result:
    return CliRunner().invoke(app, ["tune", "toy", "--trials", trials, "--epochs", EPOCHS, "--json"])


def study() -> Study:
    return Search(prepare("toy", load_params(), int(EPOCHS)), 4).study


def kill_in_a_trial(here: Path, tuned: Future[Result]) -> None:
    """SIGKILL for a worker that has done some of its trial's epochs."""
    soon(lambda: any(here.glob("tuning/toy/checkpoints/*/*/epoch-*")), tuned)
    begun = study()

    def victim() -> int | None:
        for trial in begun.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            if 0 < len(trial.intermediate_values) < int(EPOCHS) - 1:
                return int(trial.user_attrs[OWNER]["pid"])
        return None

    os.kill(soon(victim, tuned), signal.SIGKILL)


def test_two_workers_share_a_study_and_one_is_killed(ray_cluster: str, here: Path) -> None:
    assert ray_cluster
    with ThreadPoolExecutor(1) as pool:
        tuned = pool.submit(tune, "9")
        kill_in_a_trial(here, tuned)
        result = tuned.result()
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert len({json.dumps(row["values"]) for row in found["rows"]}) == len(found["rows"]) == 4
    everything = study().get_trials()
    finished = [trial.params for trial in everything if trial.state in FINISHED]
    dead = [trial.params for trial in everything if trial.state == TrialState.FAIL and trial.intermediate_values]
    assert [finished.count(params) for params in dead] == [1]  # it was done again, and once
    assert len({trial.user_attrs[OWNER]["pid"] for trial in everything if OWNER in trial.user_attrs}) >= 2
    assert "4/4 trial" in result.stderr


def test_machines_do_not_share_an_sqlite_file(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = {"NodeManagerHostname": "one", "Resources": {"CPU": 1.0}}
    cluster = Cluster(imported(), (node, node | {"NodeManagerHostname": "two"}))
    monkeypatch.setattr(distributed_search, "connected", lambda: nullcontext(cluster))
    with pytest.raises(TuningError, match="sqlite file is for one machine, and the cluster has 2"):
        distributed_search.run_trials(Search(prepare("toy", load_params(), 1), 1))
    assert here.exists()
