"""Shadow and canary: the version under the alias `challenger` beside the champion, from a real registry."""

from __future__ import annotations

import os
import sys
import time
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient

from emotion_detection.api_keys import create_key
from emotion_detection.errors import BrokenImage
from emotion_detection.reference import EDGES
from emotion_detection.reference import histogram as binned
from serving.batching import Job
from serving.canary import check, position
from serving.challenger_metrics import RESULTS, ShadowMetrics
from serving.context import Context
from serving.loading_metrics import ABSENT, FAILURES, POLLS
from serving.metrics import Metrics
from serving.model import ModelSlot, ServedModel
from serving.priority import NICENESS
from serving.settings import Settings, SettingsError, load_settings
from serving.shadow import Shadow
from serving.sources import load_directory
from tests.serving.processes import running
from tests.serving.registered import (
    MODEL,
    challenge,
    promote,
    register,
    serving,
    that_fails_on_white,
    with_foreign_golden_faces,
    withdraw,
)
from tests.serving.test_detect import assert_problem
from tests.serving.test_metrics import samples, value
from tests.serving.test_processes import samples as samples_of
from tests.serving.test_processes import total
from tests.serving.tiny import LABELS, TinyBundle, encode, slowed, wait_until, white, write_bundle


def classes(bundle: TinyBundle, images: Sequence[bytes]) -> list[str]:
    """What a bundle answers, computed without any server."""
    return [LABELS[int(bundle.expected(image).argmax())] for image in images]


def ready(client: TestClient, version: str) -> None:
    """Wait until a version challenges."""
    info = ("emotion_challenger_info", "version", version)
    wait_until(lambda: any(name == info[0] and info[1:] in labels for name, labels in samples(client)))


def ask(client: TestClient, session: str = "", image: bytes = b"") -> tuple[str, list[float]]:
    """The version that answers somebody, and its probabilities."""
    headers = {"X-Session-Id": session} if session else {}
    answer = client.post("/detect", files={"file": image or encode(3)}, headers=headers)
    body = answer.json()
    assert answer.status_code == 200, body
    version = str(body["model"]["version"])
    assert answer.headers["X-Model-Version"] == version
    assert body["prediction_id"].startswith(f"{version}-{body['model']['bundle_sha256'][:8]}-")
    return version, [body["probabilities"][label] for label in LABELS]


def test_what_the_shadow_counts_is_what_both_models_say_to_the_same_faces(server_url: str, tmp_path: Path) -> None:
    """A server of two processes and a real MLflow; the comparison is made in NumPy."""
    model, images = "shadowed", [encode(seed) for seed in range(60)]
    champion, challenger = (write_bundle(tmp_path / str(seed), seed, spread=9) for seed in (1, 2))
    for bundle in (champion, challenger):
        register(server_url, bundle, model)
    promote(server_url, model, "1")
    challenge(server_url, model, "2")
    options = ("--model", model, "--shadow-share", "1", "--processes", "2", "--workers", "2", "--poll-seconds", "0.2")
    with running(tmp_path, *options, MLFLOW_TRACKING_URI=server_url) as server:
        wait_until(lambda: server.log.read_text().count("Application startup complete") == 2)
        wait_until(lambda: server.is_ready() and total(server, "emotion_challenger_ready") == 1)
        wait_until(lambda: _pairs(samples_of(server)) == {(a, b): 0 for a in LABELS for b in LABELS})
        with httpx.Client(base_url=server.url, timeout=20) as client:
            for image in images[:40]:
                assert client.post("/detect", files={"file": image}).json()["model"]["version"] == "1"
            client.post("/detect", files=[("file", image) for image in images[40:]])
        wait_until(lambda: total(server, "emotion_shadow_faces_total") == 60)
        expected = Counter(zip(classes(champion, images), classes(challenger, images), strict=True))
        assert sum(count for (one, other), count in expected.items() if one != other) > 10
        assert _pairs(samples_of(server)) == {(a, b): expected[a, b] for a in LABELS for b in LABELS}
        assert total(server, "emotion_shadow_faces_total", result="scored") == 60
        confidence = [challenger.expected(image).max() for image in images]
        counts = np.cumsum(binned("confidence", confidence).counts)
        for edge, count in zip(EDGES["confidence"], counts, strict=False):
            le = {"le": str(edge), "challenger_version": "2"}
            assert total(server, "emotion_shadow_confidence_bucket", **le) == count
        assert total(server, "emotion_predictions_total", model_version="1") == 60
        assert total(server, "emotion_predictions_total", model_version="2") == 0
        assert total(server, "emotion_shadow_stage_duration_seconds_count", stage="queue") == 60
        assert total(server, "emotion_shadow_queue_length") == 0
        assert total(server, "emotion_shadow_cpu_seconds_total") > 0
    assert "Traceback" not in server.log.read_text()


