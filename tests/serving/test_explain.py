"""POST /explain, and heat maps in the answer of /detect."""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from numpy.typing import NDArray

from emotion_detection.explain.heatmaps import occlusion, overlay
from emotion_detection.preprocess import prepare
from serving.context import Context
from serving.priority import NICENESS
from serving.sources import load_directory
from tests.serving.test_detect import assert_problem
from tests.serving.test_metrics import value
from tests.serving.tiny import LABELS, SIZE, TinyBundle, encode, heat_of, slowed, wait_until, write_bundle


@pytest.fixture
def explained(tmp_path: Path) -> TinyBundle:
    return write_bundle(tmp_path / "explained", explained=True)


@pytest.fixture
def explaining(explained: TinyBundle, start: Callable[..., TestClient]) -> TestClient:
    return start(bundle=explained.directory, heat_queue_size=1)


def explain(client: TestClient, data: bytes, **query: str) -> Response:
    return client.post("/explain", files={"file": data}, params=query)


def decoded(answer: Response, flag: int) -> NDArray[np.uint8]:
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png"), answer.text
    return cv2.imdecode(np.frombuffer(answer.content, np.uint8), flag)


def answered(bundle: TinyBundle, data: bytes) -> int:
    return int(bundle.expected(data).argmax())


def test_the_picture_shows_the_face_under_the_heat(explaining: TestClient, explained: TinyBundle) -> None:
    data = encode(3)
    heat = heat_of(data, answered(explained, data)).astype(np.float32)
    picture = decoded(explain(explaining, data), cv2.IMREAD_COLOR_RGB)
    expected = overlay(prepare(data, SIZE, 1), heat, 192)
    assert picture.shape == (192, 192, 3)
    assert np.abs(picture.astype(int) - expected).max() <= 1


def test_without_the_face_white_is_hot(explaining: TestClient) -> None:
    data = encode(3)
    picture = decoded(explain(explaining, data, overlay="false", **{"class": "sad"}), cv2.IMREAD_GRAYSCALE)
    expected = cv2.resize(heat_of(data, LABELS.index("sad")) * 255, (192, 192), interpolation=cv2.INTER_LINEAR)
    assert np.abs(picture - expected).max() <= 1


def test_the_headers_name_what_was_explained_and_who_answered(explaining: TestClient, explained: TinyBundle) -> None:
    data = encode(4)
    answer = explain(explaining, data)
    assert answer.headers["X-Explained-Class"] == LABELS[answered(explained, data)]
    assert answer.headers["X-Explanation-Method"] == "grad_cam"
    assert answer.headers["X-Model-Commit"] == "c0ffee"
    assert answer.headers["X-Prediction-Id"].startswith("bundle-")


@pytest.mark.parametrize("label", [None, *LABELS])
def test_the_numbers_are_those_of_the_class_and_the_detection_is_that_of_detect(
    explaining: TestClient, explained: TinyBundle, label: str | None
) -> None:
    data = encode(5)
    query = {"format": "json"} | ({"class": label} if label else {})
    answer = explain(explaining, data, **query).json()
    label = label or LABELS[answered(explained, data)]
    assert (answer["explained"], answer["method"]) == (label, "grad_cam")
    np.testing.assert_allclose(answer["heatmap"], heat_of(data, LABELS.index(label)), atol=0.000501)
    detection = explaining.post("/detect", files={"file": data}).json()
    assert answer["detection"] == detection | {"prediction_id": answer["detection"]["prediction_id"]}


def test_without_an_explain_onnx_the_heat_is_occlusion(client: TestClient, tiny: TinyBundle) -> None:
    data = encode(6)
    answer = explain(client, data, format="json", **{"class": "happy"}).json()
    assert answer["method"] == "occlusion"
    expected = occlusion(tiny.answers, prepare(data, SIZE, 1)[np.newaxis], np.array([1]))[0]
    assert expected.max() == 1
    np.testing.assert_allclose(answer["heatmap"], expected, atol=0.002)


def test_a_raw_body_is_taken(explaining: TestClient) -> None:
    answer = explaining.post("/explain", content=encode(), headers={"Content-Type": "image/png"})
    assert answer.headers["content-type"] == "image/png"


def test_what_cannot_be_explained_is_a_problem(explaining: TestClient) -> None:
    assert_problem(explain(explaining, encode(), **{"class": "bored"}), 422, "invalid-request", "'bored'", "angry, h")
    assert_problem(explain(explaining, encode(), format="gif"), 422, "invalid-request", "format")
    assert_problem(explain(explaining, encode(), size="9"), 422, "invalid-request", "size")
    assert_problem(explain(explaining, b"no image"), 415, "not-an-image")
    assert_problem(explain(explaining, encode()[:100]), 422, "broken-image")
    assert_problem(explain(explaining, encode(size=(64, 64)), faces="largest"), 422, "no-face", "faces=none")
    two = [("file", encode()), ("file", encode())]
    assert_problem(explaining.post("/explain", files=two), 413, "too-many-images", "one is explained")
    text = explaining.post("/explain", content=b"x", headers={"Content-Type": "text/plain"})
    assert_problem(text, 415, "unsupported-body")


