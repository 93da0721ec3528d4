"""A training on another machine: refused, planned, run by the pipeline's own command, and taken over by DVC.

A directory is the volume and this machine the other one; everything else is real.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from dvc.repo import Repo

from deploy.modal import job as jobs
from deploy.modal.job import Job, JobError, Outcome, forwarded, local_inputs, plan, prepare, run, take_over
from emotion_detection.artifacts import WEIGHTS, Weights, WeightsFingerprint, write_record
from emotion_detection.errors import ParamsError
from tests.toy_shards import toy_shards

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # DVC 3.67 with pygtrie 2.6
PARAMS = """\
seed: 0
data: {image_size: 16, channels: 1}
training: {epochs: 1}
models: {small: {architecture: lenet, filters: [4], dense: [8]}}
"""
STAGES = """\
stages:
  shards:
    cmd: "true"
    outs: [data/shards]
  train:
    foreach: ${models}
    do:
      cmd: python -m pipeline.train ${key}
      deps: [data/shards, code.py]
      params: [seed, "models.${key}"]
      outs: ["models/${key}"]
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DVC repository whose shards are as DVC made them, and whose model was never trained."""
    directory = tmp_path_factory.mktemp("modal") / "repository"
    toy_shards(directory / "data/shards")
    (directory / "params.yaml").write_text(PARAMS)
    (directory / "dvc.yaml").write_text(STAGES)
    (directory / "code.py").write_text("first\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        weights = WeightsFingerprint(weights="none", sha256=None, local=False)
        write_record(WEIGHTS, Weights({"small": weights}))
        with Repo.init(no_scm=True) as repository:
            repository.commit("shards", force=True)
    return directory


@pytest.fixture
def repository(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(shutil.copytree(made, tmp_path / "repository"))
    return Path.cwd()


def planned() -> Job:
    job = plan("small")
    assert job
    return job


def upload(job: Job, volume: Path) -> None:
    for path, place in job.uploads.items():
        target = volume / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(path, target) if Path(path).is_dir() else shutil.copy(path, target)


def fake_model(job: Job, volume: Path) -> Outcome:
    """A finished model on the volume, as `run` leaves it."""
    (volume / job.result).mkdir(parents=True)
    (volume / job.result / "model.keras").write_bytes(b"weights")
    return run(job, volume, ROOT, volume / "work")


def test_a_model_is_trained_there_and_dvc_has_nothing_to_do_here(
    repository: Path, empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shutil.copy(empty_database, tmp_path)}")
    volume, work = tmp_path / "volume", tmp_path / "work"
    job = planned()
    upload(job, volume)
    outcome = run(job, volume, ROOT, work)
    assert (outcome.status, set(outcome.files)) == (0, {"model.keras", "history.json", "run.json"})
    assert [path.name for path in volume.glob("checkpoints/*/*")] == []  # finished: nothing to go on from
    assert run(job, volume, ROOT, tmp_path / "another") == outcome  # started twice, trained once
    assert not (tmp_path / "another").exists()
    take_over(job, outcome, lambda place, target: shutil.copy(volume / place, target))
    assert json.loads((repository / "models/small/history.json").read_text())["metrics"]["val_accuracy"]
    assert plan("small") is None
    assert (again := plan("small", force=True))
    assert again.identity == job.identity
    with Repo() as dvc:
        assert dvc.status("train@small") == {}


def test_what_goes_up_lies_there_as_it_lies_here(repository: Path, tmp_path: Path) -> None:
    from emotion_detection.checkpoint import CHECKPOINTS
    from emotion_detection.data.shards import INFO_FILE

    assert (jobs.CHECKPOINTS, jobs.INFO_FILE) == (CHECKPOINTS, INFO_FILE)
    pretrained = tmp_path / "elsewhere" / "pretrained.h5"
    pretrained.parent.mkdir()
    pretrained.write_bytes(b"weights")
    (repository / "teacher").mkdir()
    (repository / "teacher/bundle.json").write_text("{}")
    for weights in (str(pretrained), "own.h5"):
        (repository / "own.h5").write_bytes(b"weights")
        write_record(
            WEIGHTS,
            Weights({"small": WeightsFingerprint(weights=weights, sha256="0", local=True, teachers=("teacher",))}),
        )
        assert local_inputs("small") == [weights, "teacher"]
        job, volume, work = planned(), tmp_path / f"volume of {Path(weights).name}", tmp_path / "work"
        assert job.command == ("python", "-m", "pipeline.train", "small")
        assert set(job.uploads) == {"data/shards", "params.yaml", "data/weights.json", weights, "teacher"}
        upload(job, volume)
        prepare(job, volume, work)
        for path in ("params.yaml", "data/weights.json", "data/shards/dataset.json", weights, "teacher/bundle.json"):
            assert (work / path).read_bytes() == Path(path).read_bytes()
        (work / CHECKPOINTS / "state").write_text("epoch 3")
        prepare(job, volume, work)  # the machine was taken away
        assert (work / CHECKPOINTS / "state").read_text() == "epoch 3"


@pytest.mark.parametrize("change", ["missing", "altered", "never"])
def test_shards_that_dvc_did_not_make_are_refused(repository: Path, change: str) -> None:
    if change == "missing":
        shutil.rmtree(repository / "data/shards")
    elif change == "altered":
        next((repository / "data/shards").glob("train*")).write_bytes(b"other images")
    else:
        (repository / "dvc.lock").unlink()
    with pytest.raises(JobError, match=r"data/shards: shards would have to run first; run `dvc repro shards`"):
        plan("small")


def test_an_unknown_model_and_another_directory_are_refused(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ParamsError, match=r"models\.large: no such model; params\.yaml has small"):
        plan("large")
    shutil.rmtree(repository / ".dvc")
    with pytest.raises(JobError, match="no DVC repository; run this from the root of the repository"):
        plan("small")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParamsError, match=r"params\.yaml: no such file; run from the root of the repository"):
        plan("small")


def test_a_change_here_meanwhile_is_not_passed_off_as_trained(repository: Path, tmp_path: Path) -> None:
    job = planned()
    outcome = fake_model(job, tmp_path / "volume")
    (repository / "code.py").write_text("second\n")
    with pytest.raises(JobError, match="train@small: code, parameters or data changed here while it trained"):
        take_over(job, outcome, shutil.copy)
    assert not (repository / "models").exists()
    assert planned().identity != job.identity
    (repository / "code.py").write_text("first\n")
    assert planned() == job


def test_a_damaged_or_failed_model_changes_nothing_here(repository: Path, tmp_path: Path) -> None:
    job = planned()
    before = (repository / "dvc.lock").read_text()
    outcome = fake_model(job, tmp_path / "volume")
    with pytest.raises(JobError, match=r"model\.keras: SHA-256 is .*, expected .*; run this again"):
        take_over(job, outcome, lambda _, target: target.write_bytes(b"half of it"))
    upload(job, tmp_path / "other")
    broken = replace(job, command=("python", "-c", "raise SystemExit(3)"))
    failed = run(broken, tmp_path / "other", ROOT, tmp_path / "work")
    assert failed == Outcome(3, {})
    with pytest.raises(JobError, match=r"ended with status 3 on the other machine; .* after the last finished epoch"):
        take_over(broken, failed, shutil.copy)
    assert not (repository / "models/small").exists()
    assert (repository / "dvc.lock").read_text() == before


def test_only_a_server_that_others_can_reach_is_told() -> None:
    settings = {"MLFLOW_TRACKING_URI": "https://mlflow.example.org", "MLFLOW_TRACKING_TOKEN": "t", "HOME": "/root"}
    assert forwarded(settings) == {key: settings[key] for key in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_TOKEN")}
    for uri in ("sqlite:///mlruns/mlflow.db", ""):
        assert forwarded(settings | {"MLFLOW_TRACKING_URI": uri}) == {}


def test_planning_does_not_wait_for_tensorflow() -> None:
    code = "import sys, deploy.modal.job; sys.exit('tensorflow' in sys.modules or 'dvc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
