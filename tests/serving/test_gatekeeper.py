"""Who is let in, and how often; what browsers are told."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr, ValidationError
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocket

from emotion_detection.api_keys import ApiKeyError, create_key, hash_key
from serving.gatekeeper import SUBPROTOCOL
from serving.keys import Keys
from serving.rates import Rates, network_of
from serving.settings import Settings, SettingsError, load_settings
from tests.serving.processes import environment
from tests.serving.test_detect import assert_problem, post_file
from tests.serving.test_metrics import value
from tests.serving.tiny import TinyBundle, encode

PAST = date(2020, 1, 1)
GOOD, KEPT = create_key("phone")
OVER, KEPT_OVER = create_key("old", PAST)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.txt"
    path.write_text(f"{KEPT}\n{KEPT_OVER}\n")
    return path


@pytest.fixture
def locked(start: Callable[..., TestClient], tiny: TinyBundle, file: Path) -> TestClient:
    return start(bundle=tiny.directory, api_keys_file=file)


def post(client: TestClient, **headers: str) -> Any:
    return client.post("/detect", content=encode(), headers={name.replace("_", "-"): headers[name] for name in headers})


@pytest.mark.parametrize("headers", [{"Authorization": f"Bearer {GOOD}"}, {"Authorization": f"bearer  {GOOD}"},
                                     {"X_API_Key": GOOD}])  # fmt: skip
def test_a_key_lets_in(locked: TestClient, headers: dict[str, str]) -> None:
    assert post(locked, **headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer "},
        {"Authorization": f"Basic {GOOD}"},
        {"Authorization": f"Bearer {GOOD[:-1]}"},
        {"Authorization": f"Bearer {GOOD}x"},
        {"Authorization": f"Bearer {OVER}"},
        {"X_API_Key": KEPT.digest.hex()},
        {"X_API_Key": "phone"},
        {"Cookie": f"key={GOOD}"},
    ],
)
def test_whatever_is_no_valid_key_does_not(locked: TestClient, headers: dict[str, str]) -> None:
    answer = post(locked, **headers)
    assert_problem(answer, 401, "unauthorized", "Authorization: Bearer KEY")
    assert answer.headers["www-authenticate"] == 'Bearer realm="emotion"'
    assert GOOD not in answer.text
    assert locked.get(f"/model?key={GOOD}").status_code == 401


def test_the_body_of_a_stranger_is_never_read(locked: TestClient) -> None:
    def body() -> Any:
        raise AssertionError("read")
        yield b""

    async def receive() -> Any:
        raise AssertionError("read")

    messages = []

    async def send(message: Any) -> None:
        messages.append(message)

    scope = {"type": "http", "method": "POST", "path": "/detect", "query_string": b"", "headers": [], "client": None,
             "server": ("test", 80), "scheme": "http", "http_version": "1.1", "root_path": ""}  # fmt: skip
    locked.portal.call(locked.app, scope, receive, send)
    assert messages[0]["status"] == 401


def test_probes_are_open_and_which_else_is_a_setting(
    start: Callable[..., TestClient], tiny: TinyBundle, locked: TestClient, file: Path
) -> None:
    assert {path: locked.get(path).status_code for path in ("/healthz", "/readyz", "/metrics", "/docs", "/model")} == {
        "/healthz": 200, "/readyz": 200, "/metrics": 401, "/docs": 401, "/model": 401,
    }  # fmt: skip
    other = start(bundle=tiny.directory, api_keys_file=file, open_paths="/readyz,/metrics,/v2/*")
    assert other.get("/metrics").status_code == 200
    assert other.get("/healthz").status_code == other.get("/v2").status_code == 401
    assert other.get("/v2/nothing").status_code == 404


def test_the_file_is_read_again_when_it_changes(
    locked: TestClient, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.keys.INTERVAL", -1)
    post(locked, X_API_Key=GOOD)  # the first look is still a second away
    newer, kept = create_key("newer")
    _wait_for_the_next_look(locked)
    file.write_text(f"{KEPT}\n{kept}\n")
    assert post(locked, X_API_Key=newer).status_code == 200
    file.write_text(f"{kept}\n# the other one is gone\n")
    assert post(locked, X_API_Key=GOOD).status_code == 401
    assert post(locked, X_API_Key=newer).status_code == 200
    file.write_text("a typo\n")
    assert post(locked, X_API_Key=newer).status_code == 200  # the keys stay as they were
    file.write_text("")
    assert post(locked, X_API_Key=newer).status_code == 401  # all are withdrawn


def _wait_for_the_next_look(client: TestClient) -> None:
    time.sleep(1.01)
    post(client, X_API_Key=GOOD)


def test_keys_may_come_from_the_environment_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    second, kept = create_key("second")
    keys = Settings(face_model=None, api_keys=SecretStr(f"{KEPT}, {kept}")).load_keys()
    assert keys is not None
    assert [keys.find(key.encode()).name for key in (GOOD, second)] == ["phone", "second"]
    brief, kept = create_key("brief", PAST)
    keys = Keys(None, str(kept))
    monkeypatch.setattr("time.time", lambda: kept.ends - 1)
    assert keys.find(brief.encode()) == kept
    monkeypatch.setattr("time.time", lambda: kept.ends)
    assert keys.find(brief.encode()) is None


def test_every_key_is_compared_in_constant_time_and_only_good_ones_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[bytes] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return one == other

    monkeypatch.setattr("serving.keys.compare_digest", compare)
    keys = Keys(None, f"{KEPT},{KEPT_OVER}")
    for number in range(100):
        keys.find(b"guess %d" % number)
    assert len(compared) == 200  # no early end, and nothing remembered
    keys.find(GOOD.encode())
    keys.find(GOOD.encode())
    assert len(compared) == 202
    assert keys._found == {hash_key(GOOD.encode()): KEPT}


@pytest.mark.parametrize(
    ("content", "message"), [(None, "cannot be read"), ("", "has no key"), ("x", "line 1: expected"), (b"\xff", "text")]
)
def test_a_file_without_keys_is_a_mistake_from_the_start(
    tmp_path: Path, content: str | bytes | None, message: str
) -> None:
    path = tmp_path / "keys.txt"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ApiKeyError, match=message):
        Keys(path)
    with pytest.raises(SettingsError, match=message):
        load_settings(["--api-keys-file", str(path)])


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_without_keys_it_listens_on_loopback_only(host: str, file: Path) -> None:
    with pytest.raises(SettingsError, match=f"host {host} can be reached.*emotion keys new.*allow_anonymous"):
        load_settings(["--host", host])
    assert load_settings(["--host", host, "--allow-anonymous"]).host == host
    assert load_settings(["--host", host, "--api-keys-file", str(file)]).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_no_key(host: str) -> None:
    assert load_settings(["--host", host]).host == host


def test_the_server_refuses_to_start_where_strangers_could_reach_it() -> None:
    command = [sys.executable, "-m", "serving", "--host", "0.0.0.0", "--bundle", "."]
    result = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    assert re.match(r"error: settings: host 0\.0\.0\.0 can be reached", result.stderr)
    assert "Traceback" not in result.stderr


def test_keys_are_no_options() -> None:
    with pytest.raises(SettingsError, match="every user of this machine could read it; set EMOTION_API_KEYS"):
        load_settings(["--api-keys", "x"])


def test_web_sockets_need_a_key_as_well(locked: TestClient) -> None:
    @locked.app.websocket("/echo")
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text("hello")

    for good in ({"headers": {"X-API-Key": GOOD}}, {"subprotocols": [SUBPROTOCOL, f"key.{GOOD}"]}):
        with locked.websocket_connect("/echo", **good) as socket:
            assert socket.receive_text() == "hello"
            assert socket.accepted_subprotocol == (SUBPROTOCOL if "subprotocols" in good else None)
            assert b"x-request-id" in dict(socket.extra_headers)
    for bad in ({}, {"headers": {"X-API-Key": "x"}}, {"subprotocols": [SUBPROTOCOL, "key.x"]}):
        with pytest.raises(WebSocketDenialResponse) as caught, locked.websocket_connect("/echo", **bad):
            pass
        assert (caught.value.status_code, caught.value.json()["type"]) == (401, "urn:problem:unauthorized")


def test_openapi_tells_of_keys_and_rates_where_there_are_any(
    start: Callable[..., TestClient], tiny: TinyBundle, locked: TestClient, client: TestClient
) -> None:
    schema = locked.get("/openapi.json", headers={"X-API-Key": GOOD}).json()
    assert schema["security"] == [{"bearer": []}, {"header": []}]
    assert "401" in schema["paths"]["/detect"]["post"]["responses"]
    assert "security" not in client.get("/openapi.json").json()
    limited = start(bundle=tiny.directory, rate_limit=1000).get("/openapi.json").json()
    assert "429" in limited["paths"]["/detect"]["post"]["responses"]


def test_a_bucket_gives_its_burst_then_its_rate() -> None:
    rates = Rates(rate=2, burst=3)
    verdicts = [rates.take("a", 100.0) for _ in range(4)]
    assert [verdict.allowed for verdict in verdicts] == [True, True, True, False]
    assert [dict(verdict.headers)[b"ratelimit"] for verdict in verdicts] == [
        b'"requests";r=2;t=1', b'"requests";r=1;t=1', b'"requests";r=0;t=2', b'"requests";r=0;t=2',
    ]  # fmt: skip
    assert dict(verdicts[0].headers)[b"ratelimit-policy"] == b'"requests";q=3;w=2'
    assert verdicts[3].wait == 1
    assert rates.take("b", 100.0).allowed
    assert [rates.take("a", 100.5).allowed for _ in range(2)] == [True, False]  # refusals cost nothing
    assert sum(rates.take("a", 101.0 + second / 10).allowed for second in range(100)) == 20
    assert [rates.take("a", 1000.0).allowed for _ in range(4)] == [True, True, True, False]


def test_the_callers_that_are_remembered_have_a_bound() -> None:
    rates = Rates(rate=1, burst=1, callers=100)
    for number in range(1000):
        rates.take(f"{number}", 0.0)
        assert not rates.take("busy", 0.0).allowed or number == 0  # who is active is never forgotten
    assert len(rates._full_at) == 100


def test_ipv6_callers_count_by_subscriber() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::2:3") != network_of("2001:db8:0:1::1")
    assert network_of("192.0.2.1") != network_of("192.0.2.2")
    assert network_of("fe80::1%eth0") == "fe80::/64"


def test_who_asks_too_often_is_429_and_told_when_to_come_back(
    start: Callable[..., TestClient], tiny: TinyBundle, file: Path
) -> None:
    other, kept = create_key("other")
    file.write_text(f"{KEPT}\n{kept}")
    client = start(bundle=tiny.directory, api_keys_file=file, rate_limit=0.01, rate_burst=2)
    answers = [post(client, X_API_Key=GOOD) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].headers["RateLimit-Policy"] == '"requests";q=2;w=200'
    assert answers[0].headers["RateLimit"].startswith('"requests";r=1;t=')
    assert_problem(answers[2], 429, "rate-limited", "0.01 requests per second")
    assert 98 <= int(answers[2].headers["Retry-After"]) <= 100
    assert post(client, X_API_Key=other).status_code == 200
    assert [client.get("/readyz").status_code for _ in range(5)] == [200] * 5
    assert [post(client, X_API_Key="guess").status_code for _ in range(3)] == [401, 401, 429]
    client.headers["X-API-Key"] = other
    metrics = client.get("/metrics").text
    assert 'emotion_rejected_total{reason="rate-limited"} 2.0' in metrics
    assert 'emotion_rejected_total{reason="unauthorized"} 2.0' in metrics


def test_without_keys_the_address_counts(start: Callable[..., TestClient], tiny: TinyBundle) -> None:
    client = start(bundle=tiny.directory, rate_limit=0.01, rate_burst=1)
    assert [post_file(client, encode()).status_code for _ in range(2)] == [200, 429]
    neighbour = TestClient(client.app, client=("192.0.2.7", 1))
    assert post_file(neighbour, encode()).status_code == 200


def test_cors_is_closed_unless_origins_are_named(
    start: Callable[..., TestClient], tiny: TinyBundle, client: TestClient, file: Path
) -> None:
    ask = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in client.options("/detect", headers=ask).headers
    assert "access-control-allow-origin" not in client.get("/labels", headers=ask).headers
    opened = start(bundle=tiny.directory, api_keys_file=file, cors_origins="https://app.example")
    answer = opened.options("/detect", headers=ask)  # browsers ask without a key
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "https://app.example")
    assert opened.get("/labels", headers=ask).status_code == 401
    refused = opened.get("/labels", headers=ask).headers
    assert refused["access-control-allow-origin"] == "https://app.example"
    assert {"X-Prediction-Id", "X-Explained-Class", "X-Explanation-Method"} <= set(
        refused["access-control-expose-headers"].split(", ")
    )
    foreign = opened.options("/detect", headers=ask | {"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in foreign.headers


@pytest.mark.parametrize(
    ("host", "status"),
    [("good.example", 200), ("GOOD.example:8000", 200), ("a.b.example", 200), ("[::1]:80", 200), ("b.example", 421),
     ("evil.example", 421), ("good.example.evil", 421), ("", 421)],
)  # fmt: skip
def test_other_hosts_are_421_where_names_are_given(
    start: Callable[..., TestClient], tiny: TinyBundle, host: str, status: int
) -> None:
    client = start(ready=False, bundle=tiny.directory, allowed_hosts="good.example,*.b.example,::1")
    assert client.get("/healthz", headers={"Host": host}).status_code == status


def test_whom_the_gatekeeper_sends_away_is_counted_but_not_a_look_around(
    start: Callable[..., TestClient], tiny: TinyBundle
) -> None:
    client = start(bundle=tiny.directory, allowed_hosts="testserver")
    elsewhere = {"Host": "evil.example"}
    assert client.post("/detect", content=encode(), headers=elsewhere).status_code == 421
    assert client.get("/model", headers=elsewhere).status_code == 421
    with pytest.raises(WebSocketDenialResponse), client.websocket_connect("/stream", headers=elsewhere):
        pass
    assert value(client, "emotion_rejected_total", reason="unknown-host") == 2


def test_wrong_settings_are_told() -> None:
    with pytest.raises(ValidationError, match="rate_limit"):
        Settings(face_model=None, rate_limit=-1)
    assert Settings(face_model=None, rate_limit=2.5).burst == 25


def test_web_sockets_that_are_none_are_problems(client: TestClient) -> None:
    @client.app.websocket("/failing")
    async def fail(_: WebSocket) -> None:
        raise RuntimeError("a secret")

    for path, status in (("/nothing", 404), ("/failing", 500)):
        with pytest.raises(WebSocketDenialResponse) as caught, client.websocket_connect(path):
            pass
        assert caught.value.status_code == caught.value.json()["status"] == status
        assert "secret" not in caught.value.text
