"""WebSocket /stream: in this process where the model must be held up, else against `python -m serving`."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketDenialResponse
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from emotion_detection.api_keys import create_key
from serving.context import Context
from tests.serving.processes import Server, running
from tests.serving.test_detect import assert_problem, post_file
from tests.serving.test_metrics import value
from tests.serving.tiny import LABELS, TinyBundle, encode, wait_until, write_bundle

MOST = 20_000
JPEG = encode(2, "JPEG", mode="RGB")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> TinyBundle:
    return write_bundle(tmp_path_factory.mktemp("stream") / "bundle")


@pytest.fixture(scope="module")
def server(bundle: TinyBundle) -> Iterator[Server]:
    limits = {"EMOTION_MAX_FRAME_BYTES": str(MOST), "EMOTION_STREAM_IDLE_SECONDS": "3", "EMOTION_HEAD_SECONDS": "1"}
    with running(bundle.directory.parent, "--bundle", str(bundle.directory), **limits) as server:
        assert server.is_ready()
        yield server


def stream(server: Server) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{server.port}/stream", compression=None)


def ask(connection: ClientConnection, frame: bytes) -> dict[str, Any]:
    connection.send(frame)
    return json.loads(connection.recv(20))


def ending(connection: ClientConnection) -> tuple[int, str]:
    """Code and reason that the server closes with."""
    with suppress(ConnectionClosed):
        while True:
            connection.recv(20)
    assert connection.close_code is not None
    return connection.close_code, connection.close_reason or ""


def test_each_frame_is_answered_as_detect_answers(server: Server, bundle: TinyBundle) -> None:
    with stream(server) as connection:
        for number, frame in enumerate((encode(1), JPEG, encode(3, "WEBP", mode="RGB")), start=1):
            answer = ask(connection, frame)
            assert (answer["frame"], answer["dropped"]) == (number, 0)
            probabilities = bundle.expected(frame)
            assert answer["detection"]["label"] == LABELS[int(probabilities.argmax())]
            assert answer["detection"]["confidence"] == pytest.approx(probabilities.max(), abs=1e-5)
            assert answer["detection"]["model"]["commit"] == "c0ffee"


def test_of_a_burst_the_last_frame_is_answered_and_every_other_one_answered_or_dropped(
    server: Server, bundle: TinyBundle
) -> None:
    frames = [encode(seed) for seed in range(100)]
    with stream(server) as connection:
        for frame in frames:
            connection.send(frame)
        answers = [json.loads(connection.recv(20))]
        while answers[-1]["frame"] < 100:
            answers.append(json.loads(connection.recv(20)))
    assert sum(1 + answer["dropped"] for answer in answers) == 100
    for answer in answers:
        expected = bundle.expected(frames[answer["frame"] - 1])
        assert answer["detection"]["label"] == LABELS[int(expected.argmax())]


def test_a_broken_frame_is_a_problem_and_the_next_one_is_answered(server: Server) -> None:
    with stream(server) as connection:
        for frame, slug in ((b"no image", "not-an-image"), (encode()[:100], "broken-image"), (b"", "not-an-image")):
            assert ask(connection, frame)["problem"]["type"] == f"urn:problem:{slug}"
        answer = ask(connection, JPEG)
        assert (answer["frame"], answer["dropped"], "detection" in answer) == (4, 0, True)


def test_a_text_message_ends_it_with_1003(server: Server) -> None:
    with stream(server) as connection:
        connection.send("hello")
        assert ending(connection)[0] == 1003


def test_too_large_a_frame_ends_it_with_1009(server: Server) -> None:
    with stream(server) as connection:
        connection.send(b"x" * (MOST + 1))
        assert ending(connection)[0] == 1009


def test_a_pause_ends_it_with_1000_but_not_before_its_time(server: Server) -> None:
    with stream(server) as connection:
        assert ask(connection, JPEG)["frame"] == 1
        assert ending(connection) == (1000, "no frame for 3 s")  # and not after the head_seconds of a request


@pytest.mark.parametrize("sent", [0, 1, 10, -1])
def test_a_client_that_vanishes_within_a_frame_does_no_harm(server: Server, sent: int) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        upgrade = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: " + "A" * 22 + "==")
        lines = ("GET /stream HTTP/1.1", "Host: x", *upgrade, "Sec-WebSocket-Version: 13", "", "")
        raw.sendall("\r\n".join(lines).encode())
        assert raw.recv(4096).startswith(b"HTTP/1.1 101")
        frame = b"\x82\xfe" + len(JPEG).to_bytes(2) + bytes(4) + JPEG  # final, binary, masked with zeros
        raw.sendall(frame[: sent or None])
    wait_until(lambda: "emotion_streams_open 0.0" in server.get("/metrics").text)
    with stream(server) as connection:
        assert "detection" in ask(connection, JPEG)
    assert "Traceback" not in server.log.read_text()


def test_the_log_holds_no_address_of_a_client(server: Server) -> None:
    with stream(server) as connection:
        ask(connection, JPEG)
        port = connection.local_address[1]
    assert str(port) not in server.log.read_text()


def test_sigterm_ends_it_with_1012(bundle: TinyBundle, tmp_path: Path) -> None:
    with running(tmp_path, "--bundle", str(bundle.directory)) as server, stream(server) as connection:
        ask(connection, JPEG)
        server.process.send_signal(signal.SIGTERM)
        assert ending(connection)[0] == 1012
        assert server.process.wait(20) in (0, -signal.SIGTERM)


def test_the_newest_frame_wins_and_the_answer_says_how_many_it_overtook(
    client: TestClient, tiny: TinyBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    context: Context = client.app.state.context
    engine = context.slot.current().engine
    entered, go_on = threading.Event(), threading.Event()
    predict = engine.predict

    def slow(*arguments: Any) -> Any:
        entered.set()
        go_on.wait(20)
        return predict(*arguments)

    monkeypatch.setattr(engine, "predict", slow)
    with client.websocket_connect("/stream") as connection:
        connection.send_bytes(encode(1))
        assert entered.wait(20)
        for seed in range(2, 7):
            connection.send_bytes(encode(seed))
        wait_until(lambda: value(client, "emotion_stream_frames_dropped_total") == 4)
        assert value(client, "emotion_streams_open") == 1
        go_on.set()
        first, last = connection.receive_json(), connection.receive_json()
    assert [(answer["frame"], answer["dropped"]) for answer in (first, last)] == [(1, 0), (6, 4)]
    assert last["detection"]["label"] == LABELS[int(tiny.expected(encode(6)).argmax())]


def test_more_frames_than_the_rate_allows_end_it_with_1008(tiny: TinyBundle, start: Callable[..., TestClient]) -> None:
    client = start(bundle=tiny.directory, stream_rate=0.3)  # three in ten seconds
    with client.websocket_connect("/stream") as connection:
        for _ in range(4):
            connection.send_bytes(JPEG)
        messages = iter(connection.receive, None)
        end = next(message for message in messages if message["type"] == "websocket.close")
    assert (end["code"], end["reason"]) == (1008, "more than 0.3 frames/s")


def test_every_frame_counts_against_the_rate_of_its_caller(tiny: TinyBundle, start: Callable[..., TestClient]) -> None:
    client = start(bundle=tiny.directory, rate_limit=0.01, rate_burst=3)  # one to begin with, and two frames
    with client.websocket_connect("/stream") as connection:
        for number in (1, 2):
            connection.send_bytes(JPEG)
            assert connection.receive_json()["frame"] == number
        connection.send_bytes(JPEG)
        end = connection.receive()
    assert (end["type"], end["code"]) == ("websocket.close", 1008)
    assert end["reason"].startswith("more than 0.01 requests per second; wait ")
    assert post_file(client, JPEG).status_code == 429
    assert_problem(refusal(client), 429, "rate-limited")
    with TestClient(client.app, client=("192.0.2.7", 1)).websocket_connect("/stream") as neighbour:
        neighbour.send_bytes(JPEG)
        assert neighbour.receive_json()["frame"] == 1


def test_it_ends_with_its_key(
    tiny: TinyBundle, start: Callable[..., TestClient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.keys.INTERVAL", -1)  # the file is looked at every time
    (key, kept), (_, other), file = create_key("phone"), create_key("other"), tmp_path / "keys.txt"
    file.write_text(f"{kept}\n{other}\n")
    client = start(bundle=tiny.directory, api_keys_file=file)
    with client.websocket_connect("/stream", headers={"X-API-Key": key}) as connection:
        connection.send_bytes(JPEG)
        assert connection.receive_json()["frame"] == 1
        file.write_text(f"{other}\n")
        connection.send_bytes(JPEG)
        end = connection.receive()
    assert (end["type"], end["code"]) == ("websocket.close", 1008)
    assert end["reason"].startswith("the API key is unknown, or no longer valid")
    assert len(end["reason"].encode()) <= 123  # RFC 6455


def test_a_frame_is_measured_by_any_server(tiny: TinyBundle, start: Callable[..., TestClient]) -> None:
    """uvicorn is told the limit, and refuses larger frames before they are there; others may not be."""
    client = start(bundle=tiny.directory, max_frame_bytes=len(JPEG))
    with client.websocket_connect("/stream") as connection:
        connection.send_bytes(JPEG)
        assert connection.receive_json()["frame"] == 1
        connection.send_bytes(JPEG + b"x")
        assert connection.receive() == {
            "type": "websocket.close",
            "code": 1009,
            "reason": f"more than {len(JPEG)} bytes",
        }


def test_a_failure_inside_is_a_problem_that_tells_nothing(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.app.state.context.slot.current().engine, "predict", None)
    with client.websocket_connect("/stream") as connection:
        connection.send_bytes(JPEG)
        problem = connection.receive_json()["problem"]
    assert (problem["type"], "NoneType" in problem["detail"]) == ("urn:problem:internal-error", False)
    assert value(client, "emotion_rejected_total", reason="internal-error") == 1


def test_parameters_are_those_of_detect(client: TestClient) -> None:
    photo = encode(size=(64, 64))
    for query, faces in (("?faces=all", 0), ("?faces=none", 1)):
        with client.websocket_connect(f"/stream{query}") as connection:
            connection.send_bytes(photo)
            assert len(connection.receive_json()["detection"]["faces"]) == faces


def refusal(client: TestClient, url: str = "/stream", **headers: str) -> WebSocketDenialResponse:
    with pytest.raises(WebSocketDenialResponse) as caught, client.websocket_connect(url, headers=headers):
        raise AssertionError("the connection was accepted")
    return caught.value


def test_what_cannot_begin_is_a_problem_document(
    client: TestClient, start: Callable[..., TestClient], tmp_path: Path
) -> None:
    assert_problem(refusal(client, "/stream?faces=many"), 422, "invalid-request", "faces")
    assert_problem(refusal(client, "/stream?explain=true"), 422, "invalid-request", "explain")
    empty = start(bundle=tmp_path / "none", ready=False)
    answer = refusal(empty)
    assert_problem(answer, 503, "not-ready")
    assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://testserver.evil.example", "http://["])
def test_pages_from_elsewhere_are_refused(client: TestClient, origin: str) -> None:
    assert_problem(refusal(client, origin=origin), 403, "foreign-origin", "cors_origins")


def test_pages_from_here_and_those_allowed_are_let_in(tiny: TinyBundle, start: Callable[..., TestClient]) -> None:
    client = start(bundle=tiny.directory, cors_origins=("https://app.example",))
    for origin in ("http://testserver", "https://app.example"):
        with client.websocket_connect("/stream", headers={"origin": origin}) as connection:
            connection.send_bytes(JPEG)
            assert connection.receive_json()["frame"] == 1
    assert_problem(refusal(client, origin="https://app.example.com"), 403, "foreign-origin")


def test_only_so_many_streams_are_open_at_a_time(tiny: TinyBundle, start: Callable[..., TestClient]) -> None:
    client = start(bundle=tiny.directory, max_streams=1)
    with client.websocket_connect("/stream"):
        assert_problem(refusal(client), 503, "overloaded", "1 streams are open")
        assert value(client, "emotion_rejected_total", reason="overloaded") == 1
    wait_until(lambda: value(client, "emotion_streams_open") == 0)
    with client.websocket_connect("/stream") as connection:
        connection.send_bytes(JPEG)
        assert connection.receive_json()["frame"] == 1


def test_of_these_a_caller_has_no_more_than_its_share(tiny: TinyBundle, start: Callable[..., TestClient]) -> None:
    client = start(bundle=tiny.directory, max_streams_per_caller=1)
    neighbour = TestClient(client.app, client=("192.0.2.7", 1))
    with client.websocket_connect("/stream"):
        assert_problem(refusal(client), 429, "rate-limited", "1 streams open already")
        with neighbour.websocket_connect("/stream") as connection:
            connection.send_bytes(JPEG)
            assert connection.receive_json()["frame"] == 1
    wait_until(lambda: value(client, "emotion_streams_open") == 0)
    with client.websocket_connect("/stream") as connection:
        connection.send_bytes(JPEG)
        assert connection.receive_json()["frame"] == 1


def test_without_a_websocket_it_says_what_it_is(client: TestClient) -> None:
    answer = client.get("/stream")
    assert_problem(answer, 426, "upgrade-required", "WebSocket")
    assert answer.headers["Upgrade"] == "websocket"
