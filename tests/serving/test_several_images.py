"""POST /detect with several images, and the form of all its answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from pydantic import TypeAdapter

from emotion_detection.crops import Cutter
from emotion_detection.errors import EmotionError
from emotion_detection.preprocess import decode
from serving.answers import Answers
from serving.problems import KINDS
from serving.schemas import Detection, Problem
from tests.serving.test_detect import assert_problem, with_png_size
from tests.serving.tiny import LABELS, TinyBundle, encode

WHOLE = Cutter(lambda _: []).cut(np.zeros((8, 8, 1), np.uint8), 8, "none")
SCHEMA: TypeAdapter[Any] = TypeAdapter(Detection | list[Detection | Problem])


def post(client: TestClient, *images: bytes) -> Response:
    return client.post("/detect", files=[("file", (f"{number}.png", data)) for number, data in enumerate(images)])


def assert_detection(item: dict[str, Any], tiny: TinyBundle, data: bytes) -> None:
    found = [item["probabilities"][label] for label in LABELS]
    np.testing.assert_allclose(found, tiny.expected(data), atol=1e-5)


def test_several_images_are_answered_in_order(client: TestClient, tiny: TinyBundle) -> None:
    images = [encode(seed) for seed in range(7)]
    answer = post(client, *images)
    assert answer.status_code == 200
    for item, data in zip(answer.json(), images, strict=True):
        assert_detection(item, tiny, data)
    assert len({item["prediction_id"] for item in answer.json()}) == 7
    assert {item["model"]["version"] for item in answer.json()} == {answer.headers["X-Model-Version"]}
    assert "X-Prediction-Id" not in answer.headers


def test_each_bad_image_gets_its_own_problem_and_the_others_their_answers(
    start: Callable[..., TestClient], tiny: TinyBundle
) -> None:
    client = start(bundle=tiny.directory, max_bytes=5000)
    good, too_many_bytes = encode(1), b"\x89PNG" + bytes(5000)
    bad = {"not-an-image": b"text", "broken-image": good[:99], "image-too-large": with_png_size(60_000, 60_000)}
    answer = post(client, good, *bad.values(), too_many_bytes, good).json()
    assert [item.get("type") for item in answer[1:-1]] == [f"urn:problem:{slug}" for slug in (*bad, "image-too-large")]
    assert "more than 5000 bytes" in answer[-2]["detail"]
    for item in (answer[0], answer[-1]):
        assert_detection(item, tiny, good)
    metrics = client.get("/metrics").text
    assert 'emotion_rejected_total{reason="image-too-large"} 2.0' in metrics
    assert 'emotion_rejected_total{reason="broken-image"} 1.0' in metrics


def test_an_image_on_which_the_server_fails_is_a_problem_of_its_own(
    client: TestClient, tiny: TinyBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = encode(99)

    def fail_on_one(data: bytes, channels: int, max_pixels: int) -> object:
        if data == poison:
            raise RuntimeError("a secret")
        return decode(data, channels, max_pixels)

    monkeypatch.setattr("emotion_detection.crops.decode", fail_on_one)
    answer = post(client, encode(1), poison)
    assert_detection(answer.json()[0], tiny, encode(1))
    assert (answer.json()[1]["status"], answer.json()[1]["type"]) == (500, "urn:problem:internal-error")
    assert "secret" not in answer.text


def test_more_images_than_allowed_are_413(start: Callable[..., TestClient], tiny: TinyBundle) -> None:
    client = start(bundle=tiny.directory, max_images=3)
    assert post(client, *[encode()] * 3).status_code == 200
    assert_problem(post(client, *[encode()] * 4), 413, "too-many-images", "has 4 images; at most 3")
    assert_problem(post(client, *[encode()] * 99), 400, "malformed-form", "more than 19 parts")


def test_a_form_may_be_larger_than_one_image_but_not_without_bound(
    start: Callable[..., TestClient], tiny: TinyBundle
) -> None:
    client = start(bundle=tiny.directory, max_bytes=2000, max_request_bytes=20_000)
    image = encode()
    fitting = 19_000 // (len(image) + 200)
    assert post(client, *[image] * fitting).status_code == 200
    assert_problem(post(client, *[image + bytes(1000)] * 19), 413, "image-too-large", "more than 20000 bytes")


def test_a_text_field_of_that_name_among_files_is_422(client: TestClient) -> None:
    form = {"data": {"file": "text"}, "files": {"file": encode()}}
    assert_problem(client.post("/detect", **form), 422, "missing-file", "without a file name")


def test_other_fields_are_left_alone(client: TestClient, tiny: TinyBundle) -> None:
    answer = client.post("/detect", data={"comment": "hello"}, files={"file": encode(3)})
    assert_detection(answer.json(), tiny, encode(3))


def test_all_answers_are_what_the_schema_says_to_the_byte(client: TestClient) -> None:
    for images in ([encode(1)], [encode(1), b"no image", encode(2, mode="RGB")]):
        text = post(client, *images).text
        parsed = SCHEMA.validate_json(text)
        assert SCHEMA.validate_json(SCHEMA.dump_json(parsed)) == parsed
        assert client.post("/detect", content=images[0]).json().keys() == Detection.model_fields.keys()
        assert isinstance(parsed, Detection if len(images) == 1 else list)


def test_labels_with_odd_characters_come_out_as_they_are(client: TestClient, tiny: TinyBundle) -> None:
    context = client.app.state.context
    model, odd = context.slot.current(), ("100 %", 'a"b\\', "höflich")
    object.__setattr__(model.bundle.info, "labels", odd)
    _, text = Answers(model, context.metrics).detection(WHOLE, tiny.expected(encode())[np.newaxis].astype(np.float32))
    assert tuple(Detection.model_validate_json(text).probabilities) == odd


def test_numbers_survive_as_float32(client: TestClient) -> None:
    context = client.app.state.context
    row = np.array([1e-9, 0.3333333432674408, 1.0000001192092896], np.float32)
    _, text = Answers(context.slot.current(), context.metrics).detection(WHOLE, row[np.newaxis])
    detection = Detection.model_validate_json(text)
    np.testing.assert_array_equal(np.array([*detection.probabilities.values()], np.float32), row)
    assert detection.confidence == 1


def test_what_is_no_number_is_no_answer(client: TestClient) -> None:
    context = client.app.state.context
    with pytest.raises(ArithmeticError):
        Answers(context.slot.current(), context.metrics).detection(WHOLE, np.array([[0.5, np.nan, 0.5]], np.float32))


@pytest.mark.parametrize(
    ("query", "word"), [("fases=auto", "fases"), ("a=1&a=2", "twice"), ("x", "x"), ("%ff=1", "known")]
)
def test_an_unknown_parameter_is_422_and_named(client: TestClient, query: str, word: str) -> None:
    assert_problem(client.post(f"/detect?{query}", content=encode()), 422, "invalid-request", word)


def test_the_path_is_found_behind_a_prefix(client: TestClient, tiny: TinyBundle) -> None:
    prefixed = TestClient(client.app, root_path="/emotions")
    for path in ("/detect", "/emotions/detect"):
        assert_detection(prefixed.post(path, content=encode(4)).json(), tiny, encode(4))


def test_every_error_of_a_request_has_a_kind_of_its_own() -> None:
    def leaves(error: type[Exception]) -> list[type[Exception]]:
        return [leaf for child in error.__subclasses__() for leaf in leaves(child)] or [error]

    from serving.errors import RequestError

    assert set(leaves(RequestError)) <= set(KINDS)
    assert len({kind.slug for kind in KINDS.values()}) == len(KINDS)
    assert all(issubclass(error, EmotionError) for error in KINDS)
