"""The store of feedback: what stays, what goes, who can read it; and `emotion feedback`."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from typer.testing import CliRunner

from emotion_detection.cli import app
from emotion_detection.errors import FeedbackError
from emotion_detection.feedback import Added, FeedbackStore, Judgement
from emotion_detection.prediction_ids import PredictionIds
from emotion_detection.seal import KEY_VARIABLE, read_seal

PNG = b"\x89PNG a face that nobody else may see " * 30
IDS = PredictionIds("7-2c26b46b", b"secret" * 5)


def said(name: str | None = None, **changes: object) -> Judgement:
    now = time.time()
    judgement = Judgement(name or IDS.of([1]), 0, "7", "happy", "sad", now, now + 3600, now + 86_400)
    return replace(judgement, **changes)


@pytest.fixture
def store(tmp_path: Path) -> FeedbackStore:
    return FeedbackStore(tmp_path / "feedback")


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Move the clock."""
    real = time.time
    return lambda seconds: monkeypatch.setattr(time, "time", lambda: real() + seconds)


def test_the_first_word_on_a_face_stays(store: FeedbackStore) -> None:
    name = IDS.of([1, 2])
    assert store.add(said(name), PNG) is Added.NEW
    assert store.add(said(name), PNG) is Added.SAME
    assert store.add(said(name, label="happy"), PNG) is Added.OTHER
    assert store.add(said(name, face=1, label="happy"), PNG) is Added.NEW
    assert [(one.face, one.label) for one in store.judgements()] == [(0, "sad"), (1, "happy")]
    assert [image for _, image in store.faces()] == [PNG, PNG]


def test_a_face_goes_when_its_time_is_over_and_the_row_when_nobody_needs_it(store, later) -> None:
    name = IDS.of([1])
    store.add(said(name, keep_until=time.time() + 60), PNG)
    store.add(said(keep_until=None))
    later(61)
    assert list(store.faces()) == []  # whether anybody has purged or not
    assert store.purge() == 1
    assert PNG[:40] not in store.file.read_bytes()
    assert store.add(said(name), PNG) is Added.SAME
    later(3700)
    store.purge()
    assert store.judgements() == []


def test_a_shorter_retention_holds_for_faces_that_are_there_already(store, later) -> None:
    store.add(said(keep_until=time.time() + 30 * 86_400), PNG)
    store.purge(7 * 86_400)
    assert store.size()[0] == 1
    later(7 * 86_400 + 1)
    assert store.purge(30 * 86_400) == 1


def test_what_is_deleted_is_not_in_the_file_any_more_and_cannot_be_said_again(store: FeedbackStore) -> None:
    name, other = IDS.of([1]), IDS.of([1])
    store.add(said(name), PNG)
    store.add(said(other), PNG[::-1])
    assert (store.delete(name), store.delete(name), store.delete("nobody's")) == (1, 0, 0)
    assert PNG[:40] not in store.file.read_bytes()
    assert PNG[::-1][:40] in store.file.read_bytes()
    assert store.add(said(name), PNG) is Added.OTHER
    assert [one.prediction_id for one in store.judgements()] == [other]
    assert store.delete() == 1
    assert list(store.faces()) == []


def test_the_oldest_make_room(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path, max_bytes=500_000)
    names = [IDS.of([1]) for _ in range(60)]
    for name in names:
        store.add(said(name), os.urandom(20_000))
        assert store.file.stat().st_size <= 500_000
    kept = [one.prediction_id for one in store.judgements()]
    assert 5 < len(kept) < 25
    assert kept == names[-len(kept) :]


def test_encrypted_faces_are_read_with_their_key_alone(tmp_path: Path) -> None:
    first, second = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    FeedbackStore(tmp_path, read_seal(first)).add(said(), PNG)
    FeedbackStore(tmp_path, read_seal(f"{second}, {first}")).add(said(), PNG)
    FeedbackStore(tmp_path).add(said(), PNG[::-1])
    content = (tmp_path / "feedback.db").read_bytes()
    assert PNG[:40] not in content
    assert PNG[::-1][:40] in content  # that one was to lie there as it is
    found = [image for _, image in FeedbackStore(tmp_path, read_seal(f"{second},{first}")).faces()]
    assert found == [PNG, PNG, PNG[::-1]]
    for keys in ("", second):
        with pytest.raises(FeedbackError, match=f"encrypted with another key than {KEY_VARIABLE}"):
            list(FeedbackStore(tmp_path, read_seal(keys)).faces())
    with pytest.raises(FeedbackError, match="44 characters") as caught:
        read_seal("no such key")
    assert "no such key" not in str(caught.value)


def test_nobody_else_may_read_it(store: FeedbackStore) -> None:
    store.add(said(), PNG)
    assert stat.S_IMODE(store.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.file.parent.stat().st_mode) == 0o700


def test_the_digest_is_that_of_the_faces(store: FeedbackStore) -> None:
    name = IDS.of([1])
    store.add(said(name), PNG)
    before = store.kept()
    store.add(said(keep_until=None))
    store.add(said(name, label="happy"), PNG)
    assert store.kept() == before
    store.add(said(), PNG)
    assert store.kept() != before


def add_many(directory: Path, names: list[str]) -> list[Added]:
    store = FeedbackStore(directory)
    with ThreadPoolExecutor(4) as threads:
        return list(threads.map(lambda name: store.add(said(name), PNG), names))


def test_of_processes_and_threads_that_say_the_same_at_once_one_is_first(tmp_path: Path) -> None:
    names = [IDS.of([1]) for _ in range(40)]
    with ProcessPoolExecutor(2, get_context("forkserver")) as pool:
        results = list(pool.map(add_many, [tmp_path] * 2, [names, names[::-1]]))
    both = zip(results[0], results[1][::-1], strict=True)
    assert all({one, other} == {Added.NEW, Added.SAME} for one, other in both)
    assert len(FeedbackStore(tmp_path).judgements()) == 40


def test_what_is_no_store_is_told(tmp_path: Path) -> None:
    with pytest.raises(FeedbackError, match=r"feedback\.db: no feedback is there"):
        FeedbackStore(tmp_path).judgements()
    (tmp_path / "feedback.db").write_text("just words, and no database " * 99)
    with pytest.raises(FeedbackError, match=r"feedback\.db: file is not a database"):
        FeedbackStore(tmp_path).add(said())
    (tmp_path / "file").touch()
    with pytest.raises(FeedbackError, match="file"):
        FeedbackStore(tmp_path / "file" / "directory").create()


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["feedback", *arguments])
    return result.exit_code, result.output


def test_people_list_and_delete_at_the_command_line(store: FeedbackStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMOTION_FEEDBACK_DIRECTORY", str(store.file.parent))
    names = [IDS.of([1]) for _ in range(3)]
    for name in names:
        store.add(said(name), PNG)
    store.add(said(keep_until=None))
    status, output = run("list", "--json")
    listed = json.loads(output)
    assert (status, len(listed), listed[0]["prediction_id"], listed[0]["label"]) == (0, 4, names[0], "sad")
    assert (listed[0]["keep_until"] is None, listed[3]["keep_until"]) == (False, None)
    assert names[0] in run("list")[1]
    assert run("delete", names[0].upper(), "--json") == (0, json.dumps({names[0].upper(): 1}, indent=2) + "\n")
    status, output = run("delete", names[0])
    assert (status, "there is no feedback on" in output) == (1, True)
    assert run("delete")[0] == 2
    assert run("delete", "--all")[0] == 0
    assert json.loads(run("list", "--json")[1]) == []
    key = run("key")[1].splitlines()[-1]
    assert read_seal(key) is not None
