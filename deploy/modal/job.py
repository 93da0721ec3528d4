"""A training that runs on another machine: what goes there, how it runs, and how DVC takes its model over.

    job = plan("se_resnet")                     # here; refuses what DVC would not train
    outcome = run(job, volume, code, work)      # there; the command of DVC's own stage
    take_over(job, outcome, fetch)              # here; models/se_resnet, and dvc.lock knows it

    volume/shards/DIGEST/           data/shards, kept for the next training on the same data
           jobs/IDENTITY/           params.yaml and what else the stage reads
           checkpoints/             .checkpoints: what an interrupted training goes on from
           models/IDENTITY/         the finished model, until it is fetched

Nothing in here knows Modal: `train.py` beside it moves the files and rents the machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emotion_detection.artifacts import SHARDS, WEIGHTS, Weights, atomic_directory, model_dir, read_record
from emotion_detection.errors import EmotionError
from emotion_detection.params import PARAMS_FILE, load_params

CHECKPOINTS, INFO_FILE = Path(".checkpoints"), "dataset.json"  # their own modules take TensorFlow
REMOTE_SCHEMES = ("http://", "https://", "databricks")
MLFLOW = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")


class JobError(EmotionError):
    """A training cannot be sent to another machine, failed there, or cannot be taken over."""


@dataclass(frozen=True)
class Job:
    """One training, as DVC's stage describes it."""

    name: str
    """Entry in `models` of params.yaml."""
    command: tuple[str, ...]
    identity: str
    """SHA-256 of all that DVC compares for this stage: command, code, data, parameters."""
    uploads: Mapping[str, str]
    """What the training reads, besides code: its path here, relative to the root of the repository where it lies in
    it; and where it lies on the volume."""

    @property
    def stage(self) -> str:
        return f"train@{self.name}"

    @property
    def result(self) -> str:
        """The finished model's directory on the volume."""
        return f"models/{self.identity}"


@dataclass(frozen=True)
class Outcome:
    """How a training ended."""

    status: int
    """Exit status of the command; negative: the number of the signal that killed it."""
    files: Mapping[str, str]
    """SHA-256 of each file of the model; empty where it failed."""


def plan(name: str, force: bool = False) -> Job | None:
    """What training a model takes; None: DVC has nothing to do, and nobody insists.

    Args:
        force: train although nothing changed.

    Raises:
        ParamsError: there is no such model.
        ArtifactError: the record of the weights is missing.
        JobError: there is no DVC repository, or data/shards is missing or not what DVC would make now.
    """
    inputs = local_inputs(name)
    stage, status = _of_dvc(name)
    stale = [other for other, why in status.items() if other != f"train@{name}" and why != ["always changed"]]
    if stale or not (SHARDS / INFO_FILE).is_file():
        what = f"{', '.join(sorted(stale))} would have to run first" if stale else "missing"
        raise JobError(f"{SHARDS}: {what}; run `dvc repro shards`, then this again")
    if not force and f"train@{name}" not in status:
        return None
    identity, shards = _identity(stage), _digest(SHARDS)
    uploads = {str(SHARDS): f"shards/{shards}"}
    own = [path for path in (str(PARAMS_FILE), str(WEIGHTS), *inputs) if Path(path).exists()]
    uploads |= {path: f"jobs/{identity}/{number}-{Path(path).name}" for number, path in enumerate(own)}
    return Job(name, tuple(shlex.split(stage.cmd)), identity, uploads)


def local_inputs(name: str) -> list[str]:
    """Files and directories with the pretrained weights and the teachers of a model, as params.yaml names them.

    Raises:
        ParamsError, ArtifactError: as `plan`.
    """
    load_params().model(name)
    fingerprint = read_record(WEIGHTS, Weights).root.get(name)
    return fingerprint.paths if fingerprint else []


