"""What the webhook takes, and what it refuses; which settings it starts with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from monitoring.retrain.app import create_app
from monitoring.retrain.errors import SettingsError
from monitoring.retrain.payload import MAX_BYTES
from monitoring.retrain.settings import Settings, load_settings
from tests.monitoring.programs import SECRET, notification

ALLOWED = {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    folder = tmp_path_factory.mktemp("requests")
    return TestClient(create_app(Settings(token=SECRET, dry_run=True, state=folder)), raise_server_exceptions=False)


def post(client: TestClient, content: object, **headers: str) -> tuple[int, dict[str, Any]]:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    answer = client.post("/alerts", content=body, headers=ALLOWED | headers)
    if answer.status_code >= 400:
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code
    return answer.status_code, answer.json()


@pytest.mark.parametrize(
    "shown", ["", "Bearer", "Bearer wrong", f"Basic {SECRET}", f"Bearer {SECRET}x", f"bearer {SECRET[:-1]}", "Bearer é"]
)
def test_a_wrong_token_is_refused(client: TestClient, shown: str) -> None:
    headers = {"Authorization": shown.encode()} | {"Content-Type": b"application/json"}
    answer = client.post("/alerts", json=notification(), headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert SECRET not in answer.text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"\xff\xfe", "JSON"),
        ([], "object"),
        (notification(version="3"), "version"),
        (notification(alerts=[{}]), "alerts.0.status"),
        (notification(alert={"startsAt": "yesterday"}), "startsAt"),
        (notification(alert={"startsAt": "2026-03-01T10:00:00"}), "startsAt"),
        (notification(alert={"fingerprint": "../x"}), "fingerprint"),
        (notification(alert={"labels": {"a": 1}}), "labels"),
        (notification(alerts=[notification()["alerts"][0]] * 1001), "alerts"),
    ],
)
def test_a_bad_payload_is_refused(client: TestClient, content: object, says: str) -> None:
    status, problem = post(client, content)
    assert status == 422
    assert says in problem["detail"]


def test_other_requests_are_refused(client: TestClient) -> None:
    assert post(client, notification(), **{"Content-Type": "text/plain"})[0] == 415
    assert post(client, b" " * (MAX_BYTES + 1))[0] == 413
    for method, path, status in (("GET", "/alerts", 405), ("GET", "/nothing", 404)):
        answer = client.request(method, path)
        assert (answer.status_code, answer.json()["status"]) == (status, status)


def test_what_asks_for_nothing_is_ignored(client: TestClient) -> None:
    for changes in ({"status": "resolved"}, {"labels": {"alertname": "Down"}}, {"labels": {"action": "page"}}):
        status, answer = post(client, notification(alert=changes, status=changes.get("status", "firing")))
        assert (status, answer["decision"]) == (200, "ignored")


def test_a_new_alert_of_the_group_and_a_new_start_are_new_incidents(tmp_path: Path) -> None:
    client = TestClient(create_app(Settings(dry_run=True, state=tmp_path, cooldown_seconds=0)))
    first, other = (notification(name)["alerts"][0] for name in ("First", "Other"))
    again = first | {"startsAt": "2026-03-02T10:00:00Z"}
    seen = [
        post(client, notification(alerts=alerts))[1] for alerts in ([first], [first, first], [other, first], [again])
    ]
    assert [answer["decision"] for answer in seen] == ["dispatched", "duplicate", "dispatched", "dispatched"]
    assert len({answer["incident"] for answer in seen}) == 3


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
FIELDS = sorted(notification()), sorted(notification()["alerts"][0])


@hypothesis_settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(JSON, st.sampled_from(FIELDS[0]), st.sampled_from(FIELDS[1]), st.booleans())
def test_nothing_that_is_posted_makes_it_fail(
    client: TestClient, value: object, outer: str, inner: str, inside: bool
) -> None:
    content = notification(alert={inner: value}) if inside else notification(**{outer: value})
    assert post(client, content)[0] in (200, 202, 422)
    assert post(client, value)[0] == 422


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--host", "0.0.0.0"], "RETRAIN_TOKEN_FILE"),
        (["--token", SECRET], "every user of this machine"),
        (["--github-token=x"], "RETRAIN_GITHUB_TOKEN_FILE"),
        (["--token-file", "gone"], "gone: cannot be read"),
        (["--token-file", "short"], "at least 16 characters"),
        (["--target", "github"], "RETRAIN_GITHUB_REPOSITORY"),
        (["--github-url", "http://github.example"], "expected https"),
        (["--event-type", "x" * 101], "100 characters"),
        (["--github-repository", "a/b/c"], "RETRAIN_GITHUB_REPOSITORY"),
        (["--command", " "], "expected a command"),
        (["--command", "a 'b"], "quotation"),
        (["--port", "70000"], "65535"),
    ],
)
def test_settings_that_do_not_fit_are_named(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("short").write_text("abc\n")
    with pytest.raises(SettingsError, match=says):
        load_settings(arguments)


def test_a_misspelt_variable_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRAIN_SERVICE_HOST", "10.0.0.7")  # Kubernetes's, for a service of that name
    load_settings()
    monkeypatch.setenv("RETRAIN_COOLDOWN_SECOND", "60")
    with pytest.raises(SettingsError, match="did you mean RETRAIN_COOLDOWN_SECONDS"):
        load_settings()


def test_a_token_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(SECRET)
    client = TestClient(create_app(Settings(token_file=file, dry_run=True, state=tmp_path)))
    assert client.post("/alerts", json=notification(), headers=ALLOWED).status_code == 202
    file.write_text(SECRET[::-1])
    assert client.post("/alerts", json=notification(), headers=ALLOWED).status_code == 401
    file.unlink()
    assert client.post("/alerts", json=notification(), headers=ALLOWED).status_code == 503
