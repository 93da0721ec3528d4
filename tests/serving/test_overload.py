"""A full queue, as connections see it: refused before anything is started, and otherwise as every refusal."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from http.client import HTTPResponse
from typing import Any

import httpx
import pytest
import uvicorn

from emotion_detection.api_keys import create_key
from serving.app import create_app
from serving.context import Context
from serving.detect import Detect
from serving.protocol import Protocol, StreamProtocol
from serving.settings import Settings
from tests.serving.test_connections import receive_one
from tests.serving.test_detect import GatedEngine
from tests.serving.test_server import head
from tests.serving.tiny import TinyBundle, encode, wait_until

QUEUE = 2
IMAGE = encode(3)
POST = head(f"Content-Length: {len(IMAGE)}") + IMAGE


@dataclass
class Full:
    """A server in this process, on a port of its own, whose queue is full until it is told to go on."""

    port: int
    context: Context
    entered: threading.Event
    released: threading.Event
    asked: list[bytes]
    """Queries of the requests to /detect that the application got to see."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def metric(self, name: str) -> float:
        lines = httpx.get(f"{self.url}/metrics", timeout=60).text.splitlines()
        return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


@contextmanager
def full(tiny: TinyBundle, monkeypatch: pytest.MonkeyPatch, **settings: object) -> Iterator[Full]:
    options = {"queue_size": QUEUE, "max_images": QUEUE, "workers": 1, "max_batch": 1, "face_model": None} | settings
    app = create_app(Settings(bundle=tiny.directory, **options))
    asked = watched(monkeypatch)
    http = partial(Protocol, head_seconds=5, body_seconds=5)
    config = uvicorn.Config(app, http=http, ws=StreamProtocol, port=0, log_config=None, timeout_keep_alive=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started and app.state.context.slot.model is not None)
        context = app.state.context
        engine = GatedEngine(context.slot.model.bundle)
        entered, released = engine.hold()
        context.slot.replace(replace(context.slot.model, engine=engine))
        yield Full(server.servers[0].sockets[0].getsockname()[1], context, entered, released, asked)
    finally:
        released.set()
        server.should_exit = True
        thread.join(20)


