"""POST /detect: what it takes, what it answers, and what it refuses."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event

import numpy as np
import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from numpy.typing import NDArray
from PIL import Image

from emotion_detection.preprocess import Pixels, prepare
from serving.context import Context
from serving.engine import Engine, Probabilities
from serving.judging import SMALL_FILE, Looking
from serving.model import ServedModel
from serving.schemas import DetectOptions
from tests.serving.tiny import LABELS, SIZE, TinyBundle, encode, write_bundle

FORMATS = {
    "grey png": encode(1),
    "colour png": encode(2, mode="RGB"),
    "jpeg": encode(3, "JPEG", mode="RGB"),
    "rotated jpeg": encode(
        4, "JPEG", mode="RGB", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    ),
    "cmyk jpeg": encode(5, "JPEG", mode="CMYK"),
    "webp": encode(6, "WEBP", mode="RGB"),
    "palette gif": encode(7, "GIF", mode="P"),
    "transparent png": encode(8, mode="RGBA"),
    "bmp": encode(9, "BMP", mode="RGB"),
    "tiff": encode(10, "TIFF", mode="RGB"),
    "one pixel": encode(11, size=(1, 1)),
    "larger than a megabyte": encode(12, "BMP", size=(700, 600), mode="RGB"),
}


def post_file(client: TestClient, data: bytes) -> Response:
    return client.post("/detect", files={"file": ("face.jpg", data, "image/jpeg")})


def post_raw(client: TestClient, data: bytes, content_type: str | None = "image/jpeg") -> Response:
    return client.post("/detect", content=data, headers={"Content-Type": content_type} if content_type else {})


def values(answer: Response) -> NDArray[np.float64]:
    assert answer.status_code == 200, answer.text
    return np.array([answer.json()["probabilities"][label] for label in LABELS])


def assert_problem(answer: Response, status: int, slug: str, *words: str) -> None:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["type"]) == (status, status, f"urn:problem:{slug}")
    for word in words:
        assert word in problem["detail"]


def with_png_size(width: int, height: int) -> bytes:
    """A small PNG file whose header announces another size."""
    data = bytearray(encode())
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


@pytest.mark.parametrize("data", FORMATS.values(), ids=FORMATS)
def test_answers_equal_a_direct_computation_for_form_and_body(
    client: TestClient, tiny: TinyBundle, data: bytes
) -> None:
    expected = tiny.expected(data)
    np.testing.assert_allclose(values(post_file(client, data)), expected, atol=1e-5)
    np.testing.assert_allclose(values(post_raw(client, data)), expected, atol=1e-5)


def test_the_answer_names_label_confidence_and_lineage_in_body_and_headers(
    client: TestClient, tiny: TinyBundle
) -> None:
    data = encode()
    answer = post_file(client, data)
    body = answer.json()
    best = int(tiny.expected(data).argmax())
    assert body["label"] == LABELS[best]
    assert body["confidence"] == body["probabilities"][LABELS[best]]
    model = body["model"]
    assert model["version"] == f"bundle-{model['bundle_sha256'][:12]}"
    assert (model["name"], model["run_id"], model["commit"], model["data_hash"]) == ("tiny", None, "c0ffee", "da7a")
    assert answer.headers["X-Prediction-Id"] == body["prediction_id"]
    assert answer.headers["X-Model-Version"] == model["version"]
    assert answer.headers["X-Model-Commit"] == "c0ffee"
    assert answer.headers["X-Model-Data-Hash"] == "da7a"
    assert "X-Model-Run-Id" not in answer.headers


def test_every_answer_has_an_id_of_its_own(client: TestClient) -> None:
    ids = {post_file(client, encode()).json()["prediction_id"] for _ in range(5)}
    assert len(ids) == 5


@pytest.mark.parametrize("content_type", ["application/octet-stream", "image/png; foo=bar", "IMAGE/PNG", None])
def test_raw_bodies_come_with_any_image_type_or_none(client: TestClient, content_type: str | None) -> None:
    assert post_raw(client, encode(), content_type).status_code == 200


@pytest.mark.parametrize(
    "data", [b"", b"hello, I am a text file named face.jpg", b"%PDF-1.7", b"<svg/>", b"\x00" * 100]
)
def test_what_is_no_image_is_415(client: TestClient, data: bytes) -> None:
    assert_problem(post_file(client, data), 415, "not-an-image", "expected one of JPEG, PNG")
    assert_problem(post_raw(client, data), 415, "not-an-image")


@pytest.mark.parametrize("name", ["grey png", "jpeg", "webp", "tiff"])
def test_truncated_images_are_422(client: TestClient, name: str) -> None:
    data = FORMATS[name]
    assert_problem(post_file(client, data[: len(data) * 2 // 3]), 422, "broken-image")


def test_a_file_over_the_limit_is_413_and_one_at_the_limit_is_taken(
    start: Callable[..., TestClient], tiny: TinyBundle
) -> None:
    data = encode(size=(200, 200))
    client = start(bundle=tiny.directory, max_bytes=len(data))
    for post in (post_file, post_raw):
        assert post(client, data).status_code == 200
        assert_problem(post(client, data + b"\x00"), 413, "image-too-large", f"more than {len(data)} bytes")


@pytest.mark.parametrize("size", [(60_000, 60_000), (7000, 7143)])
def test_decompression_bombs_are_413_by_their_header(client: TestClient, size: tuple[int, int]) -> None:
    assert_problem(post_file(client, with_png_size(*size)), 413, "image-too-large")


def test_the_pixel_limit_is_a_setting(start: Callable[..., TestClient], tiny: TinyBundle) -> None:
    client = start(bundle=tiny.directory, max_pixels=400)
    assert post_file(client, encode(size=(20, 20))).status_code == 200
    assert_problem(post_file(client, encode(size=(20, 21))), 413, "image-too-large", "20 x 21 pixels")


@pytest.mark.parametrize(
    ("form", "word"),
    [
        ({"files": {"image": b"x"}}, "'image'"),
        ({"data": {"file": "x"}, "files": {"other": b"x"}}, "without a file name"),
    ],
)
def test_a_form_without_its_file_is_422_and_told_what_to_send(client: TestClient, form: dict, word: str) -> None:
    assert_problem(client.post("/detect", **form), 422, "missing-file", word, "in the field `file`")


@pytest.mark.parametrize("content_type", ["text/plain", "application/json", "application/x-www-form-urlencoded"])
def test_other_content_types_are_415_and_told_what_to_send(client: TestClient, content_type: str) -> None:
    assert_problem(post_raw(client, encode(), content_type), 415, "unsupported-body", content_type, "image/*")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"no boundary"),
        ("multipart/form-data; boundary=x", b"not a form"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Type: image/png\r\n\r\nno name\r\n--x--\r\n"),
    ],
)
def test_forms_that_cannot_be_parsed_are_400(client: TestClient, content_type: str, body: bytes) -> None:
    assert_problem(post_raw(client, body, content_type), 400, "malformed-form")


def test_a_form_that_ends_early_is_no_server_error(client: TestClient) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nhalf of an im'
    assert post_raw(client, body, "multipart/form-data; boundary=x").status_code in (400, 422)


def test_the_server_answers_on_after_every_kind_of_bad_input(client: TestClient, tiny: TinyBundle) -> None:
    good = encode(20)
    for bad in (b"", b"\xff\xd8\xff", FORMATS["jpeg"][:200], with_png_size(60_000, 60_000)):
        assert 400 <= post_file(client, bad).status_code < 500
        np.testing.assert_allclose(values(post_file(client, good)), tiny.expected(good), atol=1e-5)


def test_concurrent_requests_get_their_own_answers(client: TestClient, tiny: TinyBundle) -> None:
    images = [encode(seed) for seed in range(60)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda data: post_file(client, data), images))
    for data, answer in zip(images, answers, strict=True):
        np.testing.assert_allclose(values(answer), tiny.expected(data), atol=1e-5)
    assert len({answer.json()["prediction_id"] for answer in answers}) == 60


class GatedEngine(Engine):
    """An engine that waits, so that a test can look at what happens meanwhile."""

    def hold(self) -> tuple[Event, Event]:
        self.entered, self.released = Event(), Event()
        return self.entered, self.released

    def predict(self, images: Pixels, alone: bool = False) -> Probabilities:
        if hasattr(self, "entered"):  # not while it warms up
            self.entered.set()
            assert self.released.wait(20)
        return super().predict(images, alone)


def gate(client: TestClient) -> tuple[ServedModel, Event, Event]:
    """Replace the model by one that waits inside `predict`."""
    context: Context = client.app.state.context
    model = context.slot.current()
    engine = GatedEngine(model.bundle)
    entered, released = engine.hold()
    context.slot.replace(replace(model, engine=engine))
    return model, entered, released


def test_the_event_loop_answers_while_a_prediction_is_computed(client: TestClient) -> None:
    _, entered, released = gate(client)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(post_file, client, encode())
        assert entered.wait(20)
        assert client.get("/healthz").status_code == 200
        assert not answer.done()
        released.set()
        assert answer.result().status_code == 200


def test_a_request_in_flight_ends_with_the_model_it_began_with(client: TestClient, tiny: TinyBundle) -> None:
    old, entered, released = gate(client)
    other = write_bundle(tiny.directory.parent / "other", seed=99)
    data = encode(5)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(post_file, client, data)
        assert entered.wait(20)
        engine = Engine(replace(old.bundle, directory=other.directory))
        client.app.state.context.slot.replace(replace(old, version="2", engine=engine))
        released.set()
        before = answer.result()
    after = post_file(client, data)
    assert before.json()["model"]["version"] == old.version
    np.testing.assert_allclose(values(before), tiny.expected(data), atol=1e-5)
    assert after.json()["model"]["version"] == "2"
    np.testing.assert_allclose(values(after), other.expected(data), atol=1e-5)


def test_images_leave_no_trace_on_disk(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a temporary file was opened")

    monkeypatch.setattr("tempfile._TemporaryFileWrapper", refuse)
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)  # what a spooled file turns into
    assert post_file(client, FORMATS["larger than a megabyte"]).status_code == 200


def test_preprocessing_is_that_of_training(client: TestClient) -> None:
    upright, rotated = io.BytesIO(), FORMATS["rotated jpeg"]
    Image.fromarray(prepare(rotated, SIZE, 1)[:, :, 0]).save(upright, "PNG")
    np.testing.assert_array_equal(values(post_file(client, upright.getvalue())), values(post_file(client, rotated)))


NOISE = encode(20, size=(95, 95))
LARGE = encode(21, "JPEG", size=(120, 100), mode="L")


@pytest.mark.parametrize(
    ("data", "faces", "at_once"),
    [
        (encode(22, "JPEG", mode="RGB", size=(2 * SIZE, SIZE)), "auto", True),
        (encode(22, "JPEG", mode="RGB"), "none", True),
        (encode(22, "JPEG", mode="RGB"), "all", False),
        (encode(22, "JPEG", mode="RGB", size=(2 * SIZE + 1, SIZE)), "auto", False),
        (NOISE, "auto", False),
        (LARGE, "auto", False),
        (b"no image", "auto", False),
    ],
    ids=["face", "face as it is", "search", "search if need be", "large file", "large image", "no image"],
)
def test_only_small_work_is_done_on_the_event_loop(client: TestClient, data: bytes, faces: str, at_once: bool) -> None:
    assert len(NOISE) > SMALL_FILE > len(LARGE)
    context: Context = client.app.state.context  # type: ignore[attr-defined]
    look = Looking(context, context.slot.current(), DetectOptions(faces=faces), data)  # type: ignore[arg-type]
    look.look_at_once()
    assert (look.cut is not None) == at_once
    answer = client.post(f"/detect?faces={faces}", content=data, headers={"Content-Type": "image/jpeg"})
    assert answer.status_code == (200 if data != b"no image" else 415)
    stages = {
        stage: context.metrics.registry.get_sample_value("emotion_stage_duration_seconds_count", {"stage": stage})
        for stage in ("decode", "at_once")
    }
    assert stages == {"decode": data != b"no image" and not at_once, "at_once": 2 * at_once}


def test_of_many_mistakes_in_a_query_a_few_are_told(client: TestClient) -> None:
    answer = client.post("/detect?" + "&".join(f"unknown{number}=" for number in range(1000)), content=encode())
    assert_problem(answer, 422, "invalid-request", "unknown0: ")
    assert len(answer.content) < 500
