"""The configuration files, and `make monitor`'s processes: they start together, work together and end together."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest
import yaml

from monitoring.local import NAMES, _parser
from monitoring.stack import TOKEN_FILE, Addresses, Times, write_configs
from tests.clone import ROOT, free_port
from tests.monitoring.programs import environment, fire, need_alertmanager, need_pushgateway
from tests.monitoring.prometheus import need_prometheus
from tests.monitoring.rule_tests import FILES
from tests.serving.processes import running
from tests.serving.tiny import wait_until, write_bundle

PROMETHEUS, ALERTMANAGER = (
    ROOT / "monitoring/prometheus/prometheus.yml",
    ROOT / "monitoring/alertmanager/alertmanager.yml",
)
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _programs() -> None:
    need_prometheus()
    need_alertmanager()
    need_pushgateway()


def check(*command: object) -> str:
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_files_pass_the_programs_own_checks(tmp_path: Path) -> None:
    write_configs(tmp_path, Addresses(server="faces.example:443"), Times(scrape="1s"), server_key=tmp_path / TOKEN_FILE)
    for prometheus, alertmanager in (
        (PROMETHEUS, ALERTMANAGER),
        (tmp_path / "prometheus.yml", tmp_path / "alertmanager.yml"),
    ):
        check("promtool", "check", "config", prometheus)
        assert "SUCCESS" in check("amtool", "check-config", alertmanager)
    assert "faces.example:443" in (tmp_path / "prometheus.yml").read_text()
    secret = (tmp_path / TOKEN_FILE).read_text()
    assert re.fullmatch("[0-9a-f]{64}", secret)
    assert (tmp_path / TOKEN_FILE).stat().st_mode & 0o077 == 0
    assert secret not in (tmp_path / "alertmanager.yml").read_text()


def test_the_interval_is_that_of_looks_and_not_of_rules(tmp_path: Path) -> None:
    """Groups of rules have intervals of their own, and that is what --help says."""
    write_configs(tmp_path, Addresses(), Times(scrape="7s"))
    written = yaml.safe_load((tmp_path / "prometheus.yml").read_text())
    assert written["global"]["scrape_interval"] == "7s"
    assert written["rule_files"] == [str(PROMETHEUS.parent / "rules/*.yml")]
    assert all("interval" in group for path in FILES.values() for group in yaml.safe_load(path.read_text())["groups"])
    help_text = " ".join(_parser().format_help().split())
    assert "rules keep theirs" in help_text


def routed(**labels: str) -> set[str]:
    """Receivers of an alert."""
    words = [f"{name}={value}" for name, value in labels.items()]
    return set(check("amtool", "config", "routes", "test", f"--config.file={ALERTMANAGER}", *words).strip().split(","))


def test_who_hears_of_what() -> None:
    assert routed(alertname="Drift", action="retrain") == {"retrain", "people"}
    assert routed(alertname="Slow", severity="warning") == {"people"}


def test_no_secret_stands_in_the_files() -> None:
    config = yaml.safe_load(ALERTMANAGER.read_text())
    receivers = {receiver["name"]: receiver for receiver in config["receivers"]}
    assert receivers["people"] == {"name": "people"}
    assert receivers["retrain"]["webhook_configs"][0]["http_config"]["authorization"]["credentials_file"] == TOKEN_FILE
    ignored = subprocess.run(["git", "check-ignore", "-q", ALERTMANAGER.with_name(TOKEN_FILE)], cwd=ROOT, check=False)
    assert ignored.returncode == 0


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """`make monitor`, on free ports; and a server to watch."""
    ports = [f"--{name}-port={free_port()}" for name in NAMES]
    return [sys.executable, "-m", "monitoring.local", f"--state={tmp_path / 'state'}", "--interval=1s", *ports]


def test_all_start_see_each_other_and_end_together(command: list[str], tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle").directory
    with running(tmp_path, "--bundle", str(bundle)) as server:
        wait_until(server.is_ready)
        command += ["--dry-run", f"--server={server.url}"]
        process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(7)]
        urls = dict(re.findall(r"^(\w+) .*?(http://[\d.]+:\d+)", "".join(lines), re.M))
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) == len(NAMES)
        wait_until(lambda: targets(urls["Prometheus"]) == {"up"}, 30)
        fire(urls["Alertmanager"], "Drift")
        audit = tmp_path / "state/retrain/dry-run/audit.jsonl"
        wait_until(audit.exists, 60)
        assert json.loads(audit.read_text().splitlines()[0])["decision"] == "dispatched"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[0].endswith("ended\n")
    assert process.returncode == 0
    assert [child for child in children if child.is_running()] == []


def targets(prometheus: str) -> set[str]:
    """States of what is scraped."""
    found = httpx.get(f"{prometheus}/api/v1/targets").json()["data"]["activeTargets"]
    return {target["health"] for target in found}


def test_they_end_where_it_is_killed(command: list[str]) -> None:
    process = subprocess.Popen([*command, "--dry-run"], cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) == len(NAMES)
    process.kill()
    process.communicate()
    psutil.wait_procs(children, timeout=30)
    assert [child for child in children if child.is_running()] == []


def test_what_is_missing_is_told(command: list[str], tmp_path: Path) -> None:
    def error(*extra: str, **variables: str) -> str:
        result = subprocess.run(
            [*command, *extra], cwd=ROOT, env=environment(**variables), capture_output=True, text=True, check=False
        )
        assert result.returncode == 1
        assert "Traceback" not in result.stderr
        return result.stderr

    assert "apt-get install" in error(PATH=str(Path(sys.executable).parent))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = error(f"--prometheus-port={taken.getsockname()[1]}")
    assert "choose --prometheus-port" in said
    assert "systemctl stop prometheus prometheus-alertmanager prometheus-pushgateway" in said
    assert "RETRAIN_COOLDOWN_SECONDS" in error(RETRAIN_COOLDOWN_SECONDS="soon")
    (tmp_path / "file").write_text("")
    assert "expected a directory" in error(f"--state={tmp_path / 'file'}")
