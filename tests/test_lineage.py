"""Lineage is read from git and dvc.lock and can be found again later."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from emotion_detection.lineage import UPSTREAM, commit_exists, current_lineage, lock_hash, lock_history


def lock(**changes: str) -> dict[str, object]:
    names = [name.format(model=model) for name in UPSTREAM for model in ("lenet", "vit")]
    return {"stages": {name: {"cmd": "x", "outs": [{"md5": changes.get(name, "0")}]} for name in names}}


def text(content: dict[str, object], path: Path) -> str:
    YAML(typ="safe").dump(content, path)
    return path.read_text()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for command in (["init", "-q"], ["config", "user.email", "a@b.c"], ["config", "user.name", "a"]):
        subprocess.run(["git", *command], check=True)
    text(lock(), tmp_path / "dvc.lock")
    (tmp_path / "params.yaml").write_text("seed: 0")
    subprocess.run(["git", "add", "."], check=True)
    subprocess.run(["git", "commit", "-qm", "one"], check=True)
    return tmp_path


def test_the_lock_hash_follows_its_own_model_only(tmp_path: Path) -> None:
    path = tmp_path / "dvc.lock"
    before = lock_hash(text(lock(), path), "lenet")
    assert before == lock_hash(text(lock(**{"train@vit": "1"}), path), "lenet")
    assert before != lock_hash(text(lock(**{"train@lenet": "1"}), path), "lenet")
    assert before != lock_hash(text(lock(ingest="1"), path), "lenet")


def test_an_incomplete_lock_has_no_hash() -> None:
    assert lock_hash("", "lenet") is None
    assert lock_hash("stages: {ingest: {cmd: x}}", "lenet") is None


def test_lineage_names_commit_and_lock(repository: Path) -> None:
    lineage = current_lineage("vit", "data", "training")
    assert lineage.commit is not None
    assert commit_exists(lineage.commit)
    assert not lineage.dirty
    assert lineage.dvc_lock == lock_hash((repository / "dvc.lock").read_text(), "vit")


def test_a_changed_tracked_file_makes_it_dirty_but_no_new_one_and_not_the_lock(repository: Path) -> None:
    (repository / "new").write_text("x")
    text(lock(ingest="1"), repository / "dvc.lock")  # as each stage does
    assert not current_lineage("vit", "", "").dirty
    (repository / "params.yaml").write_text("seed: 1")
    assert current_lineage("vit", "", "").dirty


def test_an_old_lock_is_found_in_history(repository: Path) -> None:
    old = current_lineage("vit", "", "").dvc_lock
    text(lock(ingest="1"), repository / "dvc.lock")
    subprocess.run(["git", "commit", "-qam", "two"], check=True)
    assert [lock_hash(content, "vit") == old for _, content in lock_history()] == [False, True]


def test_outside_a_repository_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    lineage = current_lineage("vit", "data", "training")
    assert (lineage.commit, lineage.dirty, lineage.dvc_lock) == (None, False, None)
    assert not commit_exists("0" * 40)
