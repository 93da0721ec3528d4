"""The corpus of bad input against a real server: it refuses what is wrong, and answers the rest as if nothing were."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPException, HTTPResponse

import httpx
import numpy as np
import pytest

from tests.serving.corpus import EITHER, FORMS, IMAGES, REQUESTS
from tests.serving.processes import Server, running
from tests.serving.test_server import assert_answers, connect
from tests.serving.tiny import LABELS, TinyBundle, encode, write_bundle

LIMITS = {"EMOTION_HEAD_SECONDS": "1", "EMOTION_BODY_SECONDS": "1", "EMOTION_KEEP_ALIVE_SECONDS": "1"}
FIRST, LAST = encode(101), encode(102)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> TinyBundle:
    return write_bundle(tmp_path_factory.mktemp("server") / "bundle")


@pytest.fixture(scope="module")
def server(bundle: TinyBundle) -> Iterator[Server]:
    with running(bundle.directory.parent, "--bundle", str(bundle.directory), **LIMITS) as server:
        assert server.is_ready()
        yield server
        assert server.process.poll() is None
        log = server.log.read_text()
        assert "Traceback" not in log
        assert "ERROR" not in log


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def assert_problem(answer: httpx.Response) -> None:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    assert answer.json()["status"] == answer.status_code
    assert answer.json()["detail"]


def assert_probabilities(item: dict, expected: np.ndarray) -> None:
    np.testing.assert_allclose([item["probabilities"][label] for label in LABELS], expected, atol=1e-5)


def test_the_corpus_is_as_large_as_it_says() -> None:
    assert len(IMAGES) + len(FORMS) + len(REQUESTS) >= 180


def check_image(client: httpx.Client, bundle: TinyBundle, name: str) -> list[str]:
    """As the body, and between two good images."""
    data, expected = IMAGES[name].data, IMAGES[name].expected
    alone = client.post("/detect", content=data, headers={"Content-Type": "image/jpeg"})
    assert alone.status_code in expected, (name, alone.text)
    among = client.post("/detect", files=[("file", ("f", part)) for part in (FIRST, data, LAST)])
    assert among.status_code == 200, (name, among.text)
    first, item, last = among.json()
    assert_probabilities(first, bundle.expected(FIRST))
    assert_probabilities(last, bundle.expected(LAST))
    if alone.status_code == 200:
        assert item["probabilities"] == alone.json()["probabilities"], name
        assert sum(item["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    else:
        assert_problem(alone)
        assert item == alone.json(), name
    return [name] if expected == EITHER and alone.status_code == 200 else []


def test_no_image_upsets_the_server_or_its_neighbours(client: httpx.Client, bundle: TinyBundle) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: check_image(client, bundle, name), IMAGES))


@pytest.mark.parametrize("name", FORMS)
def test_forms(client: httpx.Client, name: str) -> None:
    case = FORMS[name]
    headers = {"Content-Type": case.content_type.encode("latin-1")}
    answer = client.post("/detect", content=case.body, headers=headers)
    assert answer.status_code in case.expected, answer.text
    if answer.status_code == 200:
        assert answer.json()["label"] in LABELS
    else:
        assert_problem(answer)


def answers_to(server: Server, sent: bytes) -> list[tuple[int, str | None, bytes]]:
    """Status, content type and body of all that comes back until the server closes."""
    found = []
    with connect(server) as connection:
        connection.settimeout(20)
        with suppress(ConnectionError):  # it may have heard enough already
            connection.sendall(sent)
        stream = _Stream(connection)
        while answer := stream.next_answer():
            found.append(answer)
    return found


class _Stream:
    """A connection on which answers follow one another."""

    def __init__(self, connection: socket.socket) -> None:
        self._file = connection.makefile("rb")

    def makefile(self, *_: object) -> object:
        return self._file

    def next_answer(self) -> tuple[int, str | None, bytes] | None:
        try:
            if not self._file.peek(1):
                return None
            answer = HTTPResponse(_Kept(self._file))  # type: ignore[arg-type]
            answer.begin()
            return answer.status, answer.getheader("Content-Type"), answer.read()
        except (ConnectionError, HTTPException):
            return None


class _Kept:
    """A file that stays open when the answer read from it ends."""

    def __init__(self, file: object) -> None:
        self._file = file

    def makefile(self, *_: object) -> _Kept:
        return self

    def close(self) -> None:
        pass

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)


def check_request(server: Server, name: str) -> str:
    answers = answers_to(server, REQUESTS[name])
    assert answers, f"{name}: no answer"
    for status, content_type, body in answers:
        assert status == 200 or 400 <= status < 500, (name, status, body)
        assert status == 200 or content_type == "application/problem+json", (name, status, content_type, body)
        assert b"smuggled" not in body, name
        assert b"root:" not in body, name
    return f"{name}: {[status for status, _, _ in answers]}"


def test_requests_that_are_hardly_http(server: Server, bundle: TinyBundle) -> None:
    with ThreadPoolExecutor(16) as pool:
        told = list(pool.map(lambda name: check_request(server, name), REQUESTS))
    print("\n".join(told))
    assert "two requests at once: [200, 200]" in told
    assert "a good and a bad request at once: [200, 415]" in told
    assert f"fifty requests at once: {[200] * 50}" in told
    assert_answers(server, bundle)


@pytest.mark.parametrize(
    "lines", [b"X: " + b"a" * 100_000, b"X: a\r\n" * 20_000, b"a" * 1_000_000], ids=["long", "many", "endless"]
)
def test_a_head_has_a_bound(server: Server, lines: bytes) -> None:
    begin = b"GET /healthz HTTP/1.1\r\n"
    [(status, _, body)] = answers_to(server, begin + lines)
    assert (status, b"urn:problem:head-too-large" in body) == (431, True)
