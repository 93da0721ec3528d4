"""Connections to a real server: clients that are slow or leave, and the end of the server under load."""

from __future__ import annotations

import io
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException, HTTPResponse
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.serving.processes import Server, running
from tests.serving.test_server import accepts_connections, assert_answers, connect, head, receive
from tests.serving.tiny import TinyBundle, encode, wait_until, write_bundle

LIMITS = {"EMOTION_HEAD_SECONDS": "0.5", "EMOTION_BODY_SECONDS": "0.5", "EMOTION_WORKERS": "1"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> TinyBundle:
    return write_bundle(tmp_path_factory.mktemp("server") / "bundle")


@pytest.fixture(scope="module")
def server(bundle: TinyBundle) -> Iterator[Server]:
    with running(bundle.directory.parent, "--bundle", str(bundle.directory), **LIMITS) as server:
        assert server.is_ready()
        yield server


def assert_cut_off(connection: socket.socket, what: str) -> None:
    status, problem = receive(connection)
    assert (status, problem["type"]) == (408, "urn:problem:slow-request")
    assert f"the {what} of the request did not arrive within 0.5 s" in problem["detail"]
    assert connection.recv(1) == b""


def test_a_connection_without_a_request_is_closed(server: Server) -> None:
    with connect(server) as connection:
        assert connection.recv(1) == b""


@pytest.mark.parametrize(
    ("sent", "what"),
    [
        (b"POST /detect HTT", "head"),
        (head("Content-Length: 100")[:-2], "head"),
        (head("Content-Length: 100"), "body"),
        (head("Content-Length: 100") + b"half", "body"),
        (head("Transfer-Encoding: chunked") + b"4\r\nhalf\r\n", "body"),
    ],
)
def test_a_request_that_does_not_come_to_its_end_is_408(server: Server, sent: bytes, what: str) -> None:
    with connect(server) as connection:
        connection.sendall(sent)
        assert_cut_off(connection, what)


def test_a_trickle_does_not_extend_the_time(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(head("Content-Length: 100000"))
        connection.settimeout(0.05)
        end = time.monotonic() + 20
        answer = b""
        while not answer and time.monotonic() < end:
            connection.sendall(b"x")
            try:
                answer = connection.recv(100)
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 408")


def test_a_second_request_on_a_connection_has_the_same_limits(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(head("Content-Length: 0"))
        assert receive(connection)[0] == 415
        connection.sendall(head("Content-Length: 100"))
        assert_cut_off(connection, "body")


def test_a_refused_body_is_not_received_for_ever(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(head("Content-Length: 99000000"))
        assert receive(connection)[0] == 413
        connection.sendall(b"x" * 1000)
        assert connection.recv(1) == b""


def test_requests_in_a_row_on_one_connection_are_answered_in_order(server: Server) -> None:
    with connect(server) as connection:
        images = [encode(1), b"", encode(2)]
        connection.sendall(b"".join(head(f"Content-Length: {len(data)}") + data for data in images))
        assert [receive_one(connection) for _ in images] == [200, 415, 200]


def receive_one(connection: socket.socket) -> int:
    """Status of the next answer, byte by byte: another may follow it."""
    text = b""
    while not text.endswith(b"\r\n\r\n"):
        text += received(connection, 1)
    left = int(text.lower().partition(b"content-length: ")[2].split()[0])
    while left:
        left -= len(received(connection, left))
    return int(text.split()[1])


def received(connection: socket.socket, most: int) -> bytes:
    chunk = connection.recv(most)
    assert chunk, "the connection has ended"
    return chunk


def test_answers_without_a_body_arrive(server: Server) -> None:
    assert httpx.head(f"{server.url}/healthz").status_code == 405
    with httpx.Client() as client:
        for _ in range(2):
            assert client.head(f"{server.url}/healthz").content == b""


def test_a_client_that_waits_to_be_asked_for_the_body_is_asked(server: Server) -> None:
    data = encode(3)
    with connect(server) as connection:
        connection.sendall(head(f"Content-Length: {len(data)}", "Expect: 100-continue"))
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(data)
        assert receive(connection)[0] == 200


def test_what_is_no_http_is_a_problem(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        status, problem = receive(connection)
    assert (status, problem["type"]) == (400, "urn:problem:invalid-http")


def test_a_client_that_leaves_while_it_waits_is_noticed(server: Server, bundle: TinyBundle) -> None:
    buffer = io.BytesIO()
    Image.new("CMYK", (6000, 6000)).save(buffer, "JPEG")  # a small file that takes long to decode
    slow = buffer.getvalue()
    data = encode(2)
    with ThreadPoolExecutor(4) as pool:
        busy = [pool.submit(httpx.post, f"{server.url}/detect", files={"file": slow}, timeout=60) for _ in range(4)]
        wait_until(lambda: gauge(server, "emotion_queue_length") >= 1)
        with connect(server) as connection:
            connection.sendall(head(f"Content-Length: {len(data)}") + data)
        wait_until(lambda: gauge(server, 'emotion_rejected_total{reason="client-gone"}') == 1)
        assert {answer.result().status_code for answer in busy} == {200}
    assert_answers(server, bundle)


def gauge(server: Server, name: str) -> float:
    """Sum of the samples whose name, with labels, begins so."""
    lines = (line for line in server.get("/metrics").text.splitlines() if line.startswith(name))
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


class Client(threading.Thread):
    """Posts over and over on one connection, and a new one where it is told to; until nobody listens any more."""

    def __init__(self, port: int, body: bytes) -> None:
        super().__init__()
        self.port, self.body = port, body
        self.answered, self.lost = 0, []

    def run(self) -> None:
        try:
            while True:
                with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
                    self.post_until_told_to_close(connection)
        except ConnectionRefusedError:
            pass

    def post_until_told_to_close(self, connection: socket.socket) -> None:
        try:
            while True:
                connection.sendall(self.body)
                answer = HTTPResponse(connection)
                answer.begin()
                assert answer.status == 200
                answer.read()
                self.answered += 1
                if answer.will_close:
                    return
        except (OSError, HTTPException) as error:
            self.lost.append(error)


def test_sigterm_under_load_loses_no_request(bundle: TinyBundle, tmp_path: Path) -> None:
    data = encode(7)
    body = head(f"Content-Length: {len(data)}") + data
    with running(tmp_path, "--bundle", str(bundle.directory)) as server:
        assert server.is_ready()
        clients = [Client(server.port, body) for _ in range(12)]
        for client in clients:
            client.start()
        wait_until(lambda: all(client.answered > 5 for client in clients))
        server.process.send_signal(signal.SIGTERM)
        for client in clients:
            client.join(40)
        assert server.process.wait(timeout=20) in (0, -signal.SIGTERM)
    assert [client.lost for client in clients if client.lost] == []
    assert not accepts_connections(server)
