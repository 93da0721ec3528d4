"""POST and DELETE /feedback: what is counted, what is kept, what is refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from cryptography.fernet import Fernet
from fastapi.testclient import TestClient
from pydantic import SecretStr

from emotion_detection.api_keys import create_key
from emotion_detection.feedback import FeedbackStore, Judgement
from emotion_detection.prediction_ids import PredictionIds, id_prefix, mark_key
from emotion_detection.preprocess import decode, prepare
from emotion_detection.seal import read_seal
from serving.feedback_schemas import FeedbackAnswer
from serving.settings import SettingsError, load_settings
from tests.serving.processes import running
from tests.serving.test_detect import assert_problem
from tests.serving.test_metrics import samples, value
from tests.serving.test_processes import total
from tests.serving.tiny import LABELS, SIZE, TinyBundle, encode, wait_until, write_bundle

SECRET = "a secret of the tests"
FIELDS = set(FeedbackAnswer.model_fields)
Start = Callable[..., TestClient]


@pytest.fixture
def store(tmp_path: Path) -> FeedbackStore:
    return FeedbackStore(tmp_path / "said")


@pytest.fixture
def client(tiny: TinyBundle, start: Start, store: FeedbackStore) -> TestClient:
    return start(bundle=tiny.directory, feedback_directory=store.file.parent, feedback_secret=SecretStr(SECRET))


@pytest.fixture
def keeping(tiny: TinyBundle, start: Start, store: FeedbackStore) -> TestClient:
    settings = {"feedback": "keep", "feedback_encrypt": False, "feedback_directory": store.file.parent}
    return start(bundle=tiny.directory, **settings)


def detect(client: TestClient, seed: int = 0) -> Any:
    return client.post("/detect", files={"file": encode(seed)}).json()


def say(client: TestClient, prediction_id: str, label: str, **more: object) -> Any:
    return client.post("/feedback", json={"prediction_id": prediction_id, "label": label} | more)


def other_than(label: str) -> str:
    return LABELS[(LABELS.index(label) + 1) % len(LABELS)]


def cells(client: TestClient) -> dict[tuple[str, str], float]:
    """The confusion matrix by (predicted, actual)."""
    found = [
        (dict(labels), count) for (name, labels), count in samples(client).items() if name == "emotion_feedback_total"
    ]
    return {(labels["predicted"], labels["actual"]): count for labels, count in found}


def test_what_people_say_fills_the_confusion_matrix(client: TestClient) -> None:
    assert cells(client) == {(one, other): 0 for one in LABELS for other in LABELS}
    expected: dict[tuple[str, str], int] = {}
    for seed in range(12):
        answer = detect(client, seed)
        actual = answer["label"] if seed % 3 else other_than(answer["label"])
        told = say(client, answer["prediction_id"], actual).json()
        assert told == {
            "prediction_id": answer["prediction_id"], "face": 0, "model_version": answer["model"]["version"],
            "predicted": answer["label"], "label": actual, "right": bool(seed % 3), "counted": True, "kept_until": None,
        }  # fmt: skip
        expected[answer["label"], actual] = expected.get((answer["label"], actual), 0) + 1
    assert {pair: count for pair, count in cells(client).items() if count} == expected


def test_the_same_word_counts_once_and_another_one_is_refused(client: TestClient) -> None:
    answer = detect(client)
    first, again = (say(client, answer["prediction_id"], "sad").json() for _ in range(2))
    assert (first["counted"], again["counted"]) == (True, False)
    assert_problem(say(client, answer["prediction_id"], "happy"), 409, "already-judged", "the first word counts")
    assert say(client, f" {answer['prediction_id'].upper()}\n", "sad").json() == again
    assert sum(cells(client).values()) == 1


def test_each_face_of_an_answer_is_judged_for_itself(client: TestClient) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 1), np.uint8)
    tensor = {"name": "image", "datatype": "UINT8", "shape": list(pixels.shape), "data": pixels.ravel().tolist()}
    answer = client.post("/v2/models/tiny/infer", json={"inputs": [tensor]})
    rows = np.reshape(answer.json()["outputs"][0]["data"], (3, -1))
    name = answer.headers["X-Prediction-Id"]
    for face in range(3):
        assert say(client, name, "sad", face=face).json()["predicted"] == LABELS[rows[face].argmax()]
    assert_problem(say(client, name, "sad", face=3), 422, "invalid-request", "face: found 3; the answer has 3")
    assert sum(cells(client).values()) == 3


def test_answers_that_nobody_gave_or_long_ago_cannot_be_judged(client: TestClient, monkeypatch: Any) -> None:
    answer = detect(client)
    name, prefix = answer["prediction_id"], answer["prediction_id"][: len("bundle-12345678")]
    told, _, mark = name.rpartition("-")
    forged = f"{told[:-2]}{(int(told[-2:], 16) + 1) % 3:02x}-{mark}"
    elsewhere = PredictionIds(prefix, mark_key("another secret of somebody")).of([0])
    unknown = PredictionIds(id_prefix("99", "f" * 64), mark_key(SECRET)).of([0])
    for wrong in (forged, elsewhere, unknown, told.rpartition("-")[0], "7", "", "x" * 250):
        assert_problem(say(client, wrong, "sad"), 404, "unknown-prediction", "prediction_id")
    assert_problem(say(client, name, "bored"), 422, "unknown-label", "'bored'", ", ".join(LABELS))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3700)
    assert_problem(say(client, name, "sad"), 410, "expired-prediction", "1.0 hours old; it could be judged for 1")
    assert sum(cells(client).values()) == 0


@pytest.mark.parametrize(
    ("body", "status", "slug", "words"),
    [
        (b"", 422, "invalid-request", "body"),
        (b"[1]", 422, "invalid-request", "body"),
        (b'{"label": "sad"}', 422, "invalid-request", "prediction_id"),
        (b'{"prediction_id": "7", "label": 1}', 422, "invalid-request", "label"),
        (b'{"prediction_id": "7", "label": "sad", "face": -1}', 422, "invalid-request", "face"),
        (b'{"prediction_id": "7", "label": "sad", "face": true}', 422, "invalid-request", "face"),
        (b'{"prediction_id": "7", "label": "sad", "mood": 1}', 422, "invalid-request", "mood"),
        (b'{"label": "' + b"x" * 5000 + b'"}', 422, "invalid-request", "4096"),
    ],
)
def test_a_body_that_is_none_is_told(client: TestClient, body: bytes, status: int, slug: str, words: str) -> None:
    answer = client.post("/feedback", content=body, headers={"Content-Type": "application/json"})
    assert_problem(answer, status, slug, words)
    plain = client.post("/feedback", content=body, headers={"Content-Type": "text/plain"})
    assert_problem(plain, 415, "unsupported-body", "send application/json")


def test_without_the_operators_word_no_face_is_kept(client: TestClient, store: FeedbackStore) -> None:
    say(client, detect(client)["prediction_id"], "sad")
    assert [(one.label, one.keep_until) for one in store.judgements()] == [("sad", None)]
    assert list(store.faces()) == []
    assert store.file.stat().st_size < 50_000
    assert client.app.state.context.judgements.faces is None
    assert "x-keeps-faces-for-days" not in client.get("/openapi.json").json()["paths"]["/feedback"]["post"]


def test_with_it_what_the_model_saw_is_kept_and_can_be_deleted(keeping: TestClient, store: FeedbackStore) -> None:
    answer, unjudged = detect(keeping, 1), detect(keeping, 2)
    told = say(keeping, answer["prediction_id"], "sad").json()
    assert told["kept_until"] is not None
    [(judgement, png)] = store.faces()
    assert (judgement.prediction_id, judgement.label, judgement.predicted) == (
        answer["prediction_id"], "sad", answer["label"],
    )  # fmt: skip
    np.testing.assert_array_equal(decode(png, 1), prepare(encode(1), SIZE, 1))
    assert abs((judgement.keep_until or 0) - time.time() - 30 * 86_400) < 60
    assert value(keeping, "emotion_feedback_kept_faces") == 1
    assert value(keeping, "emotion_feedback_bytes") == store.file.stat().st_size
    deleted = keeping.delete(f"/feedback/{answer['prediction_id']}")
    assert deleted.json() == {"prediction_id": answer["prediction_id"], "faces": 1}
    assert list(store.faces()) == []
    assert value(keeping, "emotion_feedback_kept_faces") == 0
    for name in (answer["prediction_id"], unjudged["prediction_id"], "7"):
        assert_problem(keeping.delete(f"/feedback/{name}"), 404, "unknown-prediction", "no feedback on this answer")
    assert_problem(say(keeping, answer["prediction_id"], "sad"), 409, "already-judged")
    assert keeping.get("/openapi.json").json()["paths"]["/feedback"]["post"]["x-keeps-faces-for-days"] == 30


def test_faces_wait_in_bounded_memory_for_a_bounded_time(
    tiny: TinyBundle, start: Start, store: FeedbackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"feedback": "keep", "feedback_encrypt": False, "feedback_directory": store.file.parent}
    client = start(bundle=tiny.directory, **settings, feedback_waiting_megabytes=3 * SIZE * SIZE / 1e6)
    names = [detect(client, seed)["prediction_id"] for seed in range(5)]
    kept = [say(client, name, "sad").json()["kept_until"] is not None for name in names]
    assert kept == [False, False, True, True, True]
    late = detect(client, 9)["prediction_id"]
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 3601)
    assert say(client, late, "sad").json()["kept_until"] is None
    assert sum(cells(client).values()) == 6


def test_kept_faces_are_encrypted_unless_it_is_said_otherwise(
    tiny: TinyBundle, start: Start, store: FeedbackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = Fernet.generate_key().decode()
    settings = {"feedback": "keep", "feedback_directory": store.file.parent, "feedback_key": SecretStr(key)}
    client = start(bundle=tiny.directory, **settings)
    say(client, detect(client)["prediction_id"], "sad")
    assert b"PNG" not in store.file.read_bytes()
    [(_, png)] = FeedbackStore(store.file, read_seal(key)).faces()
    np.testing.assert_array_equal(decode(png, 1), prepare(encode(0), SIZE, 1))
    monkeypatch.setenv("EMOTION_FEEDBACK", "keep")
    monkeypatch.delenv("EMOTION_FEEDBACK_KEY", raising=False)
    with pytest.raises(SettingsError, match="there is no key: put one of `emotion feedback key` into"):
        load_settings()
    assert load_settings(["--no-feedback-encrypt"]).feedback == "keep"
    monkeypatch.setenv("EMOTION_FEEDBACK_KEY", key)
    assert load_settings().feedback_keys == key
    with pytest.raises(SettingsError, match="set EMOTION_FEEDBACK_KEY"):
        load_settings(["--feedback-key", key])
    monkeypatch.setenv("EMOTION_FEEDBACK_KEY", "not a key")
    with pytest.raises(SettingsError, match="44 characters"):
        load_settings()


def test_a_disk_that_takes_nothing_is_told_and_nothing_is_counted(client: TestClient, store: FeedbackStore) -> None:
    store.file.parent.mkdir(exist_ok=True)
    store.file.write_text("no database " * 99)
    answer = say(client, detect(client)["prediction_id"], "sad")
    assert_problem(answer, 503, "feedback-unavailable", "the server's log says why")
    assert answer.headers["Retry-After"] == "1"
    assert sum(cells(client).values()) == 0


def test_an_answer_can_be_judged_after_another_model_has_taken_over(client: TestClient) -> None:
    answer = detect(client)
    context = client.app.state.context
    newer = replace(context.slot.current(), version="8")
    context.metrics.show_model(newer)
    context.slot.replace(newer)
    assert say(client, answer["prediction_id"], "sad").json()["model_version"] == answer["model"]["version"]
    assert detect(client)["prediction_id"].startswith("8-")
    found = {dict(labels)["model_version"] for name, labels in samples(client) if name == "emotion_feedback_total"}
    assert found == {"8", answer["model"]["version"]}


def test_it_can_be_switched_off_and_asks_for_a_key_like_all_the_rest(tiny: TinyBundle, start: Start) -> None:
    off = start(bundle=tiny.directory, feedback="off")
    assert "/feedback" not in off.get("/openapi.json").json()["paths"]
    name = detect(off)["prediction_id"]
    assert len(name) == len("bundle-12345678-") + 36
    assert say(off, name, "sad").status_code == 404
    key, kept = create_key("phone")
    locked = start(bundle=tiny.directory, ready=False, api_keys=SecretStr(str(kept)))
    assert_problem(say(locked, name, "sad"), 401, "unauthorized")
    assert_problem(locked.delete(f"/feedback/{name}"), 401, "unauthorized")
    told = locked.delete(f"/feedback/{name}", headers={"X-API-Key": key})
    assert_problem(told, 404, "unknown-prediction")


def test_what_is_over_goes_even_where_no_more_feedback_is_taken(
    tiny: TinyBundle, start: Start, store: FeedbackStore
) -> None:
    now = time.time()
    for days in (1, 8):
        judgement = Judgement(f"answer {days}", 0, "7", "happy", "sad", now - 86_400 * days, now, now + 86_400)
        store.add(judgement, encode())
    start(bundle=tiny.directory, feedback="off", feedback_days=7, feedback_directory=store.file.parent)
    wait_until(lambda: [one.prediction_id for one, _ in store.faces()] == ["answer 1"])


@pytest.mark.slow
def test_whichever_process_is_asked_it_counts_once_and_finds_the_face(tmp_path: Path) -> None:
    tiny = write_bundle(tmp_path / "bundle")
    options = ("--bundle", str(tiny.directory), "--processes", "2")
    keep = {"EMOTION_FEEDBACK": "keep", "EMOTION_FEEDBACK_ENCRYPT": "false"}
    with running(tmp_path, *options, **keep) as server:
        wait_until(lambda: server.log.read_text().count("Application startup complete") == 2)

        def ask(seed: int) -> list[Any]:
            name = httpx.post(f"{server.url}/detect", files={"file": encode(seed)}, timeout=20).json()["prediction_id"]
            body = {"prediction_id": name, "label": "sad"}
            return [httpx.post(f"{server.url}/feedback", json=body, timeout=20).json() for _ in range(3)]

        with ThreadPoolExecutor(4) as pool:
            told = [*pool.map(ask, range(12)), ask(12)]
        assert {key for answers in told for one in answers for key in one} == FIELDS, told
        assert all(sum(one["counted"] for one in answers) == 1 for answers in told)
        assert all(sum(one["kept_until"] is not None for one in answers) == 1 for answers in told)
        for _ in range(4):
            assert total(server, "emotion_feedback_total") == 13
            assert total(server, "emotion_feedback_kept_faces") == 13
    found = [image for _, image in FeedbackStore(tmp_path / ".cache/feedback").faces()]
    expected = [prepare(encode(seed), SIZE, 1).tobytes() for seed in range(13)]
    assert sorted(decode(image, 1).tobytes() for image in found) == sorted(expected)
    assert "Traceback" not in server.log.read_text()
