"""`python -m serving` as a process of its own, spoken to over sockets."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.serving.processes import ROOT, Server, environment, running
from tests.serving.tiny import LABELS, TinyBundle, encode, wait_until, write_bundle

LIMIT = 100_000
SLIM = ROOT / ".venv-serve"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> TinyBundle:
    return write_bundle(tmp_path_factory.mktemp("server") / "bundle")


@pytest.fixture(scope="module")
def server(bundle: TinyBundle) -> Iterator[Server]:
    with running(bundle.directory.parent, "--bundle", str(bundle.directory), EMOTION_MAX_BYTES=str(LIMIT)) as server:
        assert server.is_ready()
        yield server


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def head(*headers: str, path: str = "/detect") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: test", "Content-Type: image/png", *headers]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"


def receive(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """Status and content of the next answer."""
    answer = HTTPResponse(connection)
    answer.begin()
    return answer.status, json.loads(answer.read())


def assert_answers(server: Server, bundle: TinyBundle, seed: int = 0) -> None:
    data = encode(seed)
    answer = httpx.post(f"{server.url}/detect", files={"file": data}, timeout=20)
    assert answer.status_code == 200, answer.text
    found = [answer.json()["probabilities"][label] for label in LABELS]
    np.testing.assert_allclose(found, bundle.expected(data), atol=1e-5)


def test_many_clients_at_once_get_their_own_answers(server: Server, bundle: TinyBundle) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: assert_answers(server, bundle, seed), range(40)))


def test_too_large_a_body_is_refused_by_its_announced_length_before_it_is_sent(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(head(f"Content-Length: {LIMIT + 1}"))
        status, problem = receive(connection)
    assert (status, problem["type"]) == (413, "urn:problem:image-too-large")


def test_too_large_a_body_in_chunks_is_refused_while_it_is_being_sent(server: Server, bundle: TinyBundle) -> None:
    chunk = b"%x\r\n%s\r\n" % (LIMIT // 2, b"x" * (LIMIT // 2))
    with connect(server) as connection:
        connection.sendall(head("Transfer-Encoding: chunked") + 3 * chunk)  # and no end of it
        status, problem = receive(connection)
        assert (status, problem["type"]) == (413, "urn:problem:image-too-large")
        connection.sendall(20 * chunk)  # goes nowhere, and does not upset the server
        assert_answers(server, bundle)


def test_a_chunked_form_is_taken(server: Server, bundle: TinyBundle) -> None:
    data = encode(3)
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n%s\r\n--x--\r\n' % data

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(form), 50):
            yield form[start : start + 50]

    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = httpx.post(f"{server.url}/detect", content=pieces(), headers=kind)
    assert answer.json()["label"] == LABELS[int(bundle.expected(data).argmax())]


def test_a_client_that_leaves_early_is_counted_and_does_no_harm(server: Server, bundle: TinyBundle) -> None:
    with connect(server) as connection:
        connection.sendall(head("Content-Length: 1000") + b"half")
    counted = 'emotion_rejected_total{reason="incomplete-body"} 1.0'
    wait_until(lambda: counted in server.get("/metrics").text)
    assert_answers(server, bundle)
    assert "Traceback" not in server.log.read_text()


def test_the_log_has_a_line_for_each_request_without_address_query_or_unknown_path(
    server: Server, bundle: TinyBundle
) -> None:
    assert_answers(server, bundle)
    httpx.get(f"{server.url}/somebody/by-name?secret=42", headers={"X-Request-Id": "mine-1"})
    wait_until(lambda: "mine-1" in server.log.read_text())
    text = server.log.read_text()
    assert re.search(r"access: request=\S+ method=POST route=/detect status=200 ms=[\d.]+ bytes=\d+\n", text)
    assert "request=mine-1 method=GET route=unmatched status=404" in text
    for private in ("somebody", "secret", "address"):
        assert private not in text
    assert text.count("127.0.0.1") == 1  # where it listens


def test_sigterm_lets_a_request_in_flight_end(bundle: TinyBundle, tmp_path: Path) -> None:
    data = encode(7)
    with running(tmp_path, "--bundle", str(bundle.directory)) as server, connect(server) as connection:
        connection.sendall(head(f"Content-Length: {len(data)}") + data[:50])
        wait_until(lambda: "requests_in_flight 2.0" in server.get("/metrics").text)  # this one and that one
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "Shutting down" in server.log.read_text())
        wait_until(lambda: not accepts_connections(server))
        connection.sendall(data[50:])
        status, answer = receive(connection)
        assert server.process.wait(timeout=20) in (0, -signal.SIGTERM)
    assert (status, answer["label"]) == (200, LABELS[int(bundle.expected(data).argmax())])


def accepts_connections(server: Server) -> bool:
    try:
        connect(server).close()
    except ConnectionError:
        return False
    return True


def serve(*options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command, variables = [sys.executable, "-m", "serving", *options], environment(**variables)
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)


def test_a_wrong_setting_is_a_message_and_an_exit() -> None:
    result = serve(EMOTION_PORT="http")
    assert result.returncode == 1
    assert result.stderr.startswith("error: EMOTION_PORT or --port: found 'http'")
    assert "Traceback" not in result.stderr


def test_a_port_in_use_is_a_message_and_an_exit(server: Server, bundle: TinyBundle) -> None:
    result = serve("--port", str(server.port), "--bundle", str(bundle.directory))
    assert result.returncode != 0
    assert "address already in use" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture
def slim() -> Path:
    if not (SLIM / "bin" / "python").exists():
        pytest.skip("no .venv-serve in the root of the repository; `make setup` builds it from requirements/serve.txt")
    return SLIM


def test_the_slim_environment_serves(slim: Path, bundle: TinyBundle, tmp_path: Path) -> None:
    with running(tmp_path, "--bundle", str(bundle.directory), python=str(slim / "bin" / "python")) as server:
        assert server.is_ready()
        assert_answers(server, bundle)


def test_the_slim_environment_stays_below_400_megabytes(slim: Path) -> None:
    """Installed files, each once, without bytecode: that depends on what has been run."""
    files = [path.lstat() for path in slim.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    size = sum({stat.st_ino: stat.st_size for stat in files}.values())
    assert size < 400e6, f"{size / 1e6:.0f} MB"
