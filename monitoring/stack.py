"""Prometheus' and Alertmanager's configuration with other addresses, and their programs.

write_configs(Path(".cache/monitor"), Addresses(), times=Times())
"""

from __future__ import annotations

import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from emotion_detection.errors import EmotionError

HERE = Path(__file__).parent
PACKAGES = "prometheus prometheus-alertmanager prometheus-pushgateway"
TOKEN_FILE = "retrain-token"  # noqa: S105  (its name)
_JOBS = {
    "emotion-server": "server",
    "emotion-retrain": "retrain",
    "emotion-pipeline": "pushgateway",
    "alertmanager": "alertmanager",
    "prometheus": "prometheus",
}
"""Jobs of prometheus.yml, and what of `Addresses` each of them scrapes."""


class MonitoringError(EmotionError):
    """A program or a port that monitoring needs is not to be had."""


@dataclass(frozen=True)
class Addresses:
    """host:port of everything."""

    server: str = "127.0.0.1:8000"
    prometheus: str = "127.0.0.1:9090"
    alertmanager: str = "127.0.0.1:9093"
    retrain: str = "127.0.0.1:9095"
    pushgateway: str = "127.0.0.1:9091"


@dataclass(frozen=True)
class Times:
    """Durations in place of those in the files; none: as they are."""

    scrape: str | None = None
    group_wait: str | None = None
    group_interval: str | None = None
    repeat_interval: str | None = None


def find_program(*names: str) -> str:
    """The first of these programs that is installed.

    Raises:
        MonitoringError: none is.
    """
    for name in names:
        if found := shutil.which(name):
            return found
    raise MonitoringError(f"{names[0]} is not installed; on Debian: apt-get install --no-install-recommends {PACKAGES}")


def write_configs(
    folder: Path, addresses: Addresses, times: Times, server_key: Path | None = None, rules: Path | None = None
) -> None:
    """Write `prometheus.yml`, `alertmanager.yml` and the token that the latter names; a token that is there stays.

    Args:
        server_key: file with the API key for the server's /metrics, where it wants one.
        rules: directory of rules in place of ours.

    Raises:
        MonitoringError: the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "prometheus.yml", prometheus_config(addresses, times, server_key, rules))
        _write(folder / "alertmanager.yml", alertmanager_config(addresses, times))
        if not (folder / TOKEN_FILE).exists():
            file = os.open(folder / TOKEN_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(file, "w") as stream:
                stream.write(secrets.token_hex(32))
    except OSError as error:
        raise MonitoringError(f"{folder}: {error.strerror}; expected a directory to write to") from None


def prometheus_config(
    addresses: Addresses, times: Times, server_key: Path | None = None, rules: Path | None = None
) -> dict[str, Any]:
    """`prometheus/prometheus.yml` with these addresses."""
    config = _read(HERE / "prometheus/prometheus.yml")
    if times.scrape:
        config["global"] = dict.fromkeys(("scrape_interval", "evaluation_interval"), times.scrape)
    ours = [(HERE / "prometheus" / pattern).resolve() for pattern in config["rule_files"]]
    config["rule_files"] = [str(rules.resolve() / "*.yml")] if rules else [str(pattern) for pattern in ours]
    config["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [addresses.alertmanager]}]}]
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    for job, name in _JOBS.items():
        jobs[job]["static_configs"] = [{"targets": [getattr(addresses, name)]}]
    if server_key:
        jobs["emotion-server"]["authorization"] = {"type": "Bearer", "credentials_file": str(server_key.resolve())}
    return config


def alertmanager_config(addresses: Addresses, times: Times) -> dict[str, Any]:
    """`alertmanager/alertmanager.yml` with these addresses; in it the token's file is beside it."""
    config = _read(HERE / "alertmanager/alertmanager.yml")
    for name in ("group_wait", "group_interval", "repeat_interval"):
        if value := getattr(times, name):
            for route in (config["route"], *config["route"]["routes"]):
                route[name] = value
    receiver = next(item for item in config["receivers"] if item["name"] == "retrain")
    receiver["webhook_configs"][0]["url"] = f"http://{addresses.retrain}/alerts"
    return config


def _read(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text()))


def _write(path: Path, config: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(config, sort_keys=False))
