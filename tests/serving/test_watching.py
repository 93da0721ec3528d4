"""The alias moves: what is swapped in, what is refused, what stays on disk. Against a real registry in sqlite."""

from __future__ import annotations

import shutil
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from emotion_detection import versions
from emotion_detection.bundle import BUNDLE_FILE, GOLDEN_FILE, MODEL_FILE, read_bundle
from emotion_detection.registry import Registry
from serving.cache import BundleCache
from serving.settings import Settings
from tests.serving.registered import MODEL, answers, polls, promote, register, serving, with_foreign_golden_faces
from tests.serving.test_metrics import value
from tests.serving.tiny import TinyBundle, encode, wait_until, write_bundle

FILES = (BUNDLE_FILE, MODEL_FILE, GOLDEN_FILE)


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is downloaded from now on."""
    found: list[str] = []
    honest = versions.download_artifacts

    def download(source: str, **options: str) -> str:
        found.append(source)
        return honest(source, **options)

    monkeypatch.setattr(versions, "download_artifacts", download)
    return found


def detail(client: TestClient) -> str:
    answer = client.get("/readyz")
    assert answer.status_code == 200
    return str(answer.json()["detail"] or "")


def files_of(uri: str, version: str) -> Path:
    """Where the registry keeps the bundle of a version."""
    return Path(Registry(MODEL, uri).resolve(version).source.removeprefix("file://"))


def wait_for_polls(client: TestClient, result: str, more: int) -> None:
    enough = polls(client, result) + more
    wait_until(lambda: polls(client, result) >= enough)


def test_a_moved_alias_is_followed_and_the_old_model_is_freed(sqlite_uri: str, bundles: list[TinyBundle]) -> None:
    with serving() as client:
        assert answers(client, bundles[0], "1")
        assert client.post("/detect?explain=true", files={"file": encode(3)}).status_code == 200
        slot = client.app.state.context.slot
        old = weakref.ref(slot.current()), weakref.ref(slot.current().engine)
        since = value(client, "emotion_model_since_timestamp_seconds")
        promote(sqlite_uri, MODEL, "2")
        wait_until(lambda: client.get("/readyz").json()["version"] == "2")
        wait_until(lambda: [reference() for reference in old] == [None, None], seconds=10)
        assert answers(client, bundles[1], "2")
        assert client.get("/model").json()["run_id"] == Registry(MODEL, sqlite_uri).resolve("2").run_id
        assert value(client, "emotion_model_swaps_total") == polls(client, "swapped") - 1 == 1
        assert value(client, "emotion_model_since_timestamp_seconds") > since
        wait_for_polls(client, "unchanged", 2)


def test_when_the_registry_was_asked_and_when_the_version_was_made_is_known_also_from_the_cache(
    sqlite_uri: str, bundles: list[TinyBundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = time.time()
    with serving() as client:
        assert answers(client, bundles[0], "1")
        wait_until(lambda: polls(client, "unchanged") >= 1)
        made = Registry(MODEL, sqlite_uri).resolve("1").created
        assert start - 600 < made < start + 60
        assert value(client, "emotion_model_created_timestamp_seconds") == made
        asked = value(client, "emotion_registry_last_poll_timestamp_seconds")
        assert start <= asked <= time.time()
        wait_until(lambda: value(client, "emotion_registry_last_poll_timestamp_seconds") > asked)
    monkeypatch.setattr(Registry, "resolve", lambda *_: time.sleep(60))
    with serving() as client:
        assert value(client, "emotion_model_created_timestamp_seconds") == made
        assert start <= value(client, "emotion_registry_last_poll_timestamp_seconds") <= time.time()


def test_a_rollback_shows_in_the_answers(sqlite_uri: str, bundles: list[TinyBundle], downloads: list[str]) -> None:
    promote(sqlite_uri, MODEL, "2")
    with serving() as client:
        assert answers(client, bundles[1], "2")
        Registry(MODEL, sqlite_uri).rollback()
        wait_until(lambda: answers(client, bundles[0], "1"))
        assert len(downloads) == 2
        promote(sqlite_uri, MODEL, "2")
        wait_until(lambda: answers(client, bundles[1], "2"))
        assert len(downloads) == 2  # both are in the cache


@pytest.mark.parametrize("name", FILES)
def test_a_version_with_a_damaged_file_is_refused_and_fetched_once(
    sqlite_uri: str, bundles: list[TinyBundle], downloads: list[str], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = files_of(sqlite_uri, "2") / name
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] + b"!" + whole[len(whole) // 2 + 1 :])
    with serving() as client:
        promote(sqlite_uri, MODEL, "2")
        wait_until(lambda: "version 2 is refused" in detail(client))
        assert name in detail(client)
        wait_for_polls(client, "refused", 3)
        assert answers(client, bundles[0], "1")
        assert value(client, "emotion_model_load_failures_total", reason="bundle") == 1
        assert len(downloads) == 2
        assert caplog.text.count("version 1 answers on: version 2 is refused") == 1
        assert value(client, "emotion_registry_up") == 1

        promote(sqlite_uri, MODEL, "1")
        wait_until(lambda: detail(client) == "")
        file.write_bytes(whole)
        promote(sqlite_uri, MODEL, "2")
        wait_until(lambda: answers(client, bundles[1], "2"))


def test_a_version_without_a_file_is_refused(sqlite_uri: str, bundles: list[TinyBundle]) -> None:
    (files_of(sqlite_uri, "2") / MODEL_FILE).unlink()
    with serving() as client:
        promote(sqlite_uri, MODEL, "2")
        wait_until(lambda: "version 2 is refused" in detail(client))
        assert answers(client, bundles[0], "1")


def test_a_version_that_answers_the_golden_faces_otherwise_is_refused(
    sqlite_uri: str, bundles: list[TinyBundle], tmp_path: Path
) -> None:
    version = register(sqlite_uri, with_foreign_golden_faces(tmp_path / "8"), MODEL)
    with serving() as client:
        promote(sqlite_uri, MODEL, version)
        wait_until(lambda: "golden faces differ" in detail(client))
        assert answers(client, bundles[0], "1")
        assert value(client, "emotion_model_load_failures_total", reason="golden") == 1


def test_a_bundle_from_before_golden_faces_is_served_with_a_line_in_the_log(
    start: Callable[..., TestClient], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    start(bundle=write_bundle(tmp_path / "old", golden=False).directory)
    assert caplog.text.count("has no golden faces") == 1


def test_no_champion_any_more_leaves_the_model_and_says_so(sqlite_uri: str, bundles: list[TinyBundle]) -> None:
    import mlflow

    with serving() as client:
        mlflow.MlflowClient(sqlite_uri, sqlite_uri).delete_registered_model_alias(MODEL, "champion")
        wait_until(lambda: "has no alias 'champion'" in detail(client))
        assert answers(client, bundles[0], "1")
        assert value(client, "emotion_registry_up") == 0
        promote(sqlite_uri, MODEL, "1")
        wait_until(lambda: detail(client) == "")
        assert value(client, "emotion_registry_up") == 1


@pytest.mark.parametrize("name", [*(f"1/{name}" for name in FILES), "champion.json"])
def test_a_damaged_cache_is_noticed_and_fetched_anew(bundles: list[TinyBundle], name: str) -> None:
    with serving() as client:
        assert answers(client, bundles[0], "1")
    file = Path("cache", MODEL, name)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with serving() as client:
        assert answers(client, bundles[0], "1")
        assert value(client, "emotion_model_load_failures_total", reason="cache") == 1
    assert file.read_bytes() == whole


def test_another_bundle_in_the_place_of_the_cached_one_is_noticed(bundles: list[TinyBundle]) -> None:
    with serving() as client:
        assert answers(client, bundles[0], "1")
    shutil.copytree(bundles[1].directory, Path("cache", MODEL, "1"), dirs_exist_ok=True)
    with serving() as client:
        assert answers(client, bundles[0], "1")
        assert value(client, "emotion_model_load_failures_total", reason="cache") == 1


def test_the_cache_is_of_no_use_where_it_cannot_be_written(
    sqlite_uri: str, bundles: list[TinyBundle], caplog: pytest.LogCaptureFixture
) -> None:
    with serving() as client:
        directory = Path("cache", MODEL)
        directory.rename("elsewhere")
        directory.write_text("a file")
        promote(sqlite_uri, MODEL, "2")
        wait_until(lambda: "cannot be written" in detail(client))
        assert answers(client, bundles[0], "1")
        assert value(client, "emotion_model_load_failures_total", reason="cache") >= 1
        directory.unlink()
        wait_until(lambda: answers(client, bundles[1], "2"))
    assert "Traceback" not in caplog.text


def test_the_cache_keeps_the_last_few_versions_and_no_leftovers(
    sqlite_uri: str, bundles: list[TinyBundle], tmp_path: Path
) -> None:
    assert len(bundles) == 2
    later = [register(sqlite_uri, write_bundle(tmp_path / str(seed), seed), MODEL) for seed in (3, 4)]
    with serving(cache_versions=2) as client:
        leftover = Path("cache", MODEL, ".7.killed")
        leftover.mkdir()
        for version in ("2", *later):
            promote(sqlite_uri, MODEL, version)
            wait_until(lambda: client.get("/readyz").json()["version"] == version)  # noqa: B023
    kept = {path.name for path in Path("cache", MODEL).iterdir() if path.is_dir()}
    assert kept == {"3", "4"}


def test_the_cache_of_another_registry_is_left_alone(
    bundles: list[TinyBundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(model=MODEL, cache=Path("cache"))
    with serving() as client:
        assert answers(client, bundles[0], "1")
        wait_until(lambda: BundleCache(settings).last_good() is not None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://name:password@elsewhere:5000")
    assert BundleCache(settings).last_good() is None
    BundleCache(settings).remember("1", None, read_bundle(Path("cache", MODEL, "1")))
    assert BundleCache(settings).last_good() is not None
    assert "password" not in Path("cache", MODEL, "champion.json").read_text()