def watched(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Queries of all requests that come as far as the application."""
    asked: list[bytes] = []
    call = Detect.__call__

    async def note(self: Detect, scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["query_string"])
        await call(self, scope, receive, send)

    monkeypatch.setattr(Detect, "__call__", note)
    return asked


@contextmanager
def fill(server: Full, headers: tuple[str, ...] = ()) -> Iterator[list[socket.socket]]:
    """One request in work, and `QUEUE` that wait; they are answered in the end."""
    post = head(f"Content-Length: {len(IMAGE)}", *headers, path="/detect?faces=none") + IMAGE
    with ExitStack() as stack:
        connections = [stack.enter_context(server.connect()) for _ in range(QUEUE + 1)]
        for number, connection in enumerate(connections):
            connection.sendall(post)
            if number == 0:
                assert server.entered.wait(20)
        wait_until(lambda: server.context.queue.full)
        yield connections
        server.released.set()
        for connection in connections:
            assert receive_one(connection) == 200


@pytest.fixture
def server(tiny: TinyBundle, monkeypatch: pytest.MonkeyPatch) -> Iterator[Full]:
    with full(tiny, monkeypatch) as server:
        yield server


def answer_on(connection: socket.socket, post: bytes) -> tuple[dict[str, str], dict[str, Any], int]:
    connection.sendall(post)
    answer = HTTPResponse(connection)
    answer.begin()
    headers = {name.lower(): value for name, value in answer.getheaders()}
    return headers, json.loads(answer.read()), answer.status


def test_the_early_refusal_is_the_late_one(server: Full, capsys: pytest.CaptureFixture[str]) -> None:
    early = POST.replace(b"/detect ", b"/detect?faces=largest ").replace(b"Host", b"X-Request-Id: mine-1\r\nHost")
    late = early.replace(b"/detect?faces=largest", b"/%64etect?faces=all")
    with fill(server), server.connect() as connection:
        before = [server.metric(name) for name in COUNTED]
        first, second = answer_on(connection, early), answer_on(connection, late)
        without_id = answer_on(connection, POST)
        assert [server.metric(name) - old for name, old in zip(COUNTED, before, strict=True)] == [3, 3, 3]
    assert first[0].pop("date")[:16] == second[0].pop("date")[:16]
    assert first == second
    assert (first[2], first[0]["retry-after"], first[0]["x-request-id"]) == (503, "1", "mine-1")
    assert first[1]["type"] == "urn:problem:overloaded"
    assert without_id[0].pop("x-request-id") not in ("mine-1", "")
    assert server.asked == [*[b"faces=none"] * (QUEUE + 1), b"faces=all"]
    line = f"request=mine-1 method=POST route=/detect status=503 ms=0.0 bytes={first[0]['content-length']}"
    wait_until(lambda: line in capsys.readouterr().err)


COUNTED = (
    'emotion_rejected_total{reason="overloaded"}',
    'emotion_http_request_duration_seconds_count{route="/detect",status="503"}',
    'emotion_http_request_duration_seconds_bucket{le="0.5",route="/detect",status="503"}',
)


def test_many_requests_on_one_connection_are_refused_and_answered_in_their_order(server: Full) -> None:
    with server.connect() as connection:
        with fill(server):
            connection.sendall(POST * 40)
            for cut in range(0, len(POST), 100):  # whatever the pieces that they come in
                connection.sendall(POST[cut : cut + 100])
            assert [receive_one(connection) for _ in range(41)] == [503] * 41
            assert server.asked == [b"faces=none"] * (QUEUE + 1)
        connection.sendall(POST * 2)
        assert [receive_one(connection) for _ in range(2)] == [200, 200]


def test_a_request_behind_one_that_waits_is_not_answered_before_it(server: Full) -> None:
    with fill(server) as connections:
        connections[0].sendall(POST)
        time.sleep(0.1)
        connections[0].setblocking(False)
        with pytest.raises(BlockingIOError):
            connections[0].recv(1)
        connections[0].settimeout(20)
    # `fill` has found the answer to its own request first


def test_the_body_of_a_refused_request_is_read_and_the_connection_stays(server: Full) -> None:
    start, rest = head("Transfer-Encoding: chunked"), b"4\r\nPOST\r\n5\r\n /det\r\n0\r\n\r\n"
    with fill(server), server.connect() as connection:
        connection.sendall(start)
        assert receive_one(connection) == 503
        connection.sendall(rest[:9])
        connection.sendall(rest[9:] + POST)
        assert receive_one(connection) == 503
        connection.settimeout(5)
        assert connection.recv(1) == b""  # idle for longer than `timeout_keep_alive`


def test_an_idle_connection_is_closed_also_where_the_body_came_after_the_answer(server: Full) -> None:
    with fill(server), server.connect() as connection:
        connection.sendall(POST[:-5])
        assert receive_one(connection) == 503
        connection.sendall(POST[-5:])
        connection.settimeout(5)
        assert connection.recv(1) == b""


def test_a_body_that_is_none_ends_the_connection_without_a_second_answer(server: Full) -> None:
    with fill(server), server.connect() as connection:
        connection.sendall(head("Transfer-Encoding: chunked"))
        assert receive_one(connection) == 503
        connection.sendall(b"what?\r\n")
        assert connection.recv(1) == b""


@pytest.mark.parametrize(
    ("lines", "version"), [(["Connection: close"], b"1.1"), (["Expect: 100-continue"], b"1.1"), ([], b"1.0")]
)
def test_what_needs_more_thought_is_refused_all_the_same(server: Full, lines: list[str], version: bytes) -> None:
    post = (head(f"Content-Length: {len(IMAGE)}", *lines) + IMAGE).replace(b"HTTP/1.1", b"HTTP/" + version)
    with fill(server), server.connect() as connection:
        _, problem, status = answer_on(connection, post)
        assert (status, problem["type"]) == (503, "urn:problem:overloaded")
        assert b"" in server.asked


def test_other_paths_and_methods_are_answered(server: Full) -> None:
    with fill(server):
        assert httpx.get(f"{server.url}/readyz", timeout=60).status_code == 200
        assert httpx.get(f"{server.url}/detect", timeout=60).status_code == 405
        assert httpx.post(f"{server.url}/detecting", timeout=60).status_code == 404


def test_nobody_without_a_key_learns_more_than_that_the_server_is_busy(
    tiny: TinyBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, kept = create_key("phone")
    line = f"{kept}"
    settings = {"api_keys": line, "cors_origins": "https://app.example"}
    with full(tiny, monkeypatch, **settings) as server:
        with fill(server, (f"X-API-Key: {key}",)):
            stranger, page = (
                httpx.post(f"{server.url}/detect", timeout=60, content=IMAGE),
                {"Origin": "https://app.example"},
            )
            assert (stranger.status_code, stranger.json()["type"]) == (503, "urn:problem:overloaded")
            seen = httpx.post(f"{server.url}/detect", timeout=60, content=IMAGE, headers=page | {"X-API-Key": key})
            assert seen.status_code == 503
            assert seen.headers["access-control-allow-origin"] == "https://app.example"
        assert httpx.post(f"{server.url}/detect", timeout=60, content=IMAGE).status_code == 401