def run(job: Job, volume: Path, code: Path, work: Path) -> Outcome:
    """Train on this machine, or go on where an interrupted training stopped; the model is put on the volume.

    Args:
        volume: where it is mounted.
        code: directory with `pipeline` and `src`.
        work: directory to run in; what was there is removed.
    """
    result = volume / job.result
    if not result.exists():
        prepare(job, volume, work)
        environment = os.environ | {"PYTHONPATH": f"{code}{os.pathsep}{code / 'src'}"}
        command = [sys.executable if word == "python" else word for word in job.command]
        status = subprocess.run(command, cwd=work, env=environment, check=False).returncode
        if status:
            return Outcome(status, {})
        with atomic_directory(result) as directory:
            shutil.copytree(work / model_dir(job.name), directory, dirs_exist_ok=True)
    return Outcome(0, {file.name: _digest(file) for file in sorted(result.iterdir())})


def prepare(job: Job, volume: Path, work: Path) -> None:
    """Lay the files out as they lie in the repository; checkpoints go to the volume, where they outlast the machine."""
    shutil.rmtree(work, ignore_errors=True)
    (volume / "checkpoints").mkdir(parents=True, exist_ok=True)
    for path, place in {**job.uploads, str(CHECKPOINTS): "checkpoints"}.items():
        link = work / path  # an absolute path stays what it is
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to((volume / place).absolute())


def take_over(job: Job, outcome: Outcome, fetch: Callable[[str, Path], object]) -> None:
    """Put the model where DVC's stage would have put it, and tell DVC.

    Args:
        fetch: copies a file of the volume to a path.

    Raises:
        JobError: the training failed, what it depends on has changed here meanwhile, or a file arrived damaged;
            models/NAME and dvc.lock are as they were.
    """
    if outcome.status:
        raise JobError(
            f"{' '.join(job.command)}: ended with status {outcome.status} on the other machine; its output is above. "
            "Its checkpoints stay on the volume: the same command goes on after the last finished epoch"
        )
    if (now := plan(job.name, force=True)) is None or now.identity != job.identity:
        raise JobError(
            f"{job.stage}: code, parameters or data changed here while it trained; models/{job.name} is as it was. "
            "Undo the change and run this again to fetch the model, or leave it to train anew"
        )
    with atomic_directory(model_dir(job.name)) as directory:
        for name, expected in outcome.files.items():
            fetch(f"{job.result}/{name}", directory / name)
            if (found := _digest(directory / name)) != expected:
                raise JobError(f"{job.result}/{name}: SHA-256 is {found}, expected {expected}; run this again")
    with _repository() as repository:
        repository.commit(job.stage, force=True)


def forwarded(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables of MLflow that the other machine gets: none unless a server is named that it can reach as well."""
    if not environment.get(MLFLOW[0], "").startswith(REMOTE_SCHEMES):
        return {}
    return {name: environment[name] for name in MLFLOW if name in environment}


def _of_dvc(name: str) -> tuple[Any, dict[str, Any]]:
    """The stage, and what DVC would have to run to bring it up to date, by stage."""
    with _repository() as repository:
        target = f"train@{name}"
        [stage] = repository.stage.collect(target)
        return stage, repository.status(target, with_deps=True)


def _identity(stage: Any) -> str:
    from dvc.dependency import ParamsDependency  # noqa: PLC0415  takes a second

    content: dict[str, Any] = {"command": stage.cmd}
    for dependency in stage.deps:
        path = Path(dependency.fs_path).relative_to(Path.cwd())
        parameters = isinstance(dependency, ParamsDependency)
        content[str(path)] = dependency.read_params() if parameters else _digest(path)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _digest(path: Path) -> str:
    """SHA-256 of a file; of shards that of their record, which has the checksums of all others."""
    return hashlib.sha256((path / INFO_FILE if path.is_dir() else path).read_bytes()).hexdigest()


def _repository() -> Any:
    from dvc.exceptions import NotDvcRepoError  # noqa: PLC0415
    from dvc.repo import Repo  # noqa: PLC0415

    try:
        return Repo()
    except NotDvcRepoError:
        raise JobError(f"{Path.cwd()}: no DVC repository; run this from the root of the repository") from None
