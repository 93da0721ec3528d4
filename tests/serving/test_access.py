"""Every answer's headers and id; the log's lines."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serving.logs import AccessLog, Formatter, discreet, request_id
from serving.settings import Settings
from tests.serving.test_detect import post_file
from tests.serving.tiny import TinyBundle, encode

SECURE = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
}


def policy(answer: Any) -> dict[str, str]:
    directives = answer.headers["content-security-policy"].split("; ")
    return dict(directive.split(" ", 1) for directive in directives)


@pytest.mark.parametrize("path", ["/healthz", "/detect", "/nothing", "/docs", "/openapi.json", "/metrics", "/failing"])
def test_every_answer_tells_browsers_to_be_careful(client: TestClient, path: str) -> None:
    client.app.get("/failing")(_fail)
    answer = client.get(path)
    assert SECURE.items() <= dict(answer.headers).items()
    assert "server" not in answer.headers
    assert policy(answer)["default-src"] == "'self'"
    assert policy(answer)["object-src"] == policy(answer)["frame-ancestors"] == "'none'"
    assert "'unsafe-inline'" not in policy(answer)["script-src"]
    assert "'unsafe-eval'" not in policy(answer)["script-src"]
    assert policy(answer)["script-src"] == "'self' 'wasm-unsafe-eval'"
    assert "https:" not in answer.headers["content-security-policy"]


async def _fail() -> None:
    raise RuntimeError(f"a secret {b'image bytes'}")


def test_a_detection_has_them_too(client: TestClient) -> None:
    assert SECURE.items() <= dict(post_file(client, encode()).headers).items()


@pytest.mark.parametrize("sent", ["abc", "a-b_c.D9", "x" * 64])
def test_a_sane_request_id_comes_back(client: TestClient, sent: str) -> None:
    assert client.get("/healthz", headers={"X-Request-Id": sent}).headers["x-request-id"] == sent


@pytest.mark.parametrize("sent", ["", "x" * 65, "a b", "a\tb", 'a"b', "a=b", "a,b", "{}"])
def test_another_one_is_replaced(client: TestClient, sent: str) -> None:
    found = {client.get("/healthz", headers={"X-Request-Id": sent}).headers["x-request-id"] for _ in range(3)}
    assert len(found) == 3
    assert sent not in found


def test_access_lines_in_json(
    start: Callable[..., TestClient], tiny: TinyBundle, capsys: pytest.CaptureFixture[str]
) -> None:
    client = start(bundle=tiny.directory, log_format="json")
    capsys.readouterr()
    answer = client.post("/detect?faces=none", content=encode(), headers={"X-Request-Id": "mine"})
    client.get("/somebody?by=name")
    _flush(client)
    detect, other = [json.loads(line) for line in capsys.readouterr().err.splitlines() if '"access"' in line][-2:]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", detect.pop("time"))
    assert detect.pop("ms") > 0
    assert detect == {
        "level": "INFO", "logger": "access", "request": "mine", "method": "POST", "route": "/detect", "status": 200,
        "bytes": len(answer.content),
    }  # fmt: skip
    assert (other["route"], other["status"]) == ("unmatched", 404)
    assert "somebody" not in json.dumps(other)
    assert "name" not in json.dumps(other)


def _flush(client: TestClient) -> None:
    client.portal.call(asyncio.sleep, 0.3)


def test_addresses_are_logged_only_where_asked(
    start: Callable[..., TestClient], tiny: TinyBundle, capsys: pytest.CaptureFixture[str]
) -> None:
    for asked in (False, True):
        client = start(bundle=tiny.directory, log_addresses=asked)
        capsys.readouterr()
        client.get("/labels")
        _flush(client)
        [line] = [line for line in capsys.readouterr().err.splitlines() if "/labels" in line]
        assert ("address=testclient" in line) == asked


def test_there_may_be_no_access_log(
    start: Callable[..., TestClient], tiny: TinyBundle, capsys: pytest.CaptureFixture[str]
) -> None:
    client = start(bundle=tiny.directory, access_log=False)
    client.get("/labels")
    _flush(client)
    assert "/labels" not in capsys.readouterr().err


def test_a_failure_is_logged_once_with_its_request_and_without_bytes(
    client: TestClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.app.get("/failing")(_fail)
    seen: list[str] = []
    formatter = Formatter("json")
    monkeypatch.setattr(caplog.handler, "emit", lambda record: seen.append(formatter.format(record)))
    answer = client.get("/failing", headers={"X-Request-Id": "mine"})
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:problem:internal-error")
    assert answer.headers["x-request-id"] == "mine"
    [line] = [json.loads(text) for text in seen if "a request failed" in text]
    assert line["request"] == "mine"
    assert "RuntimeError: a secret b'...'" in line["trace"]
    assert "image bytes'" not in line["trace"].replace("\"a secret {b'image bytes'}\"", "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        (r"found b'\xff\xd8 \' x' there", "found b'...' there"),
        ('found b"it\'s" there', "found b'...' there"),
        (r"cut b'\xff\xd8", "cut b'...'"),
        ("x" * 600, "x" * 500 + "..."),
        ("bob's", "bob's"),
    ],
)
def test_messages_hold_no_bytes_and_have_a_bound(text: str, expected: str) -> None:
    assert discreet(text) == expected


@pytest.mark.parametrize("form", ["text", "json"])
def test_records_of_other_libraries_look_the_same(form: str) -> None:
    token = request_id.set("r1")
    try:
        raise ValueError(bytes(range(200)))
    except ValueError:
        record = logging.LogRecord("uvicorn.error", logging.ERROR, "", 0, "oh %s", (b"\xff",), sys.exc_info())
    text = Formatter(form).format(record)
    request_id.reset(token)
    assert "\\x" not in text
    if form == "json":
        found = json.loads(text)
        assert (found["message"], found["request"], found["logger"]) == ("oh b'...'", "r1", "uvicorn.error")
    else:
        assert text.startswith("ERROR: uvicorn.error: oh b'...' (request r1)\nTraceback")


def test_access_lines_go_out_together() -> None:
    class Stream(io.StringIO):
        writes = 0

        def write(self, text: str) -> int:
            self.writes += 1
            return super().write(text)

    async def log(stream: Stream) -> None:
        access = AccessLog(Settings(face_model=None), stream)
        for number in range(10):
            access.add(0.0, {"number": number})
        assert stream.getvalue() == ""
        access.flush()

    stream = Stream()
    asyncio.run(log(stream))
    assert stream.getvalue().splitlines() == [f"INFO: access: number={number}" for number in range(10)]
    assert stream.writes == 1
