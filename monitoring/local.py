"""Prometheus, Alertmanager, a Pushgateway and the retrain webhook on this machine, beside `make serve`: `make monitor`.

    python -m monitoring.local --dry-run          # --help lists the options; Ctrl-C ends all

Data, logs and the copies of the configuration are kept in `.cache/monitor`. RETRAIN_* variables reach the webhook.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import requests

from emotion_detection.errors import reported
from emotion_detection.pushing import URL
from monitoring.stack import PACKAGES, TOKEN_FILE, Addresses, MonitoringError, Times, find_program, write_configs

ROOT = Path(__file__).parents[1]
READY_SECONDS, END_SECONDS = 30.0, 45.0
NAMES = ("prometheus", "alertmanager", "pushgateway", "retrain")


@dataclass(frozen=True)
class Program:
    """One of the processes."""

    name: str
    command: list[str]
    address: str
    ready: str
    """Path that answers 200 once it is ready."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Of its environment, unless they are set already."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Start everything, and end it together."""
    with reported():
        options = _parser().parse_args(arguments)
        addresses = _addresses(options)
        times = Times(scrape=options.interval, group_wait=options.interval)
        write_configs(options.state, addresses, times, options.server_key_file, options.rules)
        programs = _programs(options, addresses)
        for program in programs:
            _check_port(program)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _interrupt)
        try:
            with ExitStack() as stack:
                processes = [stack.enter_context(_running(program, options.state)) for program in programs]
                print(_welcome(addresses, options), flush=True)
                _watch(programs, processes, options.state)
        except KeyboardInterrupt:
            print("\nended", flush=True)


def _parser() -> argparse.ArgumentParser:
    default = Addresses()
    parser = argparse.ArgumentParser("python -m monitoring.local", description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--server", default=default.server, help="host:port of the server that is watched (%(default)s)")
    add("--server-key-file", type=Path, help="file with an API key, if the server wants one")
    for name in NAMES:
        port = int(getattr(default, name).rpartition(":")[2])
        add(f"--{name}-port", type=int, default=port, help="(%(default)s)")
    add("--state", type=Path, default=ROOT / ".cache/monitor", help="directory for data and logs (%(default)s)")
    add("--interval", help="between looks at the server, and before an alert is sent, such as 5s; rules keep theirs")
    add("--rules", type=Path, help="directory of rules in place of those in monitoring/prometheus/rules")
    add("--retention", default="30d", help="how long Prometheus keeps what it saw (%(default)s)")
    add("--dry-run", action="store_true", help="the webhook only says what it would do")
    return parser


def _addresses(options: argparse.Namespace) -> Addresses:
    own = {name: f"127.0.0.1:{getattr(options, f'{name}_port')}" for name in NAMES}
    return Addresses(server=options.server.removeprefix("http://").rstrip("/"), **own)


def _programs(options: argparse.Namespace, addresses: Addresses) -> list[Program]:
    """In the order in which they need each other."""
    state = options.state.resolve()
    retrain = [sys.executable, "-m", "monitoring.retrain", "--host", "127.0.0.1", "--port", str(options.retrain_port)]
    retrain += ["--state", str(state / "retrain"), "--token-file", str(state / TOKEN_FILE)]
    retrain += ["--dry-run"] if options.dry_run else []
    alertmanager = [find_program("prometheus-alertmanager", "alertmanager"), "--cluster.listen-address="]
    alertmanager += [f"--config.file={state / 'alertmanager.yml'}", f"--storage.path={state / 'alertmanager'}"]
    alertmanager += [f"--web.listen-address={addresses.alertmanager}"]
    prometheus = [find_program("prometheus"), f"--config.file={state / 'prometheus.yml'}"]
    prometheus += [f"--storage.tsdb.path={state / 'prometheus'}", f"--web.listen-address={addresses.prometheus}"]
    prometheus += [f"--storage.tsdb.retention.time={options.retention}", "--enable-feature=exemplar-storage"]
    pushgateway = [find_program("prometheus-pushgateway", "pushgateway"), f"--persistence.file={state / 'pushed'}"]
    pushgateway += [f"--web.listen-address={addresses.pushgateway}"]
    return [
        Program("pushgateway", pushgateway, addresses.pushgateway, "/-/ready"),
        Program("retrain", retrain, addresses.retrain, "/healthz", {URL: f"http://{addresses.pushgateway}"}),
        Program("alertmanager", alertmanager, addresses.alertmanager, "/-/ready"),
        Program("prometheus", prometheus, addresses.prometheus, "/-/ready"),
    ]


def _check_port(program: Program) -> None:
    host, _, port = program.address.rpartition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError as error:
            raise MonitoringError(
                f"{program.address}: {error.strerror}; end what listens there (on Debian perhaps `systemctl stop "
                f"{PACKAGES}`), or choose --{program.name}-port"
            ) from None


@contextmanager
def _running(program: Program, state: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the block ends, however it ends."""
    log = _log_file(program, state)
    log.parent.mkdir(exist_ok=True)
    # The kernel ends it, too, where this process is killed. In a session of its own Ctrl-C reaches it through us alone.
    leash = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
    variables = {**program.variables, **os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}
    variables["PATH"] = f"{ROOT / '.venv/bin'}{os.pathsep}{variables.get('PATH', '')}"
    variables.pop("RETRAIN_TOKEN", None)  # it would win over the file that Alertmanager reads
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*leash, *program.command], env=variables, stdout=output, stderr=output, cwd=ROOT, start_new_session=True
        )
    try:
        _wait_until_ready(program, process, log)
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_until_ready(program: Program, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + READY_SECONDS
    while not _answers(f"http://{program.address}{program.ready}"):
        if process.poll() is not None or time.monotonic() > end:
            raise MonitoringError(f"{program.name} does not start:\n{_tail(log)}\nSee {log}")
        time.sleep(0.1)


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).status_code == 200
    except requests.RequestException:
        return False


def _watch(programs: Sequence[Program], processes: Sequence[subprocess.Popen[bytes]], state: Path) -> None:
    """Until one of them ends."""
    while True:
        for program, process in zip(programs, processes, strict=True):
            if process.poll() is not None:
                tail = _tail(_log_file(program, state))
                raise MonitoringError(f"{program.name} ended with status {process.returncode}:\n{tail}")
        time.sleep(0.5)


def _welcome(addresses: Addresses, options: argparse.Namespace) -> str:
    lines = [
        f"Prometheus     http://{addresses.prometheus}    alerts: /alerts, what is scraped: /targets",
        f"Alertmanager   http://{addresses.alertmanager}",
        f"Pushgateway    http://{addresses.pushgateway}    {URL}=http://{addresses.pushgateway} make run",
        f"retrain        http://{addresses.retrain}/metrics    {'says what it would do' if options.dry_run else ''}",
        f"what was done  {options.state / 'retrain'}{'/dry-run' if options.dry_run else ''}/audit.jsonl",
        f"server         http://{addresses.server}    {_server_state(addresses.server)}",
        "Ctrl-C ends all.",
    ]
    return "\n".join(line.rstrip() for line in lines)


def _server_state(address: str) -> str:
    if _answers(f"http://{address}/healthz"):
        return "answers"
    return "does not answer yet: `make serve` in another terminal"


def _log_file(program: Program, state: Path) -> Path:
    return state / "logs" / f"{program.name}.log"


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-8:])


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # once is enough: what is running is being ended
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