def _pairs(found: dict[tuple[str, frozenset[tuple[str, str]]], float]) -> dict[tuple[str, str], float]:
    """Faces by what the champion and what the challenger answered."""
    pairs = {}
    for (name, labels), count in found.items():
        if name == "emotion_shadow_predictions_total":
            known = dict(labels)
            assert (known["champion_version"], known["challenger_version"]) == ("1", "2")
            pairs[known["champion_emotion"], known["challenger_emotion"]] = count
    return pairs


def test_a_challenger_comes_is_refused_and_goes_and_the_champion_answers_all_the_while(
    sqlite_uri: str, bundles: list[TinyBundle], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(bundles) == 2
    caplog.set_level("INFO")
    foreign = register(sqlite_uri, with_foreign_golden_faces(tmp_path / "8"), MODEL)
    with serving(shadow_share=1, canary_share=0.5) as client:
        for result in RESULTS:
            assert value(client, "emotion_shadow_faces_total", result=result) == 0
        for result in (*POLLS, ABSENT):
            assert value(client, "emotion_challenger_polls_total", result=result) >= 0
        for reason in FAILURES:
            assert value(client, "emotion_challenger_load_failures_total", reason=reason) == 0
        wait_until(lambda: value(client, "emotion_challenger_polls_total", result=ABSENT) > 1)
        assert value(client, "emotion_challenger_ready") == 0
        assert ask(client)[0] == "1"
        wait_until(lambda: value(client, "emotion_shadow_faces_total", result="no-challenger") == 1)

        challenge(sqlite_uri, MODEL, "2")
        ready(client, "2")
        for result in ("answered", "failed"):
            assert value(client, "emotion_canary_requests_total", result=result, model_version="2") == 0
        for label in LABELS:
            assert value(client, "emotion_predictions_total", emotion=label, model_version="2") == 0
        slot = client.app.state.context.challenger.slot
        before = weakref.ref(slot.model)

        challenge(sqlite_uri, MODEL, foreign)
        wait_until(lambda: value(client, "emotion_challenger_load_failures_total", reason="golden") == 1)
        wait_until(lambda: value(client, "emotion_challenger_ready") == 0)
        assert f"no challenger: version {foreign} is refused" in caplog.text
        assert {ask(client, str(session))[0] for session in range(8)} == {"1"}
        assert client.get("/readyz").json()["detail"] is None
        wait_until(lambda: before() is None, seconds=10)

        challenge(sqlite_uri, MODEL, "2")
        ready(client, "2")
        withdraw(sqlite_uri, MODEL)
        wait_until(lambda: value(client, "emotion_challenger_ready") == 0)
        challenge(sqlite_uri, MODEL, "1")
        ready(client, "1")
        faces = value(client, "emotion_shadow_faces_total", result="no-challenger")
        assert ask(client)[0] == "1"  # and it is not compared with itself
        wait_until(lambda: value(client, "emotion_shadow_faces_total", result="no-challenger") == faces + 1)
        assert value(client, "emotion_registry_polls_total", result="refused") == 0
        assert value(client, "emotion_registry_up") == 1
    assert "Traceback" not in caplog.text


def test_a_canary_answers_its_callers_and_is_named_and_counted(
    sqlite_uri: str, bundles: list[TinyBundle], tmp_path: Path
) -> None:
    challenge(sqlite_uri, MODEL, "2")
    keys = [create_key(f"phone-{number}") for number in range(6)]
    file = tmp_path / "keys.txt"
    file.write_text("".join(f"{kept}\n" for _, kept in keys))
    with serving(canary_share=0.4, shadow_share=1, api_keys_file=file, open_paths=("/metrics", "/readyz")) as client:
        client.headers["X-API-Key"] = keys[0][0]
        ready(client, "2")
        digest = client.app.state.context.challenger.slot.model.digest
        meant = {str(n): "2" if _position(digest, session=str(n)) < 0.4 else "1" for n in range(30)}
        assert 5 < list(meant.values()).count("2") < 20
        for _ in range(2):
            for session, version in meant.items():
                found, probabilities = ask(client, session)
                assert found == version
                np.testing.assert_allclose(probabilities, bundles[int(version) - 1].expected(encode(3)), atol=1e-5)
        for secret, kept in keys:  # without a session, the key decides
            client.headers["X-API-Key"] = secret
            assert ask(client)[0] == ("2" if _position(digest, key=kept.name) < 0.4 else "1")
        _assert_other_ways_in(client, meant)
        _assert_feedback_is_for_the_version_that_answered(client, next(s for s, named in meant.items() if named == "2"))

        counts = Counter({version: value(client, "emotion_prediction_entropy_count", model_version=version)
                          for version in ("1", "2")})  # fmt: skip
        answered = value(client, "emotion_canary_requests_total", result="answered", model_version="2")
        assert answered == counts["2"] >= 2 * list(meant.values()).count("2")
        wait_until(lambda: sum(_pairs(samples(client)).values()) == counts["1"])  # those of the champion alone


def _assert_other_ways_in(client: TestClient, meant: dict[str, str]) -> None:
    for version in ("1", "2"):
        session = next(session for session, named in meant.items() if named == version)
        headers = {"X-Session-Id": session}
        explained = client.post("/explain?format=json", files={"file": encode(3)}, headers=headers)
        assert explained.headers["X-Model-Version"] == explained.json()["detection"]["model"]["version"] == version
        with client.websocket_connect("/stream", headers=headers) as socket:
            for _ in range(2):
                socket.send_bytes(encode(3))
                assert socket.receive_json()["detection"]["model"]["version"] == version
        several = client.post("/detect", files=[("file", encode(3)), ("file", b"no image")], headers=headers)
        assert several.json()[0]["model"]["version"] == several.headers["X-Model-Version"] == version
        assert several.json()[1]["type"] == "urn:problem:not-an-image"


def _assert_feedback_is_for_the_version_that_answered(client: TestClient, session: str) -> None:
    answer = client.post("/detect", files={"file": encode(3)}, headers={"X-Session-Id": session}).json()
    said = {"prediction_id": answer["prediction_id"], "label": "sad"}
    assert client.post("/feedback", json=said).json()["counted"] is True
    labels = {"predicted": answer["label"], "actual": "sad", "model_version": "2"}
    assert value(client, "emotion_feedback_total", **labels) == 1


def _position(digest: str, **caller: str) -> float:
    session = caller.get("session")
    headers = [(b"x-session-id", session.encode())] if session else []
    visit = SimpleNamespace(key=caller.get("key", ""), id=caller.get("id", ""))
    return position({"headers": headers, "visit": visit}, digest)


def test_callers_are_spread_evenly_and_each_challenger_has_its_own() -> None:
    for kind in ("session", "key", "id"):
        for digest in ("a" * 64, "b" * 64):
            places = np.array([_position(digest, **{kind: f"somebody-{number}"}) for number in range(4000)])
            assert abs((places < 0.1).mean() - 0.1) < 0.02
            assert abs((places < 0.5).mean() - 0.5) < 0.03
    pairs = [[_position(digest, id=str(number)) < 0.5 for digest in ("a" * 64, "b" * 64)] for number in range(1000)]
    assert 400 < sum(one != other for one, other in pairs) < 600


def test_what_a_canary_fails_at_is_answered_by_the_champion_and_failing_often_switches_it_off(
    sqlite_uri: str, bundles: list[TinyBundle], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    failing = that_fails_on_white(tmp_path / "8")
    version = register(sqlite_uri, failing, MODEL)
    challenge(sqlite_uri, MODEL, version)
    with serving(canary_share=1, canary_failures=3) as client:
        ready(client, version)
        assert ask(client) == (version, pytest.approx(failing.expected(encode(3)), abs=1e-5))
        for _ in range(2):
            assert ask(client, image=white()) == ("1", pytest.approx(bundles[0].expected(white()), abs=1e-5))
        assert client.post("/detect", files={"file": b"no image"}).status_code == 415
        assert ask(client)[0] == version
        explained = client.post("/explain", files={"file": white()})
        assert (explained.status_code, explained.headers["X-Model-Version"]) == (200, "1")
        assert value(client, "emotion_canary_switched_off") == 1
        assert {ask(client, str(session))[0] for session in range(8)} == {"1"}
        assert value(client, "emotion_canary_requests_total", result="failed", model_version=version) == 3
        assert value(client, "emotion_canary_requests_total", result="answered", model_version=version) == 3
        assert value(client, "emotion_rejected_total", reason="internal-error") == 0
        assert value(client, "emotion_predictions_total", emotion=classes(bundles[0], [white()])[0], model_version="1")
        assert f"canary: version {version} failed 3 times in 6 requests and answers nobody any more" in caplog.text
        challenge(sqlite_uri, MODEL, "2")
        ready(client, "2")
        assert ask(client)[0] == "2"
        assert value(client, "emotion_canary_switched_off") == 0


def test_a_canary_that_fails_late_leaves_the_champion_what_is_left_of_the_time(
    start: Callable[..., TestClient], tiny: TinyBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = start(bundle=tiny.directory, answer_seconds=0.3)
    context: Context = client.app.state.context
    settings = context.settings.model_copy(update={"bundle": that_fails_on_white(tmp_path / "8").directory})
    challenger = replace(load_directory(settings), on_trial=True)
    monkeypatch.setattr(context.challenger.canary, "choose", lambda _: challenger)
    for engine in (context.slot.current().engine, challenger.engine):
        monkeypatch.setattr(engine, "predict", slowed(engine.predict, 0.2))
    assert_problem(client.post("/detect", files={"file": white()}), 503, "timed-out", "no answer within 0.3 s")
    assert value(client, "emotion_canary_requests_total", result="failed", model_version=challenger.version) == 1


def test_what_counts_as_a_failure_of_a_canary() -> None:
    good = np.full((2, 3), 1 / 3, np.float32)
    check([good, BrokenImage("bad"), good[:0]])
    for bad in (good * np.nan, good * np.inf):
        with pytest.raises(ArithmeticError):
            check([good, bad])
    with pytest.raises(ZeroDivisionError):
        check([BrokenImage("bad"), ZeroDivisionError()])


class Bench:
    """A shadow between two models, and what makes its workers busy."""

    def __init__(self, champion: Path, challenger: Path, size: int) -> None:
        models = [load_directory(Settings(bundle=path)) for path in (champion, challenger)]
        self.champion, self.challenger = models[0], replace(models[1], on_trial=True)
        self.slots = ModelSlot(), ModelSlot()
        for slot, model in zip(self.slots, (self.champion, self.challenger), strict=True):
            slot.replace(model)
        self.metrics, self.free = Metrics(), Event()
        settings = Settings(shadow_share=1, shadow_queue_size=size)
        metrics = ShadowMetrics(self.metrics.registry, 1, size)
        self.shadow = Shadow(settings, *self.slots, metrics, lambda: not self.free.is_set())

    def offer(self, faces: int, model: ServedModel | None = None) -> None:
        crops = np.random.default_rng(faces).integers(0, 256, (faces, 8, 8, 1), np.uint8)
        job = Job(model or self.champion, lambda: crops, None, time.perf_counter(), crops)  # type: ignore[arg-type]
        job.outcome = self.champion.engine.predict(crops)
        self.shadow.offer([job])

    def count(self, result: str) -> float:
        return self.metrics.registry.get_sample_value("emotion_shadow_faces_total", {"result": result}) or 0


def test_under_load_the_shadow_stands_back_and_what_does_not_fit_is_left_out(tmp_path: Path) -> None:
    paths = [write_bundle(tmp_path / str(seed), seed).directory for seed in (1, 2)]
    bench = Bench(*paths, size=20)
    bench.shadow.start()
    for faces in (12, 0, 9, 5, 3, 1):  # 12 + 5 + 3 fit, if 12 are still waited for
        bench.offer(faces)
    time.sleep(0.1)
    assert bench.count("queue-full") == 9 + 1
    assert bench.count("scored") == 0
    bench.offer(2, bench.challenger)  # a canary's own answers are no evidence
    bench.free.set()
    wait_until(lambda: bench.count("scored") == 20)
    assert sum(map(bench.count, RESULTS)) == 30
    if sys.platform == "linux":
        assert _niceness(bench.shadow.native_id) == _niceness(None)
        assert (
            max(_niceness(int(task.name)) for task in Path("/proc/self/task").iterdir()) >= _niceness(None) + NICENESS
        )
    bench.slots[1].clear()
    bench.offer(4)
    assert bench.count("no-challenger") == 4
    bench.shadow.stop()
    assert not bench.shadow.is_alive()


def _niceness(thread: int | None) -> int:
    return os.getpriority(os.PRIO_PROCESS, thread or 0)


def test_a_challenger_that_fails_unseen_is_counted_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(write_bundle(tmp_path / "1").directory, that_fails_on_white(tmp_path / "2").directory, size=20)
    bench.free.set()
    bench.shadow.start()
    job = Job(bench.champion, None, None, 0.0, np.full((1, 8, 8, 1), 255, np.uint8))  # type: ignore[arg-type]
    job.outcome = bench.champion.engine.predict(job.crops)  # type: ignore[arg-type]
    bench.shadow.offer([job, job])
    bench.offer(1)
    wait_until(lambda: bench.count("scored") == 1)
    assert bench.count("error") == 2
    assert caplog.text.count("shadow: version") == 1
    bench.shadow.stop()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--shadow-share", "1.5"), "EMOTION_SHADOW_SHARE or --shadow-share: found '1.5'"),
        (("--bundle", "b", "--canary-share", "0.1"), "a challenger comes from the registry"),
        (("--shadow-share", "0.1", "--challenger-alias", "champion"), "is the alias of the model that answers"),
    ],
)
def test_settings_that_do_not_fit_are_told(options: tuple[str, ...], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load_settings(options)
