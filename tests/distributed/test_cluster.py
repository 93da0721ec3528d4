"""Which engine does the work, and what is said where Ray is not there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from emotion_detection.data.sharding import write_shards
from emotion_detection.distributed import cluster
from emotion_detection.engine import chosen
from emotion_detection.errors import ArtifactError, EngineError
from emotion_detection.training import train
from emotion_detection.tuning.search import run_trials
from tests.clone import free_port

ROOT = Path(__file__).parents[2]


def test_the_engine_is_chosen_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    works = (write_shards, train, run_trials)
    for engine in ("", "local"):
        monkeypatch.setenv("EMOTION_ENGINE", engine)
        assert [chosen(work) for work in works] == list(works)
    monkeypatch.setenv("EMOTION_ENGINE", "ray")
    modules = [chosen(work).__module__.removeprefix("emotion_detection.distributed.") for work in works]
    assert modules == ["sharding", "training", "search"]
    monkeypatch.setenv("EMOTION_ENGINE", "spark")
    with pytest.raises(EngineError, match="EMOTION_ENGINE: found 'spark', expected local or ray"):
        chosen(write_shards)


def test_no_stage_depends_on_the_engine() -> None:
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    deps = [dep for stage in stages.values() for dep in stage.get("do", stage).get("deps", [])]
    assert [dep for dep in deps if "engine.py" in dep or "distributed" in dep] == []
    assert "engine" not in YAML(typ="safe").load(ROOT / "params.yaml")


def test_ray_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match=r"Ray is not installed .*; `make ray` does that"):
        cluster.imported()


def test_an_address_where_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(EngineError, match=rf"RAY_ADDRESS={address}: .*refused; expected HOST:PORT"):
        cluster.connect(cluster.imported())


def test_errors_of_workers_come_through() -> None:
    text = (
        "ray::task()\n  raise ArtifactError\nemotion_detection.errors.ArtifactError: x: gone\n\nThe above exception ..."
    )
    error = cluster.of_worker(RuntimeError(text))
    assert (type(error), str(error)) == (ArtifactError, "x: gone")
    assert type(cluster.of_worker(RuntimeError("a node died"))) is EngineError
