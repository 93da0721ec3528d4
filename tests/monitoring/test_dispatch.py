"""Real Alertmanager -> webhook -> stand-in for GitHub: one dispatch for each incident, whatever fails on the way."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from monitoring.stack import TOKEN_FILE
from tests.monitoring.github import REPOSITORY, TOKEN, Answer, GitHub, says
from tests.monitoring.programs import SECRET, Webhook, alertmanager, fire, notification, webhook
from tests.serving.tiny import wait_until

QUICK = {"target": "github", "github_repository": REPOSITORY, "github_token": TOKEN} | {
    "settle_seconds": 0.2,
    "repair_seconds": 0.5,
    "timeout_seconds": 0.5,
    "cooldown_seconds": 0,
}
pytestmark = pytest.mark.slow


@pytest.fixture
def github() -> Iterator[GitHub]:
    server = GitHub()
    server.up()
    yield server
    server.down()


@pytest.fixture
def hook(github: GitHub, tmp_path: Path) -> Iterator[Webhook]:
    with webhook(tmp_path, github_url=github.url, **QUICK) as running:
        yield running


@pytest.fixture
def manager(hook: Webhook, tmp_path: Path) -> Iterator[str]:
    with alertmanager(tmp_path / "alertmanager", hook.url) as url:
        yield url


def wait_for_repeats(hook: Webhook, name: str, github: GitHub) -> None:
    """Until the alert was dispatched, and repeated twice since."""
    wait_until(lambda: github.alerts(name) > 0, 30)
    before = hook.decisions("duplicate")
    wait_until(lambda: hook.decisions("duplicate") >= before + 2, 30)


def test_one_dispatch_for_each_incident_whatever_github_says_first(manager: str, hook: Webhook, github: GitHub) -> None:
    failures: dict[str, Answer] = {
        "server": says(500),
        "unauthorized": says(401),
        "forbidden": says(403),
        "not-found": says(404),
        "refused": says(422),
        "rate-limited": says(429, **{"Retry-After": "2"}),
    }
    fire(manager, "Quiet", action="page")
    fire(manager, "Up")
    wait_for_repeats(hook, "Up", github)
    for reason, answer in failures.items():
        github.failures.append(answer)
        github.asked.clear()
        fire(manager, reason)
        wait_until(lambda name=reason: github.alerts(name) == 1, 30)
        assert len(github.asked) == 2, reason
        assert hook.value("emotion_retrain_failures_total", reason=reason) == 1
    assert github.asked[1] - github.asked[0] >= 2, "Retry-After"
    wait_for_repeats(hook, "rate-limited", github)
    assert len(github.events) == len(set(github.incidents())) == 7
    assert hook.decisions("dispatched") == 7
    assert github.alerts("Quiet") == 0
    assert github.events[0]["event_type"] == "retrain"
    assert github.events[0]["client_payload"]["alerts"][0]["summary"] == "Up drifts"


def test_a_server_that_is_down_is_no_reason_to_retrain(manager: str, hook: Webhook, github: GitHub) -> None:
    fire(manager, "Down", job="shop", instance="shop:1", action="page", inhibits="drift")
    fire(manager, "Drift", job="shop")
    fire(manager, "Elsewhere")
    wait_for_repeats(hook, "Elsewhere", github)
    assert github.alerts("Drift") == 0


def test_a_budget_that_burns_fast_is_not_told_twice(manager: str) -> None:
    fire(manager, "EmotionBudgetBurnsFast", job="shop", slo="latency", window="1h", action="page")
    for job, slo in (("shop", "latency"), ("shop", "availability"), ("elsewhere", "latency")):
        fire(manager, "EmotionBudgetBurnsSlowly", job=job, slo=slo, window="1d", action="page")

    def inhibited() -> list[tuple[str, ...]]:
        found = httpx.get(f"{manager}/api/v2/alerts").raise_for_status().json()
        silent = [alert["labels"] for alert in found if alert["status"]["inhibitedBy"]]
        return [tuple(labels[name] for name in ("alertname", "job", "slo")) for labels in silent]

    wait_until(lambda: inhibited() != [], 30)
    assert inhibited() == [("EmotionBudgetBurnsSlowly", "shop", "latency")]


def test_another_token_is_refused_again_and_again_until_it_is_put_right(
    manager: str, hook: Webhook, github: GitHub, tmp_path: Path
) -> None:
    """As the alert EmotionRetrainRejected and its entry in the runbook expect."""
    token = tmp_path / "alertmanager" / TOKEN_FILE
    right = token.read_text()
    token.write_text("another")
    fire(manager, "Refused")
    wait_until(lambda: hook.value("emotion_retrain_rejected_total", reason="unauthorized") >= 3, 30)
    assert github.alerts("Refused") == 0
    token.write_text(right)
    wait_until(lambda: github.alerts("Refused") == 1, 30)


def test_github_is_away_at_first_and_two_alertmanagers_tell_of_the_same(
    manager: str, hook: Webhook, github: GitHub, tmp_path: Path
) -> None:
    github.down()
    started = datetime.now(UTC)
    with alertmanager(tmp_path / "second", hook.url) as second:
        for url in (manager, second):
            fire(url, "Away", started)
        wait_until(lambda: hook.value("emotion_retrain_failures_total", reason="network") >= 2, 30)
        github.up()
        wait_for_repeats(hook, "Away", github)
    assert len(github.events) == 1


def test_sixteen_at_once_make_one_dispatch(hook: Webhook, github: GitHub) -> None:
    github.hang = 0.3
    with ThreadPoolExecutor(16) as pool:
        statuses = [answer.status_code for answer in pool.map(hook.post, [notification()] * 16)]
    assert sorted(statuses) == [200] * 15 + [202]
    assert len(github.events) == 1


@pytest.mark.parametrize("arrives", [True, False])
def test_killed_while_it_dispatches(manager: str, hook: Webhook, github: GitHub, arrives: bool) -> None:
    if arrives:
        github.hang = 0.4
    else:
        github.failures.append(lambda: (time.sleep(0.4), says(500)())[1])
    fire(manager, "Killed")
    wait_until(lambda: len(github.asked) == 1, 10)
    hook.kill()
    assert len(github.events) == arrives
    hook.start()
    wait_for_repeats(hook, "Killed", github)
    assert len(github.events) == 1
    assert ('"found"' in hook.audit()) == arrives


def test_an_answer_that_does_not_come_is_looked_for(manager: str, hook: Webhook, github: GitHub) -> None:
    github.hang = 2.0
    fire(manager, "Hangs")
    wait_for_repeats(hook, "Hangs", github)
    assert hook.value("emotion_retrain_failures_total", reason="network") == 1
    assert len(github.events) == 1


def test_the_cooldown_survives_a_restart_and_no_secret_is_written(github: GitHub, tmp_path: Path) -> None:
    with webhook(tmp_path, github_url=github.url, **(QUICK | {"cooldown_seconds": 3600})) as hook:
        assert hook.post(notification("First")).json()["decision"] == "dispatched"
        hook.kill()
        hook.start()
        assert hook.post(notification("First")).json()["decision"] == "duplicate"
        answer = hook.post(notification("Second"))
        assert (answer.status_code, answer.json()["decision"]) == (200, "cooling-down")
        assert 3500 < hook.value("emotion_retrain_cooldown_seconds") <= 3600
        assert abs(hook.value("emotion_retrain_last_dispatch_timestamp_seconds") - time.time()) < 60
        lines = [json.loads(line) for line in hook.audit().splitlines()]
        written = hook.audit() + hook.log.read_text()
    assert [line["decision"] for line in lines] == ["dispatched", "duplicate", "cooling-down"]
    assert lines[0]["alerts"][0]["labels"]["alertname"] == "First"
    assert len(github.events) == 1
    assert SECRET not in written
    assert TOKEN not in written


def test_a_dry_run_asks_nobody(github: GitHub, tmp_path: Path) -> None:
    with webhook(tmp_path, github_url=github.url, dry_run="true", **(QUICK | {"github_token": ""})) as hook:
        assert f"would POST {github.url}" in hook.post(notification()).json()["why"]
        assert hook.post(notification()).json()["decision"] == "duplicate"
    assert github.asked == []
    assert not (tmp_path / "state/state.db").exists()
