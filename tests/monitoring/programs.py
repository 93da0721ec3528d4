"""The webhook and Alertmanager as processes of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from monitoring.stack import TOKEN_FILE, Addresses, Times, find_program, write_configs
from tests.clone import ROOT, free_port, wait_for

SECRET = "0123456789abcdef0123456789abcdef"
HASTE = Times(scrape="1s", group_wait="0s", group_interval="1s", repeat_interval="1s")


def environment(**extra: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RETRAIN_", "EMOTION_"))}
    clean.pop("PYTHONDONTWRITEBYTECODE", None)
    return clean | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}", "RETRAIN_TOKEN": SECRET} | extra


@dataclass
class Webhook:
    """A webhook that can be killed and started again, with its state."""

    directory: Path
    options: dict[str, str]
    """RETRAIN_* variables."""
    python: str = sys.executable

    def __post_init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = self.directory / "webhook.log"

    def start(self) -> None:
        command = [self.python, "-m", "monitoring.retrain", "--port", str(self.port), "--state", "state"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.directory, env=environment(**self.options), stdout=log, stderr=log
            )
        wait_for(f"{self.url}/healthz")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(30)

    def post(self, content: object, token: str = SECRET) -> httpx.Response:
        return httpx.post(f"{self.url}/alerts", json=content, headers={"Authorization": f"Bearer {token}"}, timeout=20)

    def value(self, metric: str, **labels: str) -> float:
        """Of a series of /metrics."""
        families = text_string_to_metric_families(httpx.get(f"{self.url}/metrics").text)
        samples = [sample for family in families for sample in family.samples]
        return next(s.value for s in samples if s.name == metric and s.labels == labels)

    def decisions(self, decision: str) -> float:
        return self.value("emotion_retrain_decisions_total", decision=decision)

    def audit(self) -> str:
        return (self.directory / "state/audit.jsonl").read_text()


def need_alertmanager() -> None:
    """Skip the test where there is no Alertmanager."""
    names = ("prometheus-alertmanager", "alertmanager")
    if not any(map(shutil.which, names)) or shutil.which("amtool") is None:
        pytest.skip("no Alertmanager: `apt-get install prometheus-alertmanager`")


def need_pushgateway() -> None:
    """Skip the test where there is no Pushgateway."""
    if not any(map(shutil.which, ("prometheus-pushgateway", "pushgateway"))):
        pytest.skip("no Pushgateway: `apt-get install prometheus-pushgateway`")


@contextmanager
def pushgateway(directory: Path, *options: str) -> Iterator[str]:
    """Run a real Pushgateway, whose groups may be wiped; its URL."""
    need_pushgateway()
    directory.mkdir(exist_ok=True)
    address = f"127.0.0.1:{free_port()}"
    command = [find_program("prometheus-pushgateway", "pushgateway"), "--web.enable-admin-api", *options]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)
    try:
        wait_for(f"http://{address}/-/ready")
        yield f"http://{address}"
    finally:
        process.kill()
        process.wait()


@contextmanager
def webhook(directory: Path, python: str = sys.executable, **options: object) -> Iterator[Webhook]:
    """Run the webhook until the block ends, with these RETRAIN_* settings."""
    variables = {f"RETRAIN_{name.upper()}": str(value) for name, value in options.items()}
    running = Webhook(directory, variables, python)
    running.start()
    try:
        yield running
    finally:
        running.kill()


@contextmanager
def alertmanager(directory: Path, retrain: str, times: Times = HASTE) -> Iterator[str]:
    """Run a real Alertmanager with the repository's configuration; its URL.

    Args:
        retrain: URL of the webhook.
    """
    need_alertmanager()
    addresses = Addresses(alertmanager=f"127.0.0.1:{free_port()}", retrain=retrain.removeprefix("http://"))
    directory.mkdir()
    (directory / TOKEN_FILE).write_text(SECRET)
    write_configs(directory, addresses, times)
    command = [find_program("prometheus-alertmanager", "alertmanager"), "--cluster.listen-address="]
    command += [f"--config.file={directory / 'alertmanager.yml'}", f"--storage.path={directory / 'data'}"]
    command += [f"--web.listen-address={addresses.alertmanager}"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for(f"http://{addresses.alertmanager}/-/ready")
        yield f"http://{addresses.alertmanager}"
    finally:
        process.kill()
        process.wait()


def fire(url: str, name: str, started: datetime | None = None, **labels: str) -> None:
    """Post an alert to Alertmanager, as Prometheus does."""
    alert = {
        "labels": {"alertname": name, "job": name, "action": "retrain"} | labels,
        "annotations": {"summary": f"{name} drifts"},
        "startsAt": (started or datetime.now(UTC)).isoformat(),
    }
    httpx.post(f"{url}/api/v2/alerts", json=[alert]).raise_for_status()


def notification(name: str = "Drift", **changes: Any) -> dict[str, Any]:
    """What Alertmanager posts of one alert."""
    alert = {
        "status": "firing",
        "labels": {"alertname": name, "action": "retrain"},
        "annotations": {"summary": "it drifts"},
        "startsAt": "2026-03-01T10:00:00.123456789Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus/graph",
        "fingerprint": name.encode().hex()[:16],
    }
    whole = {
        "version": "4",
        "groupKey": '{}/{action="retrain"}:{}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "retrain",
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager",
        "alerts": [alert | changes.pop("alert", {})],
    }
    return whole | changes
