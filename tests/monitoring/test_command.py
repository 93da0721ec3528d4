"""The target on this machine: a real command, one at a time, whatever happens to the webhook."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.clone import ROOT
from tests.monitoring.programs import Webhook, environment, notification, webhook
from tests.serving.tiny import wait_until

SLIM = ROOT / ".venv-serve/bin/python"
pytestmark = pytest.mark.slow


def python(program: str) -> str:
    return shlex.join([sys.executable, "-c", program])


def is_waiting(path: Path) -> bool:
    return path.exists() and path.read_text() != ""


WAITS = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"


def ended(hook: Webhook, result: str) -> float:
    return hook.value("emotion_retrain_commands_ended_total", result=result)


def test_a_command_runs_and_its_end_is_told(tmp_path: Path) -> None:
    program = "import os; print('retrained because of', os.environ['RETRAIN_INCIDENT'], 'RETRAIN_TOKEN' in os.environ)"
    interpreter = str(SLIM) if SLIM.exists() else sys.executable  # without TensorFlow
    with webhook(tmp_path, interpreter, command=python(program)) as hook:
        answer = hook.post(notification())
        assert answer.status_code == 202
        wait_until(lambda: ended(hook, "succeeded") == 1, 20)
        assert hook.post(notification()).json()["decision"] == "duplicate"
        assert hook.value("emotion_retrain_commands_running") == 0
        (log,) = (tmp_path / "state/logs").glob("*.log")
    assert log.read_text() == f"retrained because of {answer.json()['incident']} False\n"


def test_the_webhook_as_documented_finds_emotion(tmp_path: Path) -> None:
    """It runs in the server's environment, which has no such command."""
    text = (ROOT / "docs/retraining.md").read_text()
    [variables] = re.findall(r"^(.*)\.venv-serve/bin/python -m monitoring\.retrain\b", text, re.M)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    command = ["sh", "-c", f"{variables} sh -c 'command -v emotion'"]
    clean = {"PATH": "/usr/bin:/bin"}
    found = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True, check=False)
    assert found.stdout == f"{tmp_path}/.venv/bin/emotion\n"


def test_one_that_fails_is_told_and_may_be_asked_for_again(tmp_path: Path) -> None:
    with webhook(tmp_path, command=python("raise SystemExit(3)"), cooldown_seconds=0) as hook:
        for number in (1, 2):
            assert hook.post(notification()).status_code == 202
            wait_until(lambda number=number: ended(hook, "failed") == number, 20)
        assert "status 3" in hook.audit()


def test_one_that_cannot_start_is_told_to_alertmanager(tmp_path: Path) -> None:
    with webhook(tmp_path, command="no-such-program --at all", repair_seconds=0) as hook:
        answers = [hook.post(notification()) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [503, 503]
    assert "no-such-program" in answers[1].json()["detail"]


def test_it_outlives_a_killed_webhook_and_another_one_does_not_start(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with webhook(tmp_path, command=python(WAITS), cooldown_seconds=0, repair_seconds=0) as hook:
        assert hook.post(notification("First")).status_code == 202
        wait_until(lambda: is_waiting(pid), 20)
        hook.kill()
        process = psutil.Process(int(pid.read_text()))
        hook.start()
        assert process.is_running()
        assert hook.value("emotion_retrain_commands_running") == 1
        assert hook.post(notification("First")).json()["decision"] == "duplicate"
        busy = hook.post(notification("Second"))
        assert (busy.status_code, "busy" in busy.json()["detail"]) == (503, True)
        process.kill()
        wait_until(lambda: ended(hook, "unknown") == 1, 20)
        assert hook.post(notification("Second")).status_code == 202
        hook.end()


def test_it_ends_with_a_webhook_that_is_ended_and_starts_again_when_asked(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with webhook(tmp_path, command=python(WAITS)) as hook:
        hook.post(notification())
        wait_until(lambda: is_waiting(pid), 20)
        first = psutil.Process(int(pid.read_text()))
        hook.end()
        assert not first.is_running()
        assert "interrupted" in hook.audit()
        pid.unlink()
        hook.start()
        assert hook.post(notification()).status_code == 202
        wait_until(lambda: is_waiting(pid), 20)
        hook.end()
        assert not psutil.pid_exists(int(pid.read_text()))


def test_a_mistake_is_told_without_a_trace(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-m", "monitoring.retrain", "--state", "file"]
    result = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("error: RETRAIN_STATE or --state: file: ")
    assert "Traceback" not in result.stderr
