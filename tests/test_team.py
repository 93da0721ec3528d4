"""docs/team.md, typed: MLflow with users on PostgreSQL and S3, two people at once, DVC, a server that only reads."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from emotion_detection.errors import RegistryError
from emotion_detection.mlflow_store import connect
from emotion_detection.registry import Registry, download_bundle
from tests.clone import ROOT, Clone
from tests.project import copy_project
from tests.serving.processes import Server, running
from tests.serving.tiny import encode, wait_until
from tests.storage import Bucket, postgresql_server
from tests.team import Team

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
MODEL = "detector"
ANOTHER_WORD = "not-that-of-the-page"
NOWHERE = "http://127.0.0.1:1"
ALONE = {"http_proxy": NOWHERE, "no_proxy": "127.0.0.1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "120"}
"""People reach MLflow and nothing else over HTTP: to MLflow, its storage is at `localhost`. They wait for busy ones."""
PERSON = """
import sys, time
from pathlib import Path
from emotion_detection.artifacts import SHARDS, DatasetInfo, RunInfo, model_dir, read_record, write_record
from emotion_detection.params import load_params
from emotion_detection.registration import register_model
from emotion_detection.tracking import LiveRun, live_run

model, params = sys.argv[1], load_params()
file, dataset = model_dir(model) / "run.json", read_record(SHARDS / "dataset.json", DatasetInfo)
known = read_record(file, RunInfo)
with live_run(LiveRun(known.training_id), params, model, dataset, f"a summary of {model}") as run:
    for epoch in range(5):
        run.log_epoch(epoch, {"points": float(epoch)})
    Path("half").touch()
    while not Path("go-on").exists():
        time.sleep(0.05)
    for epoch in range(5, 10):
        run.log_epoch(epoch, {"points": float(epoch)})
write_record(file, known.model_copy(update={"run_id": run.run_id}))
register_model(params, model)
"""


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    """With its database; S3 and MLflow are not started yet."""
    (tmp_path / "team").mkdir()
    with postgresql_server("mlflow") as database:
        yield Team(tmp_path / "team", database.replace("postgresql:", "postgresql+psycopg:"))


def test_two_people_at_once_and_a_server_that_only_reads(
    team: Team, project_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna, bruno = (copy_project(project_template, tmp_path / name) for name in ("anna", "bruno"))
    with ThreadPoolExecutor() as pool, ExitStack() as mlflow:
        with team.storage():
            shared = pool.submit(data_is_shared_by_dvc, team, tmp_path)
            with team.mlflow():
                python(team, "admin", team.directory, team.block("Names", "python")).wait(300)
                runs = [python(team, "anna", anna, PERSON, "good"), python(team, "bruno", bruno, PERSON, "fair")]
                wait_until(lambda: all((project / "half").exists() for project in (anna, bruno)), 300)
            mlflow.enter_context(team.mlflow())
            for project in (anna, bruno):
                (project / "go-on").touch()
            ended = [run.wait(300) for run in runs]
            said = (anna / "log").read_text() + (bruno / "log").read_text()
            assert ended == [0, 0], said
            assert "warning" not in said, said
            emotion(team, "anna", anna, "promote", "good")
            versions = everything_is_there(team, monkeypatch, {"good": anna, "fair": bruno}, tmp_path)
            wrong_users_are_refused(team, monkeypatch, bruno)
            shared.result()
            server = mlflow.enter_context(a_server_that_reads(team, tmp_path))
            wait_until(lambda: serves(server, versions["good"]), 300)
        it_outlives_wrong_keys(team, monkeypatch, server, versions)


def python(team: Team, name: str, directory: Path, code: str, *words: str) -> subprocess.Popen[bytes]:
    """Somebody's program, under way."""
    variables = Clone(ROOT).environment(**team.person(name), **ALONE)
    with (directory / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-c", code, *words], cwd=directory, env=variables, stdout=log, stderr=log
        )


def be(monkeypatch: pytest.MonkeyPatch, team: Team, name: str) -> None:
    """Somebody, in this process."""
    for variable, value in (team.person(name) | ALONE).items():
        monkeypatch.setenv(variable, value)


def emotion(team: Team, name: str, project: Path, *words: str, word: str = "", status: int = 0) -> str:
    """What the command line says to somebody."""
    variables = Clone(ROOT).environment(**team.person(name, word), **ALONE)
    result = subprocess.run(
        ["emotion", *words], cwd=project, env=variables, capture_output=True, text=True, check=False
    )
    assert result.returncode == status, result.stderr
    return result.stderr if status else result.stdout


