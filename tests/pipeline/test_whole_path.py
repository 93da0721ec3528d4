"""The whole path in a clone: what runs, what runs again, and what another clone can do with the artifacts.

One hyperparameter and all that follows from it, and a remote in a directory: see test_retrain_workflow.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clone import Clone
from tests.storage import s3_server

MODELS = ("lenet", "vit")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("whole_path"), pytest.mark.timeout(1200)]


@pytest.fixture
def changed(pipeline: Clone) -> Iterator[Clone]:
    """The clone, which afterwards is again as it was committed."""
    yield pipeline
    pipeline.run("git", "checkout", "-q", ".")
    pipeline.run("dvc", "checkout", "-q")


def stale(clone: Clone) -> set[str]:
    """Stages that `dvc repro` would run for what they themselves depend on."""
    status = json.loads(clone.run("dvc", "status", "--json").stdout)
    return {stage for stage, reasons in status.items() if reasons != ["always changed"]}


def test_every_stage_leaves_its_artifact(pipeline: Clone) -> None:
    expected = ["data/source.json", "data/dataset.parquet", "data/decisions.parquet", "data/shards/dataset.json"]
    expected += ["reports/validation.json", "reports/validation/index.html", "reports/data/index.html"]
    expected += ["comparison/index.html", "comparison/comparison.md"]
    for model in MODELS:
        expected += [f"models/{model}/model.keras", f"reports/{model}/metrics.json", f"bundles/{model}/model.onnx"]
        expected += [f"bundles/{model}/bundle.json", f"registrations/{model}.json"]
    assert [name for name in expected if not (pipeline.path / name).is_file()] == []


def test_what_the_pipeline_makes_is_kept_by_dvc_and_not_by_git(pipeline: Clone) -> None:
    assert pipeline.run("git", "status", "--porcelain").stdout == ""
    tracked = pipeline.run("git", "ls-files").stdout.splitlines()
    made = ("data/", "models/", "reports/", "bundles/", "comparison/")
    assert [name for name in tracked if name.startswith(made)] == []


def test_nothing_runs_again_when_nothing_changed(pipeline: Clone) -> None:
    assert pipeline.repro() == []


def test_one_architecture_source_reruns_exactly_its_model(changed: Clone) -> None:
    source = changed.path / "src/emotion_detection/models/vit.py"
    source.write_text(source.read_text() + "\n# a change\n")
    assert stale(changed) == {"train@vit", "evaluate@vit", "export@vit"}  # and what follows from them


def test_the_gate_sets_the_champion_and_trace_follows_every_link(pipeline: Clone) -> None:
    output = pipeline.run("emotion", "run").stdout
    assert "champion" in output
    trace = json.loads(pipeline.run("emotion", "trace", "champion", "--json").stdout)
    assert trace["links"], trace
    assert [link for link in trace["links"] if not link["ok"]] == []


def test_two_runs_at_once_do_not_mix(changed: Clone) -> None:
    changed.set_params(models={"lenet": {"dropout": 0.34}})
    first = subprocess.Popen(
        ["dvc", "repro", "train@lenet"],
        cwd=changed.path,
        env=changed.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert first.stdout is not None
    for line in first.stdout:
        if "train@lenet" in line:
            break
    second = changed.run("dvc", "repro", "train@lenet", check=False)
    first.communicate(timeout=300)
    assert first.returncode == 0
    assert second.returncode != 0
    assert "busy" in second.stderr + second.stdout
    followers = {"evaluate@lenet", "export@lenet", "register@lenet", "compare"}
    assert stale(changed) == followers  # what was trained is up to date


def test_another_clone_pulls_and_registers_without_training(pipeline: Clone, tmp_path: Path) -> None:
    with s3_server(tmp_path / "s3") as bucket:
        pipeline.run("dvc", "remote", "add", "-f", "--local", "-d", "shared", f"s3://{bucket.name}/dvc")
        pipeline.run("dvc", "push", check=True, **bucket.environment())

        pipeline.run("git", "clone", "-q", str(pipeline.path), str(tmp_path / "other"))
        other = Clone(tmp_path / "other")
        other.run("dvc", "remote", "add", "--local", "-d", "shared", f"s3://{bucket.name}/dvc")
        other.run("dvc", "pull", check=True, **bucket.environment())
    assert other.repro() == [f"register@{model}" for model in MODELS]
    for model in MODELS:
        ours, theirs = (json.loads((c.path / f"registrations/{model}.json").read_text()) for c in (pipeline, other))
        assert ours["bundle_sha256"] == theirs["bundle_sha256"]
    runs = json.loads(other.run("emotion", "runs", "--json").stdout)
    assert len(runs) == len(MODELS)
    shutil.rmtree(other.path)
