"""`emotion tune` on a tiny network: real trainings, real processes, a real MLflow store."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from optuna.study import Study
from optuna.trial import TrialState
from ruamel.yaml import YAML
from typer.testing import CliRunner, Result

from emotion_detection.artifacts import SHARDS
from emotion_detection.cli import app
from emotion_detection.data.shards import read_dataset_info
from emotion_detection.errors import ArtifactError, ParamsError
from emotion_detection.mlflow_store import connect
from emotion_detection.params import Params, load_params, merge, parse_params
from emotion_detection.tuning.search import Search
from emotion_detection.tuning.space import search_space
from emotion_detection.tuning.storage import open_storage
from emotion_detection.tuning.study import FINISHED, How, open_study, trials
from emotion_detection.tuning.task import Task, prepare
from tests.clone import free_port
from tests.toy_shards import toy_shards

ROOT = Path(__file__).parents[2]
PARAMS = """\
# A comment at the top.
seed: 0
data: {image_size: 16, channels: 1, shards: 1}
training: {batch_size: 16, epochs: 2, learning_rate: 0.01} # for all
models:
  toy: # tiny
    architecture: lenet
    filters: [4]
    dense: [8] # one layer
  other: {architecture: lenet}
tuning:
  space: # four combinations
    training.learning_rate: {choices: [0.01, 0.02]}
    training.optimizer: {choices: [adam, sgd]}
registry: {experiment: tests, model: detector}
"""
EPOCHS = 6
COMMAND = "import emotion_detection.cli as cli; cli.app()"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tuned")
    toy_shards(directory / SHARDS)
    (directory / "params.yaml").write_text(PARAMS)
    return directory


@pytest.fixture
def here(template: Path, sqlite_uri: str, tmp_path: Path) -> Path:
    """The current directory: params.yaml, shards, and an empty MLflow store."""
    assert str(tmp_path) in sqlite_uri
    return Path(shutil.copytree(template, tmp_path, dirs_exist_ok=True))


def start(*words: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", COMMAND, "tune", "toy", *words]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def emotion(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def tuned(*words: str) -> Any:
    result = emotion("tune", "toy", *words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def tuning_runs() -> list[Run]:
    client = connect()
    experiment = client.get_experiment_by_name("tests-tuning")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def wait_for_first_epoch() -> None:
    end = time.monotonic() + 300
    while not list(Path("tuning/toy/checkpoints").glob("*/*/epoch-00001")):
        assert time.monotonic() < end, "no epoch was finished"
        time.sleep(0.02)


def test_two_processes_share_a_study_one_is_killed_and_the_best_values_are_written(here: Path) -> None:
    with start("--trials", "9", "--epochs", str(EPOCHS)) as one, start("--trials", "9", "--epochs", str(EPOCHS)) as two:
        both = (one, two)
        try:
            kill_one_in_a_trial(both)
            outputs = [process.communicate(timeout=300) for process in both]
        finally:
            for process in both:
                process.kill()
    assert sorted(process.returncode for process in both) == [-signal.SIGKILL, 0], outputs
    found = tuned("--trials", "9", "--epochs", str(EPOCHS), "--write")
    assert len(found["rows"]) == 4  # all combinations, though nine trials were asked for
    assert len({json.dumps(row["values"]) for row in found["rows"]}) == 4
    assert {row["epochs"] for row in found["rows"]} == {EPOCHS}
    report = here / "tuning/toy/report"
    assert {path.name for path in report.iterdir()} >= {"history.png", "trials.csv", "best.yaml"}

    everything = shared_study(found["study"]).get_trials()
    dead = [trial.params for trial in everything if trial.state == TrialState.FAIL and trial.intermediate_values]
    finished = [trial.params for trial in everything if trial.state in FINISHED]
    assert [finished.count(params) for params in dead] == [1]

    parent, children = split(tuning_runs())
    assert parent.info.status == "FINISHED"
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert [run.info.status for run in children] == ["FINISHED"] * 4  # the killed part and the rest are one run
    for run in children:
        steps = [point.step for point in connect().get_metric_history(run.info.run_id, "val_loss")]
        assert steps == list(range(EPOCHS))
    assert parent.data.metrics["best/val_accuracy"] == found["best"]["value"]
    assert "tuning/history.png" in {file.path for file in connect().list_artifacts(parent.info.run_id, "tuning")}
    assert not list(Path("tuning/toy/checkpoints").iterdir())

    text, best = Path("params.yaml").read_text(), found["best"]["values"]
    comments = ("# A comment at the top.", "# for all", "# tiny", "# one layer")
    assert [comment for comment in comments if comment not in text] == []
    params = load_params()
    assert params.training_of("toy").learning_rate == best["training.learning_rate"]
    assert params.training_of("toy").optimizer == best["training.optimizer"]
    assert params.training_of("other").learning_rate == 0.01
    assert "has the best values already" in emotion("tune", "toy", "--trials", "4", "--epochs", str(EPOCHS)).stdout


def kill_one_in_a_trial(processes: Sequence[subprocess.Popen[str]]) -> None:
    """SIGKILL for a process that has done some of its trial's epochs."""
    end = time.monotonic() + 300
    while time.monotonic() < end:
        time.sleep(0.05)
        for begun in Path("tuning/toy/checkpoints").glob("*/*/epoch-0000[12]"):
            for trial in trials(shared_study(begun.parts[-3]), [TrialState.RUNNING]):
                if 0 < len(trial.intermediate_values) < EPOCHS - 1:
                    (owner,) = [one for one in processes if one.pid == trial.user_attrs["owner"]["pid"]]
                    owner.kill()
                    return
    pytest.fail("no epoch was finished")


