"""Connections to a server in this process: heads of answers, limits of heads, and what is never read."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.client import HTTPResponse
from itertools import repeat
from typing import Any
from unittest.mock import MagicMock

import pytest
import uvicorn
from fastapi import FastAPI
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from serving.app import create_app
from serving.headers import SECURITY_HEADERS
from serving.protocol import MAX_HEAD, Protocol, StreamProtocol
from serving.settings import Settings
from tests.serving.test_connections import receive_one
from tests.serving.test_detect import GatedEngine
from tests.serving.test_server import head
from tests.serving.tiny import TinyBundle, encode, wait_until

SECONDS = 0.3
"""That a head, a body, and the reading of an answer may take."""
IMAGE = encode(3)


class Slow(Protocol):
    """Gives uvicorn every header by itself."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        del self.scope["extensions"]


@contextmanager
def served(app: FastAPI, protocol: type[Protocol] = Protocol) -> Iterator[uvicorn.Server]:
    http = partial(protocol, head_seconds=SECONDS, body_seconds=SECONDS)
    config = uvicorn.Config(app, http=http, ws=StreamProtocol, loop="uvloop", log_config=None)
    server, listener = uvicorn.Server(config), socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # for what is not read, the server has little room
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        wait_until(lambda: server.started and app.state.context.slot.model is not None)
        yield server
    finally:
        server.should_exit = True
        thread.join(20)


def connect(server: uvicorn.Server, room: int | None = None) -> socket.socket:
    """Args:
    room: bytes that may arrive without being read.
    """
    connection = socket.socket()
    connection.settimeout(20)
    if room:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    connection.connect(server.servers[0].sockets[0].getsockname())
    return connection


@pytest.fixture
def app(tiny: TinyBundle) -> FastAPI:
    app = create_app(Settings(bundle=tiny.directory, face_model=None, workers=1))
    app.get("/failing")(_fail)
    app.get("/pieces")(_pieces)
    return app


async def _fail() -> None:
    raise RuntimeError


async def _pieces() -> StreamingResponse:
    return StreamingResponse(iter([b"HTTP/1.1 one", b"HTTP/1.1 two\r\n\r\n", b"x" * 70_000]))


def get(path: str, *lines: str, method: str = "GET", version: str = "1.1") -> bytes:
    text = [f"{method} {path} HTTP/{version}", "Host: test", "X-Request-Id: mine", *lines]
    return "".join(f"{line}\r\n" for line in text).encode() + b"\r\n"


FORM = b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n%s\r\n' % IMAGE * 2 + b"--x--\r\n"
INFER = b'{"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 8, 8, 1], "data": [%s]}]}' % b",".join(
    [b"1"] * 64
)
REQUESTS = {
    "a face": get("/detect?faces=none", f"Content-Length: {len(IMAGE)}", method="POST") + IMAGE,
    "several": get(
        "/detect", "Content-Type: multipart/form-data; boundary=x", f"Content-Length: {len(FORM)}", method="POST"
    )
    + FORM,
    "no image": get("/detect", "Content-Length: 0", method="POST"),
    "another protocol": get("/v2/models/tiny/infer", f"Content-Length: {len(INFER)}", method="POST") + INFER,
    "the page": get("/"),
    "the page's head": get("/", method="HEAD"),
    "the page again": get("/", 'If-None-Match: "%s"'),
    "pieces": get("/pieces"),
    "old pieces": get("/pieces", version="1.0"),
    "a failure": get("/failing"),
    "nothing": get("/nothing"),
    "the end": get("/healthz", "Connection: close"),
}


def answers(server: uvicorn.Server) -> dict[str, tuple[int, list[tuple[str, str]], bytes]]:
    """Status, sorted headers and body, by name of the request."""
    found: dict[str, tuple[int, list[tuple[str, str]], bytes]] = {}
    known = b""
    for name, request in REQUESTS.items():
        if name == "the page again":
            known = dict(found["the page"][1])["etag"].encode()
        found[name] = answer(server, request.replace(b'"%s"', known), "HEAD" if "head" in name else "GET")
    return found


def answer(server: uvicorn.Server, request: bytes, method: str) -> tuple[int, list[tuple[str, str]], bytes]:
    with connect(server) as connection:
        connection.sendall(request)
        response = HTTPResponse(connection, method=method)
        response.begin()
        body = response.read()
        if not response.will_close:  # the connection is as it should be
            connection.sendall(get("/healthz"))
            assert receive_one(connection) == 200
    assert response.headers["x-request-id"] == "mine"
    changing = {"date", "x-prediction-id"}
    headers = [(name.lower(), "" if name.lower() in changing else value) for name, value in response.getheaders()]
    return response.status, sorted(headers), b"" if "/detect" in request.decode("latin-1") else body


