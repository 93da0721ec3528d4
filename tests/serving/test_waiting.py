"""What ends the waiting for an answer, and models that change while requests wait."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from emotion_detection.preprocess import Pixels
from serving.engine import Probabilities
from serving.judging import Looking
from serving.settings import Settings
from serving.sources import load_directory
from serving.tensors import InferBody
from tests.serving.test_detect import GatedEngine, assert_problem, gate, post_file, post_raw, values
from tests.serving.tiny import TinyBundle, encode, wait_until, write_bundle


class CountingEngine(GatedEngine):
    """Waits, and counts the images it sees."""

    seen = 0

    def predict(self, images: Pixels, alone: bool = False) -> Probabilities:
        self.seen += len(images)
        return super().predict(images, alone)


def gated(client: TestClient) -> tuple[CountingEngine, Event, Event]:
    context = client.app.state.context
    model = context.slot.current()
    engine = CountingEngine(model.bundle)
    engine.seen = 0
    entered, released = engine.hold()
    context.slot.replace(replace(model, engine=engine))
    return engine, entered, released


async def raw_request(app: Any, body: bytes, leave: asyncio.Event, path: str = "/detect") -> int:
    """One request by hand, whose client leaves at an event; the status of its answer."""
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": [], "state": {}}
    messages, statuses = iter([{"type": "http.request", "body": body}]), []

    async def receive() -> dict[str, Any]:
        for message in messages:
            return message
        await leave.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        statuses.append(message.get("status"))

    await app(scope, receive, send)
    return int(statuses[0])


def test_a_client_that_has_gone_costs_no_inference(start: Callable[..., TestClient], tiny: TinyBundle) -> None:
    client = start(bundle=tiny.directory, workers=1)
    engine, entered, released = gated(client)

    async def leave_while_waiting() -> int:
        leave = asyncio.Event()
        leave.set()
        return await asyncio.wait_for(raw_request(client.app, encode(1), leave), 20)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post_file, client, encode())
        assert entered.wait(20)
        assert client.portal.call(leave_while_waiting) == 499
        released.set()
        assert first.result().status_code == 200
    np.testing.assert_allclose(values(post_file(client, encode(2))), tiny.expected(encode(2)), atol=1e-5)
    assert engine.seen == 2  # the first and the last
    metrics = client.get("/metrics").text
    assert 'emotion_rejected_total{reason="client-gone"} 1.0' in metrics
    assert "emotion_queue_length 0.0" in metrics


@pytest.mark.parametrize("path", ["/detect", "/explain", "/v2/models/tiny/infer"])
@pytest.mark.parametrize(("leaves", "status"), [(True, 499), (False, 503)])
def test_nothing_is_kept_of_what_nobody_waits_for(
    start: Callable[..., TestClient], tiny: TinyBundle, path: str, leaves: bool, status: int
) -> None:
    client = start(bundle=tiny.directory, workers=1, answer_seconds=20 if leaves else 0.1)
    _, entered, released = gated(client)

    async def wait_in_vain() -> int:
        leave = asyncio.Event()
        if leaves:
            leave.set()
        return await asyncio.wait_for(raw_request(client.app, encode(1, size=(200, 200)), leave, path), 20)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post_file, client, encode())
        assert entered.wait(20)
        gc.disable()  # it would come at some time, and memory is counted now
        try:
            assert client.portal.call(wait_in_vain) == status
            assert kept() == []
        finally:
            gc.enable()
            released.set()
        first.result()


def kept() -> list[bytes]:
    """Images and bodies that wait for a worker."""
    objects = gc.get_objects()
    images = [thing._image for thing in objects if isinstance(thing, Looking)]
    return [*filter(None, [*images, *(thing.body for thing in objects if isinstance(thing, InferBody))])]


def test_a_request_without_an_answer_in_time_is_503_and_is_not_computed_later(
    start: Callable[..., TestClient], tiny: TinyBundle
) -> None:
    client = start(bundle=tiny.directory, workers=1, answer_seconds=0.1)
    engine, _, released = gated(client)
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(post_file, client, encode(seed)) for seed in range(3)]
        for answer in answers:
            assert_problem(answer.result(), 503, "timed-out", "no answer within 0.1 s")
            assert answer.result().headers["Retry-After"] == "1"
    released.set()
    assert post_file(client, encode()).status_code == 200
    assert engine.seen <= 3  # whatever the first batch was, then the last; the rest waited in vain


def test_a_full_queue_is_503_before_the_body_is_looked_at(start: Callable[..., TestClient], tiny: TinyBundle) -> None:
    client = start(bundle=tiny.directory, workers=1, queue_size=2, max_images=2)
    _, entered, released = gated(client)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(post_file, client, encode())
        assert entered.wait(20)
        waiting = [pool.submit(post_file, client, encode()) for _ in range(2)]
        wait_until(lambda: "emotion_queue_length 2.0" in client.get("/metrics").text)
        refused = post_raw(client, b"no image at all")
        assert_problem(refused, 503, "overloaded", "2 images wait already")
        assert refused.headers["Retry-After"] == "1"
        released.set()
        assert {answer.result().status_code for answer in (first, *waiting)} == {200}
    assert post_file(client, encode()).status_code == 200
    assert 'emotion_rejected_total{reason="overloaded"} 1.0' in client.get("/metrics").text


def test_no_more_bodies_are_held_than_allowed_and_all_are_given_back(
    start: Callable[..., TestClient], tiny: TinyBundle
) -> None:
    client = start(bundle=tiny.directory, workers=1, max_buffer_bytes=3000)
    _, entered, released = gated(client)
    image = encode() + bytes(1500 - len(encode()))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post_raw, client, image)
        assert entered.wait(20)
        assert_problem(post_raw(client, image + b"x"), 503, "overloaded", "too many bytes")
        released.set()
        assert first.result().status_code == 200
    for body in (image, b"x" * 1500, image, image):
        assert post_raw(client, body).status_code in (200, 415)


def test_answers_belong_to_the_model_they_name_while_models_are_swapped(
    client: TestClient, tiny: TinyBundle, tmp_path: Path
) -> None:
    """Two models that answer differently tell; batches of one model, whatever the slot holds meanwhile."""
    other = write_bundle(tmp_path / "other", seed=99)
    models = [load_directory(Settings(bundle=bundle.directory)) for bundle in (tiny, other)]
    weights = {model.version: bundle for model, bundle in zip(models, (tiny, other), strict=True)}
    done = Event()

    def swap() -> None:
        for model in cycle(models):
            client.app.state.context.slot.replace(model)
            if done.wait(0.001):
                break

    swapper = Thread(target=swap)
    swapper.start()
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda seed: (seed, post_file(client, encode(seed))), range(400)))
    done.set()
    swapper.join()
    versions = set()
    for seed, answer in answers:
        version = answer.json()["model"]["version"]
        versions.add(version)
        assert answer.headers["X-Model-Version"] == version
        np.testing.assert_allclose(values(answer), weights[version].expected(encode(seed)), atol=1e-5)
    assert versions == set(weights)


def test_a_request_with_several_images_has_one_model(client: TestClient, tiny: TinyBundle, tmp_path: Path) -> None:
    old, entered, released = gate(client)
    with ThreadPoolExecutor(1) as pool:
        files = [("file", encode(seed)) for seed in range(8)]
        answer = pool.submit(client.post, "/detect", files=files)
        assert entered.wait(20)
        other = load_directory(Settings(bundle=write_bundle(tmp_path / "other", seed=99).directory))
        client.app.state.context.slot.replace(other)
        released.set()
    items = answer.result().json()
    assert {item["model"]["version"] for item in items} == {old.version}
    for seed, item in enumerate(items):
        found = list(item["probabilities"].values())
        np.testing.assert_allclose(found, tiny.expected(encode(seed)), atol=1e-5)