def everything_is_there(
    team: Team, monkeypatch: pytest.MonkeyPatch, owners: dict[str, Path], directory: Path
) -> dict[str, str]:
    """Both runs are whole, with the bytes that their owners have, for somebody who only reads; versions by model."""
    be(monkeypatch, team, "server")
    registry, client = Registry(MODEL, team.uri), connect(team.uri)
    found = {version.model: version for version in registry.versions()}
    assert {version.version for version in found.values()} == {"1", "2"}
    assert found["good"].is_champion
    for model, owner in owners.items():
        run_id = found[model].run_id
        assert run_id is not None
        points = client.get_metric_history(run_id, "points")
        assert sorted(point.value for point in points) == list(range(10))
        assert client.get_run(run_id).info.status == "FINISHED"
        bundle = download_bundle(found[model], directory / "read" / model)
        assert contents(bundle.directory) == contents(owner / "bundles" / model)
        report = client.download_artifacts(run_id, "report", str(directory / "read"))
        assert contents(Path(report)) == contents(owner / "reports" / model)
        summary = client.download_artifacts(run_id, "model_summary.txt", str(directory / "read"))
        assert Path(summary).read_text() == f"a summary of {model}"
        stored = team.directory.glob(f"s3/mlflow/*/{run_id}/artifacts/bundles/*/model.onnx")
        assert [file.read_bytes() for file in stored] == [bundle.model_path.read_bytes()]
    return {model: version.version for model, version in found.items()}


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def wrong_users_are_refused(team: Team, monkeypatch: pytest.MonkeyPatch, project: Path) -> None:
    """In words of ours, that say what to do."""
    said = emotion(team, "bruno", project, "runs", word="guessed", status=1)
    assert said.startswith(f"error: MLflow at {team.uri}: refuses user 'bruno', or the password; set MLFLOW_TRACKING_")
    assert said.count("\n") == 1
    be(monkeypatch, team, "server")
    registry = Registry(MODEL, team.uri)
    champion = registry.resolve("champion")
    for change in (registry.promote, registry.challenge, lambda version: registry.tag(version, {"seen": "yes"})):
        with pytest.raises(RegistryError, match="user 'server' may not do this; whoever administers it can permit it"):
            change(champion)
    with pytest.raises(RegistryError, match="user 'server' may not do this"):
        registry.keep_json(champion, {}, "verdict.json")
    for variable in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(variable)
    with pytest.raises(RegistryError, match="wants a name and a password; set MLFLOW_TRACKING_USERNAME"):
        registry.versions()


def data_is_shared_by_dvc(team: Team, directory: Path) -> None:
    """A push by one clone, a pull by another; a wrong key stores nothing."""
    owner, other = Clone(directory / "owner"), Clone(directory / "other")
    owner.path.mkdir()
    (owner.path / "faces.bin").write_bytes(os.urandom(1_000_000))
    for command in ("git init -q -b main", "dvc init -q", "dvc add -q faces.bin"):
        owner.run(*command.split())
    owner.run("bash", "-ec", team.block("Whoever trains", "bash"))
    owner.commit("data")
    keys, guessed = (Bucket("dvc", NOWHERE, "dvc", word).environment() for word in ("WORD-OF-DVC", "guessed"))
    refused = owner.run("dvc", "push", check=False, **guessed)
    assert refused.returncode != 0
    assert "Traceback" not in refused.stderr
    assert not contents(team.directory / "s3/dvc")
    owner.run("dvc", "push", check=True, **keys)
    owner.run("git", "clone", "-q", str(owner.path), str(other.path))
    other.run("dvc", "pull", check=True, **keys)
    assert (other.path / "faces.bin").read_bytes() == (owner.path / "faces.bin").read_bytes()


@contextmanager
def a_server_that_reads(team: Team, directory: Path) -> Iterator[Server]:
    """As docs/team.md has it, but in more haste."""
    haste = {"EMOTION_MODEL": MODEL, "EMOTION_POLL_SECONDS": "0.2", "EMOTION_RETRY_SECONDS": "0.2"}
    with running(directory, **haste, **team.person("server"), **ALONE) as server:
        yield server
    assert "Traceback" not in server.log.read_text()


def serves(server: Server, version: str) -> bool:
    answer = httpx.post(f"{server.url}/detect", content=encode(), timeout=20)
    return answer.status_code == 200 and answer.json()["model"]["version"] == version


def says(server: Server, words: str) -> bool:
    return words in (server.get("/readyz").json()["detail"] or "")


def it_outlives_wrong_keys(
    team: Team, monkeypatch: pytest.MonkeyPatch, server: Server, versions: dict[str, str]
) -> None:
    """S3 refuses MLflow's, then MLflow the server's: what answers stays, and /readyz says why."""
    be(monkeypatch, team, "anna")
    registry = Registry(MODEL, team.uri)
    with team.storage(mlflow=ANOTHER_WORD):
        registry.promote(registry.resolve(versions["fair"]))
        wait_until(lambda: says(server, "it fails at its files, such as with keys that its storage refuses"), 300)
        assert serves(server, versions["good"])
        with pytest.raises(RegistryError, match="it fails at its files"):
            registry.keep_json(registry.resolve("champion"), {}, "verdict.json")
    with team.storage():
        wait_until(lambda: serves(server, versions["fair"]), 300)
        changed = {"username": "server", "password": ANOTHER_WORD}
        users, admin = f"{team.uri}/api/2.0/mlflow/users", ("admin", "WORD-OF-ADMIN")
        httpx.patch(f"{users}/update-password", json=changed, auth=admin).raise_for_status()
        wait_until(lambda: says(server, "refuses user 'server', or the password"), 300)
        assert serves(server, versions["fair"])