def test_headers_as_lines_are_the_same_headers(app: FastAPI, tiny: TinyBundle) -> None:
    other = create_app(Settings(bundle=tiny.directory, face_model=None, workers=1))
    other.get("/failing")(_fail)
    other.get("/pieces")(_pieces)
    with served(app) as server:
        fast = answers(server)
        with connect(server) as connection:
            connection.sendall(REQUESTS["a face"])
            text = b""
            while b"\r\n\r\n" not in text:
                text += connection.recv(1000)
        lineage = app.state.context.answers_of(app.state.context.slot.current()).headers
    with served(other, Slow) as server:
        assert fast == answers(server)
    statuses = [200, 200, 415, 200, 200, 200, 304, 200, 200, 500, 404, 200]
    assert [status for status, _, _ in fast.values()] == statuses
    assert text.partition(b"\r\n\r\n")[0].endswith((lineage.lines + SECURITY_HEADERS.lines)[:-2])  # it went that way


def test_an_answer_that_nobody_reads_ends_the_connection(app: FastAPI) -> None:
    with served(app) as server, connect(server, room=4096) as connection:
        connection.sendall(get("/openapi.json") * 10)
        wait_until(lambda: len(server.server_state.connections) == 1)
        wait_until(lambda: not server.server_state.connections, seconds=20)


def test_so_does_one_that_nobody_reads_to_its_end(app: FastAPI) -> None:
    """Less than what asyncio takes for much."""
    app.get("/some")(lambda: "x" * 40_000)
    with served(app) as server, connect(server, room=4096) as connection:
        connection.sendall(get("/some", "Connection: close"))
        wait_until(lambda: len(server.server_state.connections) == 1)
        wait_until(lambda: not server.server_state.connections, seconds=20)


def test_whoever_reads_slowly_is_answered(app: FastAPI) -> None:
    app.get("/much")(lambda: StreamingResponse(repeat(b"x" * 10_000, 100)))
    with served(app) as server, connect(server) as connection:
        connection.sendall(get("/much", version="1.0"))
        received, start = 0, time.monotonic()
        while chunk := connection.recv(50_000):
            received += len(chunk)
            time.sleep(0.02)
    assert received > 1_000_000
    assert time.monotonic() - start > 2 * SECONDS


@pytest.mark.parametrize("sent", [b"\r\n", b"\r\n\r\n\r\n"])
def test_an_empty_line_after_an_answer_keeps_no_connection(app: FastAPI, sent: bytes) -> None:
    with served(app) as server, connect(server) as connection:
        connection.sendall(get("/healthz"))
        assert receive_one(connection) == 200
        connection.sendall(sent)
        assert connection.recv(1) == b""


def test_a_websocket_may_be_silent(app: FastAPI) -> None:
    lines = "Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"
    with served(app) as server, connect(server) as connection:
        connection.sendall(get("/stream", *lines, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="))
        assert connection.recv(1000).startswith(b"HTTP/1.1 101")
        connection.settimeout(3 * SECONDS)
        with pytest.raises(TimeoutError):
            connection.recv(1)


def test_half_a_head_does_not_take_the_place_of_the_answer_before_it(app: FastAPI) -> None:
    with served(app) as server, connect(server) as connection:
        slot = app.state.context.slot
        engine = GatedEngine(slot.current().bundle)
        entered, released = engine.hold()
        slot.replace(replace(slot.current(), engine=engine))
        connection.sendall(REQUESTS["a face"] + b"GET /heal")
        assert entered.wait(20)
        time.sleep(2 * SECONDS)
        released.set()
        assert [receive_one(connection), receive_one(connection)] == [200, 408]
        assert connection.recv(1) == b""


@pytest.mark.parametrize("head", [get("/" + "x" * 50_000), get("/", f"A: {'x' * MAX_HEAD}")], ids=["path", "header"])
def test_too_long_a_head_is_refused(app: FastAPI, head: bytes) -> None:
    with served(app) as server, connect(server) as connection:
        connection.sendall(head)
        assert receive_one(connection) == 431


def fed(*chunks: bytes) -> list[int]:
    """Statuses that a connection answers such pieces with; of an application 204."""

    async def main() -> list[int]:
        config = uvicorn.Config(_nothing, log_config=None)
        protocol: Any = Protocol(config, ServerState(), {}, head_seconds=9, body_seconds=9)
        transport = MagicMock()
        transport.is_closing.side_effect = lambda: transport.close.called
        protocol.connection_made(transport)
        for chunk in chunks:
            protocol.data_received(chunk)
            await asyncio.sleep(0)
        protocol.connection_lost(None)
        return [int(call.args[0].split()[1]) for call in transport.write.call_args_list]

    return asyncio.run(main())


async def _nothing(_: Scope, __: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204})
    await send({"type": "http.response.body"})


def test_a_body_is_not_counted_as_part_of_the_head_behind_it() -> None:
    body = bytes(3 * MAX_HEAD)
    first = head(f"Content-Length: {len(body)}") + body
    assert fed(first + b"GET /") == [204]
    assert fed(first[:-9], first[-9:] + b"GET /", b"healthz HTTP/1.1\r\n\r\n") == [204, 204]


@pytest.mark.parametrize("size", [1000, 3 * MAX_HEAD])
def test_a_line_without_an_end_is_refused(size: int) -> None:
    line = b"GET /healthz HTTP/1.1\r\nA: " + b"x" * 3 * MAX_HEAD
    pieces = [line[start : start + size] for start in range(0, len(line), size)]
    assert fed(*pieces, b"x")[0] == 431
    assert fed(b"GET /" + b"x" * 3 * MAX_HEAD) == [431]
