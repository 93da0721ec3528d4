"""/v2, the Open Inference Protocol: as Triton's client speaks it, and as nobody should."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from emotion_detection.preprocess import Pixels, prepare
from serving.app import create_app
from serving.settings import Settings
from serving.tensors import MAX_JSON
from tests.serving.processes import Server, running
from tests.serving.test_metrics import value
from tests.serving.tiny import LABELS, SIZE, TinyBundle, encode, write_bundle

FILES = [encode(1), encode(2, "JPEG", mode="RGB"), encode(3, "WEBP", size=(40, 30), mode="RGB")]
URL = "/v2/models/tiny/infer"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("inference")
    bundle = write_bundle(directory / "bundle")
    with running(directory, "--bundle", str(bundle.directory), EMOTION_MAX_IMAGES="4") as server:
        assert server.is_ready()
        yield server


@pytest.fixture
def triton(server: Server) -> Iterator[InferenceServerClient]:
    client = InferenceServerClient(f"127.0.0.1:{server.port}")
    yield client
    client.close()


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    bundle = write_bundle(tmp_path_factory.mktemp("lasting") / "bundle")
    app = create_app(Settings(bundle=bundle.directory, face_model=None))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def crops(files: list[bytes]) -> Pixels:
    """What a client does to its images."""
    return np.stack([prepare(file, SIZE, 1) for file in files])


def image_input(files: list[bytes], binary: bool) -> InferInput:
    images = crops(files)
    tensor = InferInput("image", list(images.shape), "UINT8")
    tensor.set_data_from_numpy(images, binary_data=binary)
    return tensor


def detected(server: Server, files: list[bytes]) -> np.ndarray:
    answers = [httpx.post(f"{server.url}/detect?faces=none", files={"file": file}).json() for file in files]
    return np.array([[answer["probabilities"][label] for label in LABELS] for answer in answers], np.float32)


def test_health_and_metadata_as_triton_asks_for_them(server: Server, triton: InferenceServerClient) -> None:
    version = server.get("/model").json()["version"]
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready("tiny")
    assert triton.is_model_ready("tiny", version)
    assert not triton.is_model_ready("tiny", "99")
    assert "binary_tensor_data" in triton.get_server_metadata()["extensions"]
    metadata = triton.get_model_metadata("tiny")
    assert metadata == triton.get_model_metadata("tiny", version)
    assert metadata == {
        "name": "tiny",
        "versions": [version],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "image", "datatype": "UINT8", "shape": [-1, SIZE, SIZE, 1]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, len(LABELS)]}],
    }


@pytest.mark.parametrize("binary_input", [True, False])
@pytest.mark.parametrize("binary_output", [None, True, False])
def test_tensors_give_what_detect_answers(
    server: Server, triton: InferenceServerClient, binary_input: bool, binary_output: bool | None
) -> None:
    """binary_output None: the client asks for no output by name, and for all of them as bytes."""
    outputs = None if binary_output is None else [InferRequestedOutput("probabilities", binary_data=binary_output)]
    result = triton.infer("tiny", [image_input(FILES, binary_input)], outputs=outputs, request_id="r-1")
    found = result.as_numpy("probabilities")
    assert (found.dtype, found.shape) == (np.float32, (3, len(LABELS)))
    np.testing.assert_allclose(found, detected(server, FILES), rtol=1e-6)
    response = result.get_response()
    assert (response["id"], response["model_name"]) == ("r-1", "tiny")
    assert ("data" in result.get_output("probabilities")) == (binary_output is False)


def test_image_files_are_taken_as_they_are(server: Server, triton: InferenceServerClient) -> None:
    tensor = InferInput("image_bytes", [3], "BYTES")
    tensor.set_data_from_numpy(np.array(FILES, object))
    found = triton.infer("tiny", [tensor]).as_numpy("probabilities")
    np.testing.assert_allclose(found, detected(server, FILES), rtol=1e-6)


@pytest.mark.parametrize(
    ("model", "tensor", "words"),
    [
        ("other", image_input(FILES, True), "only tiny"),
        ("tiny", image_input(FILES * 2, True), "6 images; at most 4"),
        ("tiny", InferInput("x", [1], "UINT8").set_data_from_numpy(np.zeros(1, np.uint8)), "x UINT8 [1]"),
        ("tiny", InferInput("image_bytes", [1], "BYTES").set_data_from_numpy(np.array([b"x"], object)), "no image"),
    ],
)
def test_errors_reach_the_client_as_messages(
    triton: InferenceServerClient, model: str, tensor: InferInput, words: str
) -> None:
    with pytest.raises(InferenceServerException, match=words.replace("[", r"\[")):
        triton.infer(model, [tensor])


def test_compressed_bodies_are_refused(triton: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="Content-Encoding 'gzip'"):
        triton.infer("tiny", [image_input(FILES, True)], request_compression_algorithm="gzip")


def request(**changes: Any) -> dict[str, Any]:
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, SIZE, SIZE, 1], "data": [7] * SIZE * SIZE}
    return {"inputs": [tensor | changes]}


def infer(client: TestClient, body: bytes | dict[str, Any], head: object = None) -> Response:
    headers = {} if head is None else {"Inference-Header-Content-Length": str(head)}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post(URL, content=content, headers=headers)


def with_binary(raw: bytes, **changes: Any) -> tuple[bytes, int]:
    """Body, and length of its JSON."""
    asked = request(**changes)
    del asked["inputs"][0]["data"]
    asked["inputs"][0].setdefault("parameters", {"binary_data_size": len(raw)})
    text = json.dumps(asked).encode()
    return text + raw, len(text)


def assert_error(answer: Response, status: int, *words: str) -> None:
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    for word in words:
        assert word in answer.json()["error"]


def test_json_may_be_nested_or_flat(client: TestClient, tiny: TinyBundle) -> None:
    images = crops(FILES[:2])
    for data in (images.tolist(), images.ravel().tolist(), images.reshape(2, -1).tolist()):
        answer = infer(client, request(shape=list(images.shape), data=data)).json()
        found = np.reshape(answer["outputs"][0]["data"], (2, len(LABELS)))
        np.testing.assert_allclose(found, tiny.answers(images), atol=1e-5)
    assert "id" not in answer


def test_image_files_come_in_json_as_base64(client: TestClient, tiny: TinyBundle) -> None:
    data = [base64.b64encode(file).decode() for file in FILES]
    answer = infer(client, request(name="image_bytes", datatype="BYTES", shape=[3], data=data)).json()
    expected = [tiny.expected(file) for file in FILES]
    np.testing.assert_allclose(np.reshape(answer["outputs"][0]["data"], (3, -1)), expected, atol=1e-5)


def test_the_answer_is_counted_and_names_its_model(client: TestClient, tiny: TinyBundle) -> None:
    answer = infer(client, request(shape=[2, SIZE, SIZE, 1], data=crops(FILES[:2]).tolist()))
    assert answer.headers["X-Model-Commit"] == "c0ffee"
    assert answer.headers["X-Prediction-Id"].startswith("bundle-")
    version = answer.headers["X-Model-Version"]
    expected = [LABELS[int(tiny.expected(file).argmax())] for file in FILES[:2]]
    for label in LABELS:
        assert value(client, "emotion_predictions_total", emotion=label, model_version=version) == expected.count(label)
    route = "/v2/models/{name}/infer"
    assert value(client, "emotion_http_request_duration_seconds_count", route=route, status="200") == 1
    infer(client, b"")
    assert value(client, "emotion_http_request_duration_seconds_count", route=route, status="400") == 1
    assert value(client, "emotion_rejected_total", reason="invalid-tensor") == 1


PIXELS = bytes(SIZE * SIZE)


@pytest.mark.parametrize(
    ("body", "head", "words"),
    [
        (b"", None, "body"),
        (b"{", None, "body"),
        (b"[" * 100_000, None, "body"),
        (b"{}", None, "inputs"),
        (b"\xff", None, "body"),
        ({"inputs": []}, None, "inputs"),
        ({"inputs": request()["inputs"] * 2}, None, "inputs"),
        (request(shape=[1, SIZE, SIZE]), None, "[1, 8, 8]; expected image UINT8 [N, 8, 8, 1]"),
        (request(shape=[0, SIZE, SIZE, 1], data=[]), None, "N at least 1"),
        (request(shape=[-1, -SIZE, -SIZE, 1]), None, "expected"),
        (request(shape=[1, SIZE, 10**30, 1]), None, "expected image"),
        (request(shape=[2, SIZE, SIZE, 1]), None, "64 values"),
        (request(datatype="FP32"), None, "image FP32"),
        (request(data=[256] * 64), None, "0 to 255"),
        (request(data=[-1] * 64), None, "0 to 255"),
        (request(data=[0.5] * 64), None, "0 to 255"),
        (request(data=["1"] * 64), None, "0 to 255"),
        (request(data=[[1], 2]), None, "0 to 255"),
        (request(data=None), None, "either data or the parameter"),
        (request(parameters={"shared_memory_region": "x"}), None, "shared_memory_region"),
        (request(parameters={"binary_data_size": 64}), None, "either data or"),
        (request() | {"outputs": [{"name": "logits"}]}, None, "'logits'"),
        (
            request() | {"outputs": [{"name": "probabilities", "parameters": {"classification": 2}}]},
            None,
            "classification",
        ),
        (request() | {"id": "x" * 2000}, None, "id"),
        (request(name="image_bytes", datatype="BYTES", shape=[2], data=["AAAA"]), None, "1 files; its shape is [2]"),
        (request(name="image_bytes", datatype="BYTES", shape=[1], data=["!"]), None, "base64"),
        (request(name="image_bytes", datatype="BYTES", shape=[1], data=[1]), None, "base64"),
        (b"{}", "2x", "Inference-Header-Content-Length: found '2x'"),
        (b"{}", 3, "the body has 2 bytes"),
        (b"{}", "-1", "'-1'"),
        (b"{}", "9" * 5000, "Inference-Header"),
        (*with_binary(PIXELS[1:]), "63 values"),
        (*with_binary(PIXELS, parameters={"binary_data_size": 63}), "binary_data_size is 63, found 64 bytes"),
        (*with_binary(PIXELS, parameters={"binary_data_size": -64}), "binary_data_size"),
        (*with_binary(PIXELS, parameters={"binary_data_size": 10**30}), "binary_data_size"),
        (with_binary(PIXELS)[0], None, "body"),
        (*with_binary(b"\1\0\0\0", name="image_bytes", datatype="BYTES", shape=[1]), "4 bytes are not 1 files"),
        (*with_binary(b"\1\0", name="image_bytes", datatype="BYTES", shape=[1]), "2 bytes are not 1 files"),
        (*with_binary(b"\0\0\0\0" * 2, name="image_bytes", datatype="BYTES", shape=[1]), "8 bytes are not 1 files"),
        (*with_binary(b"\xff\xff\xff\xff", name="image_bytes", datatype="BYTES", shape=[1]), "not 1 files"),
        (*with_binary(b"", name="image_bytes", datatype="BYTES", shape=[1]), "0 files"),
    ],
)
def test_malformed_requests_are_400(lasting: TestClient, body: Any, head: object, words: str) -> None:
    assert_error(infer(lasting, body, head), 400, words)


def test_what_is_wrong_with_a_file_or_a_path_is_said_in_the_form_of_the_protocol(client: TestClient) -> None:
    empty = struct.pack("<I", 0)
    assert_error(infer(client, *with_binary(empty, name="image_bytes", datatype="BYTES", shape=[1])), 415, "empty")
    broken = base64.b64encode(encode()[:100]).decode()
    assert_error(
        infer(client, request(name="image_bytes", datatype="BYTES", shape=[1], data=[broken])), 422, "PNG data"
    )
    assert_error(client.get("/v2/models/other"), 404, "only tiny")
    assert_error(client.get("/v2/models/tiny/versions/7/ready"), 404, "only tiny")
    assert_error(client.get("/v2/nothing"), 404)
    assert_error(client.get(URL), 405)


def test_without_a_model_it_is_alive_but_not_ready(start: Callable[..., TestClient], tmp_path: Path) -> None:
    client = start(bundle=tmp_path, ready=False)
    assert client.get("/v2/health/live").json() == {"live": True}
    for path in ("/v2/health/ready", "/v2/models/tiny", "/v2/models/tiny/ready"):
        assert_error(client.get(path), 503, "not ready")
    assert_error(infer(client, request()), 503, "not ready")


def test_limits_hold_before_anything_is_read(start: Callable[..., TestClient], tiny: TinyBundle) -> None:
    client = start(bundle=tiny.directory, max_request_bytes=2 * MAX_JSON, max_bytes=100)
    assert_error(infer(client, b" " * (2 * MAX_JSON + 1)), 413, f"more than {2 * MAX_JSON} bytes")
    assert_error(infer(client, b" " * (MAX_JSON + 1)), 400, "send the tensor as binary data")
    file = struct.pack("<I", len(encode())) + encode()
    assert_error(infer(client, *with_binary(file, name="image_bytes", datatype="BYTES", shape=[1])), 413, "100 bytes")


def test_it_waits_in_the_same_queue_as_detect(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.app.state.context.queue, "_size", 0)
    assert_error(infer(client, request()), 503, "wait already")


def test_a_failure_inside_tells_nothing(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.app.state.context.slot.current().engine, "predict", None)
    answer = infer(client, request())
    assert_error(answer, 500)
    assert "NoneType" not in answer.text


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PLACES = [
    ["id"], ["inputs"], ["outputs"], ["parameters"], ["inputs", 0], ["inputs", 0, "name"], ["inputs", 0, "datatype"],
    ["inputs", 0, "shape"], ["inputs", 0, "shape", 0], ["inputs", 0, "shape", 3], ["inputs", 0, "parameters"],
    ["inputs", 0, "parameters", "binary_data_size"], ["inputs", 0, "data"], ["inputs", 0, "data", 3],
    ["outputs", 0, "name"], ["outputs", 0, "parameters", "binary_data"],
]  # fmt: skip


@given(place=st.sampled_from(PLACES), found=JSON_VALUES, head=st.none() | st.integers(-1, 400), rest=st.binary())
@settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
def test_whatever_stands_in_a_request_the_answer_is_a_result_or_4xx(
    lasting: TestClient, place: list[Any], found: Any, head: int | None, rest: bytes
) -> None:
    asked: Any = deepcopy(request(parameters={"binary_data_size": None}))
    asked |= {"id": "1", "parameters": {}, "outputs": [{"name": "probabilities", "parameters": {}}]}
    node = asked
    for step in place[:-1]:
        node = node[step]
    node[place[-1]] = found
    answer = infer(lasting, json.dumps(asked).encode() + rest, head)
    if answer.status_code == 200:
        assert answer.headers["X-Prediction-Id"]
    else:
        assert 400 <= answer.status_code < 500, answer.text
        assert list(answer.json()) == ["error"]
