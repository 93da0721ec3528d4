"""`python -m pipeline.register NAME`: the run is found or made again from the files, and repeating changes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from emotion_detection.artifacts import (
    DATA_PICTURES,
    SHARDS,
    DatasetInfo,
    Registration,
    read_record,
    registration_file,
)
from emotion_detection.errors import ArtifactError, ParamsError
from emotion_detection.mlflow_store import connect
from emotion_detection.params import load_params
from emotion_detection.registry import Registry
from emotion_detection.tracking import LiveRun, live_run
from pipeline import register
from tests.clone import free_port
from tests.project import write_exported, write_trained

ROOT = Path(__file__).parents[2]


@pytest.fixture
def client(project: Path, sqlite_uri: str) -> MlflowClient:
    assert Path.cwd() == project
    return connect(sqlite_uri)


def everything(client: MlflowClient) -> dict[str, Any]:
    """All that MLflow shows of all runs and versions, but for system metrics."""
    experiment = client.get_experiment_by_name("tests")
    assert experiment is not None
    runs = {}
    for run in client.search_runs([experiment.experiment_id]):
        names = [name for name in run.data.metrics if not name.startswith("system/")]
        curves = {name: [(p.step, p.value) for p in client.get_metric_history(run.info.run_id, name)] for name in names}
        inputs = [entry.dataset.to_dictionary() for entry in run.inputs.dataset_inputs]
        files = sorted(artifacts(client, run.info.run_id))
        state = (run.info.status, run.data.params, run.data.tags, curves, inputs, files)
        runs[run.info.run_id] = state
    return {"runs": runs, "versions": Registry("detector").versions()}


def artifacts(client: MlflowClient, run_id: str, path: str | None = None) -> list[str]:
    found: list[str] = []
    for file in client.list_artifacts(run_id, path):
        found += artifacts(client, run_id, file.path) if file.is_dir else [file.path]
    return found


def train(model: str, epochs: int = 2) -> str | None:
    """As the training stage does: a live run, then the files."""
    params, dataset = load_params(), read_record(SHARDS / "dataset.json", DatasetInfo)
    with live_run(LiveRun("abc"), params, model, dataset, "a summary") as run:
        for epoch in range(epochs):
            run.log_epoch(epoch, {"loss": [1.0, 0.5][epoch], "val_loss": [1.1, 0.6][epoch]})
        write_trained(model, run.run_id, "abc")
    write_exported(model)
    return run.run_id


def test_a_run_of_the_training_is_completed_and_a_version_made(client: MlflowClient) -> None:
    run_id = train("good")
    done = register.main("good")
    assert (done.run_id, done.version, done.name) == (run_id, "1", "detector")
    assert read_record(registration_file("good"), Registration) == done
    state = everything(client)
    ((status, _, tags, curves, _, files),) = state["runs"].values()
    assert status == "FINISHED"
    assert curves["val_accuracy"] == [(0, 0.5), (1, 0.9)]  # was missing
    assert curves["loss"] == [(0, 1.0), (1, 0.5)]  # was there
    assert curves["test/accuracy_low"] == [(0, pytest.approx(0.8))]
    assert curves["test/recall/happy"] == [(0, 0.9)]
    assert tags["dvc_lock"] == "10c4"
    assert {"model_summary.txt", "report/metrics.json", "report/figures/confusion.png"} <= set(files)
    assert any(file.startswith("bundles/") and file.endswith("/model.onnx") for file in files)


def test_in_an_empty_registry_everything_is_made_again_from_the_files(client: MlflowClient) -> None:
    """As in a fresh clone after `dvc pull`: run.json names a run that this MLflow has never heard of."""
    write_trained("good", run_id="f" * 32, training_id="abc")
    write_exported("good")
    register.main("good")
    ((status, params, tags, curves, inputs, files),) = everything(client)["runs"].values()
    assert status == "FINISHED"
    assert params["model.filters"] == "[4]"
    assert {"training_id": "abc", "model": "good", "git_commit": "c0ffee"}.items() <= tags.items()
    assert curves["val_accuracy"] == [(0, 0.5), (1, 0.9)]
    assert inputs[0]["name"] == "synthetic"
    assert {"model_summary.txt", "report/figures/confusion.png"} <= set(files)


def test_the_pictures_of_the_data_go_into_the_run(client: MlflowClient) -> None:
    DATA_PICTURES.mkdir(parents=True)
    (DATA_PICTURES / "index.html").write_text("pictures")
    done = register.main("good")
    assert "data/index.html" in artifacts(client, done.run_id)


def test_repeating_changes_nothing(client: MlflowClient) -> None:
    train("good")
    first = register.main("good")
    write_trained("fair", run_id=None)  # MLflow was silent during this training
    write_exported("fair")
    register.main("fair")
    before = everything(client)
    assert register.main("good") == first
    register.main("fair")
    assert everything(client) == before


def test_a_run_cut_off_midway_is_filled_up(client: MlflowClient) -> None:
    train("good", epochs=1)
    register.main("good")
    ((_, _, _, curves, _, _),) = everything(client)["runs"].values()
    assert curves["loss"] == [(0, 1.0), (1, 0.5)]


def test_two_trainings_with_equal_parameters_keep_their_own_runs(client: MlflowClient) -> None:
    """After a change of code: equal training_id, other curves, and neither was seen live."""
    write_trained("good", training_id="abc")
    write_exported("good")
    register.main("good")
    history = Path("models/good/history.json")
    history.write_text(history.read_text().replace("3.0", "4.0"))
    write_exported("good", temperature=2.0)
    register.main("good")
    assert len(everything(client)["runs"]) == 2


def test_a_data_set_that_is_not_the_bundles_is_refused(client: MlflowClient) -> None:
    info = SHARDS / "dataset.json"
    present = read_record(info, DatasetInfo)
    info.write_text(present.model_copy(update={"data_hash": "e" * 64}).model_dump_json())
    with pytest.raises(ArtifactError, match=r"holds data eeeeeeeeeeee, but the bundle was made from .*dvc repro"):
        register.main("good")
    assert client.search_registered_models() == []


def test_a_missing_file_is_named(client: MlflowClient) -> None:
    Path("reports/good/metrics.json").unlink()
    with pytest.raises(ArtifactError, match=r"reports/good/metrics.json: missing; `dvc repro` makes it"):
        register.main("good")
    assert client.search_registered_models() == []


def test_an_unreachable_mlflow_ends_the_stage_with_status_1_and_what_to_do(project: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    environment = os.environ | {"MLFLOW_TRACKING_URI": url, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pipeline.register", "good"]
    result = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr == (
        f"error: MLflow at {url}: no answer; start that server, or set MLFLOW_TRACKING_URI to another, "
        "or unset it to use mlruns/ here\n"
    )
    assert not registration_file("good").exists()


def test_a_missing_argument_is_named(project: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pipeline.register"]
    result = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("usage: python -m pipeline.register [-h] NAME")
    assert "arguments are required: NAME" in result.stderr


def test_a_server_keeps_the_files_and_another_machine_gets_them(
    project: Path, server_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from emotion_detection.registry import download_bundle, resolve_champion

    monkeypatch.setenv("MLFLOW_TRACKING_URI", server_url)
    done = register.main("good")
    assert done.tracking_uri == server_url
    registry = Registry("detector")
    registry.promote(registry.resolve(done.version))
    version = resolve_champion("detector")
    assert version.source.startswith("mlflow-artifacts:")
    assert download_bundle(version, tmp_path / "elsewhere").info.digest() == done.bundle_sha256
    assert project.exists()


def test_a_name_that_is_not_in_params_is_refused(client: MlflowClient) -> None:
    with pytest.raises(ParamsError, match=r"models.nothing: no such model; params.yaml has good, fair, poor"):
        register.main("nothing")
    assert client.search_registered_models() == []
