"""Trainings in MLflow: on sqlite and on a real server; interrupted, unreachable, killed midway."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST

from emotion_detection.artifacts import DatasetInfo
from emotion_detection.errors import RegistryError
from emotion_detection.lineage import UPSTREAM, current_lineage
from emotion_detection.mlflow_store import connect, explained, shown, tracking_uri
from emotion_detection.params import Params, parse_params
from emotion_detection.tracking import LiveRun, live_run
from tests.clone import free_port
from tests.project import mlflow_server, stop

DATASET = DatasetInfo(
    labels=("happy", "sad"),
    image_size=48,
    channels=1,
    counts={"train": {"happy": 3, "sad": 2}},
    class_weights={"happy": 1.0, "sad": 1.0},
    reference_shares={"happy": 0.6, "sad": 0.4},
    files={},
    data_hash="d" * 64,
)


@pytest.fixture
def params(request: pytest.FixtureRequest) -> Params:
    """With an experiment of the test's own: the server is shared."""
    content = {"architecture": "lenet", "dropout": 0.3, "training": {"epochs": 7}}
    return parse_params({"models": {"small": content}, "registry": {"experiment": request.node.name}})


@pytest.fixture(params=["sqlite", "server"])
def uri(request: pytest.FixtureRequest, sqlite_uri: str, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "sqlite":
        return sqlite_uri
    url = str(request.getfixturevalue("server_url"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    return url


def train(
    params: Params, epochs: range, training_id: str = "1d", interrupt: bool = False, code: str = "c0de"
) -> LiveRun:
    with live_run(LiveRun(training_id, code), params, "small", DATASET, "a summary") as run:
        for epoch in epochs:
            run.log_epoch(epoch, {"loss": 1 / (epoch + 1), "val_loss": float(epoch)})
        if interrupt:
            raise KeyboardInterrupt
    return run


def runs(params: Params) -> list[Run]:
    client = connect()
    experiment = client.get_experiment_by_name(params.registry.experiment)
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def curve(client: MlflowClient, run: Run, name: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]


def test_a_run_shows_parameters_curves_data_lineage_and_summary(uri: str, params: Params, tmp_path: Path) -> None:
    run_id = train(params, range(3)).run_id
    client = connect(uri)
    (run,) = runs(params)
    assert run.info.run_id == run_id
    assert run.info.status == "FINISHED"
    assert curve(client, run, "loss") == [(0, 1.0), (1, 0.5), (2, pytest.approx(1 / 3))]
    expected = {"training.epochs": "7", "model.architecture": "lenet", "model.dropout": "0.3", "seed": "0"}
    assert expected.items() <= run.data.params.items()
    assert run.data.params["training.augmentation.flip"] == "True"
    expected = {"training_id": "1d", "model": "small", "architecture": "lenet", "data_hash": "d" * 64}
    assert expected.items() <= run.data.tags.items()
    (data,) = run.inputs.dataset_inputs
    assert data.dataset.name == "synthetic"
    assert DATASET.data_hash.startswith(data.dataset.digest)
    summary = client.download_artifacts(run.info.run_id, "model_summary.txt", str(tmp_path))
    assert Path(summary).read_text() == "a summary"


def test_system_metrics_are_recorded(sqlite_uri: str, params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sqlite_uri == tracking_uri()
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    with live_run(LiveRun("1d"), params, "small", DATASET, ""):
        end = time.monotonic() + 60
        while not any(name.startswith("system/") for name in runs(params)[0].data.metrics):
            assert time.monotonic() < end, "no system metrics came"
            time.sleep(0.1)
    assert "system/cpu_utilization_percentage" in runs(params)[0].data.metrics


def test_an_interrupted_training_is_continued_without_double_points(uri: str, params: Params) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(params, range(2), interrupt=True)
    assert runs(params)[0].info.status == "KILLED"
    train(params, range(1, 4))
    (run,) = runs(params)
    assert run.info.status == "FINISHED"
    assert curve(connect(uri), run, "val_loss") == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0)]


def test_two_trainings_may_enter_the_data_set_at_the_same_moment(
    sqlite_uri: str, params: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """MLflow looks whether it has the data set, and then adds it: the slower one breaks a unique key."""
    assert sqlite_uri
    original, asked = MlflowClient.log_inputs, []

    def slower(client: MlflowClient, run_id: str, *inputs: object) -> None:
        asked.append(run_id)
        if len(asked) == 1:
            raise MlflowException("duplicate key value violates unique constraint", BAD_REQUEST)
        original(client, run_id, *inputs)  # type: ignore[arg-type]

    monkeypatch.setattr(MlflowClient, "log_inputs", slower)
    train(params, range(1))
    (run,) = runs(params)
    assert asked == [run.info.run_id] * 2
    assert [given.dataset.name for given in run.inputs.dataset_inputs] == ["synthetic"]
    assert "loss" in run.data.metrics
    assert "warning" not in capsys.readouterr().err


def test_a_new_store_may_be_opened_by_several_at_the_same_moment(tmp_path: Path) -> None:
    code = """
import sys
from emotion_detection.mlflow_store import connect
print("ready", flush=True)
sys.stdin.readline()
print(len(connect(sys.argv[1]).search_experiments()))
"""
    command = [sys.executable, "-c", code, f"sqlite:///{tmp_path}/mlflow.db"]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    processes = [subprocess.Popen(command, text=True, **pipes) for _ in range(3)]  # type: ignore[call-overload]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 3
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate(timeout=120) for process in processes] == [("1\n", "")] * 3


def test_a_training_by_other_code_is_a_new_run(sqlite_uri: str, params: Params) -> None:
    """Its curve would have two points at each epoch."""
    with pytest.raises(KeyboardInterrupt):
        train(params, range(2), interrupt=True)
    train(params, range(4), code="0ther")
    lengths = {run.info.status: len(curve(connect(sqlite_uri), run, "loss")) for run in runs(params)}
    assert lengths == {"KILLED": 2, "FINISHED": 4}


def test_a_run_does_not_claim_the_lock_of_the_training_before(sqlite_uri: str, params: Params, tmp_path: Path) -> None:
    """dvc.lock has the entries of this training only after the stage has ended: the bundle knows them."""
    assert sqlite_uri == tracking_uri()
    stages = {name.format(model="small"): {"cmd": "x"} for name in UPSTREAM}
    (tmp_path / "dvc.lock").write_text(json.dumps({"stages": stages}))
    assert current_lineage("small", "", "").dvc_lock is not None
    train(params, range(1))
    assert "dvc_lock" not in runs(params)[0].data.tags


def test_a_training_that_was_killed_is_continued(sqlite_uri: str, params: Params) -> None:
    code = f"""
import os, signal
from tests.test_tracking import DATASET
from emotion_detection.params import parse_params
from emotion_detection.tracking import LiveRun, live_run
params = parse_params({params.model_dump(mode="json")!r})
with live_run(LiveRun("1d", "c0de"), params, "small", DATASET, "") as run:
    run.log_epoch(0, {{"loss": 1.0}})
    os.kill(os.getpid(), signal.SIGKILL)
"""
    root = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert result.returncode == -signal.SIGKILL
    assert runs(params)[0].info.status == "RUNNING"
    train(params, range(1, 2))
    (run,) = runs(params)
    assert [step for step, _ in curve(connect(sqlite_uri), run, "loss")] == [0, 1]


def test_training_again_after_the_end_is_a_new_run(sqlite_uri: str, params: Params) -> None:
    assert sqlite_uri == tracking_uri()
    first, second = train(params, range(1)), train(params, range(1))
    assert {run.info.run_id for run in runs(params)} == {first.run_id, second.run_id}
    assert first.run_id != second.run_id


def test_a_failing_training_is_marked_and_its_error_passed_on(sqlite_uri: str, params: Params) -> None:
    assert sqlite_uri == tracking_uri()
    with pytest.raises(ZeroDivisionError), live_run(LiveRun("1d"), params, "small", DATASET, ""):
        raise ZeroDivisionError
    assert runs(params)[0].info.status == "FAILED"


def test_parameters_that_changed_name_only_do_not_stop_a_resumed_run(sqlite_uri: str, params: Params) -> None:
    """The same data under another path: MLflow refuses to change a parameter, and so it stays."""
    assert sqlite_uri == tracking_uri()
    with pytest.raises(KeyboardInterrupt):
        train(params, range(1), interrupt=True)
    moved = params.model_copy(update={"data": params.data.model_copy(update={"source": "elsewhere"})})
    assert train(moved, range(1, 2)).run_id is not None
    (run,) = runs(params)
    assert run.data.params["data.source"] == "synthetic"


def test_an_unreachable_server_is_one_line_and_training_goes_on(
    params: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    run = train(params, range(3))
    assert run.run_id is None
    (line,) = capsys.readouterr().err.splitlines()
    assert url in line
    assert "Training goes on" in line


@pytest.mark.parametrize("uri", ["htp://nonsense", "sqlite:////proc/nowhere/mlflow.db", "sqlite:////tmp"])
def test_a_useless_uri_is_one_line_and_training_goes_on(
    uri: str, params: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert train(params, range(2)).run_id is None
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_server_killed_midway_is_one_line_and_the_run_is_known(
    params: Params,
    tmp_path: Path,
    empty_database: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with mlflow_server(tmp_path / "server", empty_database) as (url, process):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        with live_run(LiveRun("1d"), params, "small", DATASET, "") as run:
            run.log_epoch(0, {"loss": 1.0})
            stop(process)
            for epoch in range(1, 4):
                run.log_epoch(epoch, {"loss": 1.0})
    assert run.run_id is not None
    (line,) = capsys.readouterr().err.splitlines()
    assert "no answer" in line


def test_a_deleted_experiment_is_named_with_what_to_do(
    sqlite_uri: str, params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    client = connect(sqlite_uri)
    client.delete_experiment(client.create_experiment(params.registry.experiment))
    assert train(params, range(1)).run_id is None
    assert "mlflow experiments restore" in capsys.readouterr().err


def test_the_default_store_lies_under_mlruns(sqlite_uri: str, params: Params, tmp_path: Path) -> None:
    assert sqlite_uri == f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    train(params, range(1))
    assert list((tmp_path / "mlruns/artifacts").rglob("model_summary.txt"))


def test_a_file_that_cannot_be_fetched_is_named() -> None:
    said = "The following failures occurred while downloading one or more artifacts from http://host/x:\n"
    said += "##### File model.onnx #####\nbroken off\n##### File golden.npz #####\nbroken off"
    with pytest.raises(RegistryError, match=r"host: model\.onnx: broken off; start that"), explained("http://host"):
        raise MlflowException(said)


def test_passwords_are_not_shown() -> None:
    assert shown("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"
    assert shown("http://127.0.0.1:5000") == "http://127.0.0.1:5000"