def test_a_wrong_query_is_counted_and_of_many_mistakes_only_some_are_told(explaining: TestClient) -> None:
    query = {f"unknown{number}": "1" for number in range(1000)}
    answer = explain(explaining, encode(), **query)
    assert_problem(answer, 422, "invalid-request", "query.unknown2: Extra inputs", "and 997 more")
    assert len(answer.text) < 500
    assert value(explaining, "emotion_rejected_total", reason="invalid-request") == 1


def test_without_a_model_it_is_503(start: Callable[..., TestClient], tmp_path: Path) -> None:
    assert_problem(explain(start(bundle=tmp_path, ready=False), encode()), 503, "not-ready")


def test_heat_maps_that_take_long_keep_nobody_from_an_answer(
    explaining: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    context: Context = explaining.app.state.context
    entered, go_on = threading.Event(), threading.Event()
    compute = context.heat._explain

    def slow(*arguments: object) -> object:
        entered.set()
        go_on.wait(20)
        return compute(*arguments)

    monkeypatch.setattr(context.heat, "_explain", slow)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(explain, explaining, encode())
        try:
            assert entered.wait(20)
            assert explaining.post("/detect", files={"file": encode()}).status_code == 200
            assert_problem(explain(explaining, encode()), 503, "overloaded", "heat map")
        finally:
            go_on.set()
        assert first.result().status_code == 200
    assert explain(explaining, encode()).status_code == 200  # there is room again


@pytest.mark.parametrize("path", ["/detect?explain=true", "/explain"])
def test_there_is_one_deadline_for_the_answer_and_its_heat_map(
    start: Callable[..., TestClient], explained: TinyBundle, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    client = start(bundle=explained.directory, answer_seconds=0.3)
    context: Context = client.app.state.context
    for owner, name in ((context.slot.current().engine, "predict"), (context.heat, "_explain")):
        monkeypatch.setattr(owner, name, slowed(getattr(owner, name), 0.2))
    assert_problem(client.post(path, files={"file": encode()}), 503, "timed-out", "no answer within 0.3 s")


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no niceness of their own")
def test_the_thread_steps_back_for_the_workers(explaining: TestClient) -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    found = explaining.app.state.context.heat._thread.submit(niceness).result(20)
    assert found == min(19, niceness() + NICENESS)


def test_a_model_that_was_replaced_leaves_nothing_behind(explaining: TestClient, tmp_path: Path) -> None:
    context: Context = explaining.app.state.context
    explain(explaining, encode())
    old = context.slot.current()  # a request that is on its way
    other = write_bundle(tmp_path / "other", seed=9)
    context.slot.replace(load_directory(context.settings.model_copy(update={"bundle": other.directory})))
    answer = explain(explaining, encode(), format="json", **{"class": "sad"}).json()
    expected = occlusion(other.answers, prepare(encode(), SIZE, 1)[np.newaxis], np.array([LABELS.index("sad")]))[0]
    np.testing.assert_allclose(answer["heatmap"], expected, atol=0.002)
    assert len(context.heat._explainers) == 2
    del old
    gc.collect()
    wait_until(lambda: len(context.heat._explainers) == 1)


@pytest.mark.parametrize("becomes", ["broken", "another", "nothing"])
def test_an_explain_onnx_that_is_not_the_models_own_any_more_fails_alone(
    explaining: TestClient, explained: TinyBundle, becomes: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = explained.directory / "explain.onnx"
    if becomes == "broken":
        file.write_bytes(b"broken since the bundle was read")
    elif becomes == "another":  # of a later training: it can be run, and fits this model's input
        graph = onnx.load(file)
        graph.producer_name = "a later training"
        onnx.save(graph, file)
    else:
        file.unlink()
    assert_problem(explain(explaining, encode()), 500, "internal-error")
    assert ("No such file" if becomes == "nothing" else "has changed since the bundle was read") in caplog.text
    assert explaining.post("/detect", files={"file": encode()}).status_code == 200


def test_detect_brings_the_heat_of_each_face_if_asked(explaining: TestClient, explained: TinyBundle) -> None:
    data = encode(7)
    [face] = explaining.post("/detect?explain=true", files={"file": data}).json()["faces"]
    np.testing.assert_allclose(face["heatmap"], heat_of(data, answered(explained, data)), atol=0.000501)
    for query in ("", "?explain=false"):
        [face] = explaining.post(f"/detect{query}", files={"file": data}).json()["faces"]
        assert "heatmap" not in face
    none = explaining.post("/detect?explain=true&faces=all", files={"file": encode(size=(64, 64))}).json()
    assert (none["faces"], none["label"]) == ([], None)


def test_detect_explains_one_image_at_a_time(explaining: TestClient) -> None:
    answer = explaining.post("/detect?explain=true", files=[("file", encode()), ("file", encode())])
    assert_problem(answer, 422, "invalid-request", "one image at a time")
    assert_problem(explaining.post("/detect?explain=true", files={"file": encode()[:100]}), 422, "broken-image")