def shared_study(name: str) -> Study:
    url = f"sqlite:///{Path('tuning/toy/study.db').absolute()}"
    return open_study(open_storage(url), name, How(0, EPOCHS, True, 1, "none"))[0]


def split(runs: list[Run]) -> tuple[Run, list[Run]]:
    """The run of the study, and those of its trials."""
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    return parent, [run for run in runs if run is not parent]


def test_an_interrupt_says_how_to_go_on_and_the_trial_goes_on_after_its_last_epoch(here: Path) -> None:
    assert here == Path.cwd()

    def interrupt() -> None:
        wait_for_first_epoch()
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    result = emotion("tune", "toy", "--trials", "1", "--epochs", "8")
    thread.join()
    assert result.exit_code == 130
    assert "nothing is lost, the same command goes on" in result.stderr
    assert "Traceback" not in result.output
    parent, (child,) = split(tuning_runs())
    assert (parent.info.status, child.info.status) == ("KILLED", "KILLED")
    found = tuned("--trials", "1", "--epochs", "8")
    assert [row["epochs"] for row in found["rows"]] == [8]
    parent, (child,) = split(tuning_runs())
    assert (parent.info.status, child.info.status) == ("FINISHED", "FINISHED")
    steps = [point.step for point in connect().get_metric_history(child.info.run_id, "loss")]
    assert steps == list(range(8))


def test_bad_trials_are_ended_early_and_broken_ones_do_not_end_the_study(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And MLflow is away."""
    assert here == Path.cwd()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    rates = {"choices": [0.02, 1e30, 1e-9]}
    tuning = {"startup": 1, "space": {"training.learning_rate": rates, "training.optimizer": {"choices": ["sgd"]}}}
    task = prepare("toy", parse_params(merge(load_params().model_dump(mode="json"), {"tuning": tuning})), epochs=4)
    lines: list[str] = []
    search = Search(task, 3, say=lines.append)
    for rate in rates["choices"]:
        search.study.enqueue_trial({"training.learning_rate": json.dumps(rate), "training.optimizer": "sgd"})
    search.run()
    states = {trial.params["training.learning_rate"]: trial for trial in trials(search.study, FINISHED)}
    assert states["0.02"].state == TrialState.COMPLETE
    assert len(states["0.02"].intermediate_values) == 4
    assert "the loss became" in states["1e+30"].user_attrs["reason"]
    assert states["1e-09"].state == TrialState.PRUNED
    assert len(states["1e-09"].intermediate_values) < 4
    assert [line.split(" ")[0] for line in lines] == ["1/3", "2/3", "3/3"]
    assert "failed: models.toy: the loss became" in lines[1]
    assert "ended after epoch" in lines[2]
    assert "no answer" in capsys.readouterr().err


def task_of(params: Params, shards: Path = SHARDS, **changes: Any) -> Task:
    info = read_dataset_info(shards).model_copy(update=changes)
    return Task("toy", params, search_space(params, "toy"), info, shards)


def test_a_study_is_another_one_where_the_result_would_be(here: Path) -> None:
    assert here == Path.cwd()
    base = load_params().model_dump(mode="json")

    def name(change: dict[str, Any], **data: str) -> str:
        return task_of(parse_params(merge(base, change)), **data).study

    same: list[dict[str, Any]] = [
        {},
        {"models": {"toy": {"training": {"learning_rate": 0.02, "optimizer": "sgd"}}}},
        {"models": {"other": {"dropout": 0.5}}, "tuning": {"startup": 3}},
    ]
    other: list[dict[str, Any]] = [
        {"seed": 1},
        {"training": {"epochs": 3}},
        {"training": {"monitor": "val_loss"}},
        {"training": {"batch_size": 8}},
        {"models": {"toy": {"dropout": 0.5}}},
        {"tuning": {"space": {"training.learning_rate": {"choices": [0.01, 0.03]}}}},
    ]
    assert len({name(change) for change in same}) == 1
    assert len({name({}), name({}, data_hash="0" * 64), *(name(change) for change in other)}) == len(other) + 2


def test_what_is_wrong_is_said_before_a_training(here: Path) -> None:
    params = load_params()
    with pytest.raises(ParamsError, match=r"models\.vgg: no such model"):
        prepare("vgg", params)
    with pytest.raises(ParamsError, match="trains for no epoch"):
        prepare("toy", params, epochs=0)
    with pytest.raises(ArtifactError, match=r"not made with the present data\.image_size"):
        prepare("toy", parse_params(merge(params.model_dump(mode="json"), {"data": {"image_size": 32}})))
    shutil.rmtree(here / SHARDS)
    with pytest.raises(ArtifactError, match="dvc repro"):
        prepare("toy", params)
    result = emotion("tune", "toy", "--trials", "1")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: data/shards/dataset.json: missing")
    assert not Path("tuning").exists()


def test_no_stage_of_the_pipeline_depends_on_the_search_space() -> None:
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    for name, stage in stages.items():
        read = [stage.get("do", stage).get(key, []) for key in ("params", "deps")]
        assert "tuning" not in json.dumps(read), name
