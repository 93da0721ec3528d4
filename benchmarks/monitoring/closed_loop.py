"""From the first shifted face to the first answer of a retrained model, every step timed, under traffic.

    python -m benchmarks.monitoring.closed_loop                # about ten minutes; trains twice

In a clone a small model is trained on drawn faces and promoted. `python -m monitoring.local` watches its server, with
our rules, whose windows and waits are seconds instead of minutes. The light goes out; labelled dark faces are added to
the data set, as somebody would who has seen them; from then on nobody touches anything: Prometheus sees the drift,
Alertmanager tells the webhook, the webhook runs `emotion run`, the gate compares old and new, the server swaps.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, TypeVar

import httpx
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.monitoring.project import Project, add_faces, dark_faces, small_project
from emotion_detection.params import load_params
from emotion_detection.replay import Phase, drawn_faces, phases, read_pool
from emotion_detection.sending import Tally, send
from monitoring.local import NAMES
from tests.clone import ROOT, free_port
from tests.serving.processes import running

Found = TypeVar("Found")
RULES = ROOT / "monitoring/prometheus/rules"
WINDOW = 20
"""Seconds over which drift is measured."""
PATIENCE = 900.0


@dataclass
class Loop:
    """What was seen, in seconds after the first shifted face."""

    steps: dict[str, float]
    alert: str
    """The first one that asked for a retraining."""
    early: list[str]
    """Alerts that fired although nothing had changed."""
    tallies: list[Tally]

    @property
    def failed(self) -> int:
        """Requests without an answer."""
        return sum(tally.failures.total() for tally in self.tallies)


def hasten(folder: Path, window: int = WINDOW, least: int = 300, files: Sequence[str] = ("*drift.yml",)) -> Path:
    """Our rules with short windows and waits.

    Args:
        folder: to write to.
        window: seconds in place of an hour, and of a day.
        least: faces below which there is no value.
        files: patterns of those that are hastened; by default about drift alone.
    """
    folder.mkdir()
    for file in [file for pattern in files for file in RULES.glob(pattern)]:
        text = re.sub(r"\[(1h|1d)\]", f"[{window}s]", file.read_text())
        text = re.sub(r"\bfor: \w+", "for: 2s", re.sub(r"\binterval: \w+", "interval: 1s", text))
        (folder / file.name).write_text(re.sub(r">= 300\b", f">= {least}", text))
    return folder


def run_loop(  # noqa: PLR0913  (each a quantity of its own)
    project: Project, plan: list[Phase], folder: Path, *, rate: float, rules: Path, after: float = 5.0
) -> Loop:
    """Send both phases, the second one until a new version answers.

    Args:
        folder: for what the programs keep, and their logs.
        after: seconds for which faces are still sent when the new version has answered.
    """
    environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{project.directory / 'mlruns/mlflow.db'}"}
    with ExitStack() as stack:
        options = ("--poll-seconds", "0.2", "--model", load_params(project.directory / "params.yaml").registry.model)
        server = stack.enter_context(running(project.directory, *options, **environment))
        wait_until(server.is_ready, 120, "the server")
        watched = stack.enter_context(monitored(project, server.url, folder, rules))
        threads = stack.enter_context(ThreadPoolExecutor(1))
        baseline, shifted = plan
        before = send(server.url, baseline, rate)
        early, old = firing(watched.prometheus), version(server.url)
        done, start = threading.Event(), time.time()
        stack.callback(done.set)
        under_way = threads.submit(send, server.url, until(shifted, done), rate)
        steps, alert = follow(watched, server.url, old, start)
        time.sleep(after)
        done.set()
        return Loop({step: when - start for step, when in steps.items()}, alert, early, [before, under_way.result()])


@dataclass(frozen=True)
class Watched:
    """Monitoring that runs."""

    prometheus: str
    audit: Path

    def decided(self, decision: str) -> dict[str, Any] | None:
        """The first line of the audit log with this decision."""
        lines = self.audit.read_text().splitlines() if self.audit.exists() else []
        return next((line for line in map(json.loads, lines) if line["decision"] == decision), None)


@contextmanager
def monitored(project: Project, server: str, folder: Path, rules: Path) -> Iterator[Watched]:
    """`make monitor`, on free ports."""
    ports = {name: free_port() for name in NAMES}
    command = [sys.executable, "-m", "monitoring.local", "--server", server, "--state", str(folder), "--interval=1s"]
    command += [f"--rules={rules}", *(f"--{name}-port={port}" for name, port in ports.items())]
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("RETRAIN_", "MLFLOW_"))}
    variables |= {"RETRAIN_COMMAND": project.command, "RETRAIN_DIRECTORY": str(project.directory)}
    process = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise RuntimeError("monitoring did not start, see above")
        yield Watched(f"http://127.0.0.1:{ports['prometheus']}", folder / "retrain/audit.jsonl")
    finally:
        process.terminate()
        process.communicate(timeout=120)


def follow(watched: Watched, server: str, old: str, start: float) -> tuple[dict[str, float], str]:
    """When each step was seen, seconds since 1970, and the name of the alert."""
    alerts = wait_until(lambda: firing(watched.prometheus), PATIENCE, "an alert")
    steps = {"first shifted face": start, f"alert {alerts[0]} fires": time.time()}
    sent = wait_until(lambda: watched.decided("dispatched"), PATIENCE, "the webhook")
    steps["the webhook starts the retraining"] = moment(sent)
    wait_until(lambda: version(server) != old or watched.decided("failed"), PATIENCE, "a new version")
    if failed := watched.decided("failed"):
        raise RuntimeError(f"the retraining failed: {failed['why']}")
    answered = time.time()
    ended = wait_until(lambda: watched.decided("succeeded"), PATIENCE, "the end of the retraining")
    steps |= {"the new champion answers": answered, "the retraining has ended": moment(ended)}
    return steps, alerts[0]


def moment(line: Mapping[str, Any]) -> float:
    """Time of a line of the audit log, seconds since 1970."""
    return datetime.fromisoformat(line["time"]).timestamp()


def firing(prometheus: str) -> list[str]:
    """Alerts that ask for a retraining now."""
    alerts = httpx.get(f"{prometheus}/api/v1/alerts").json()["data"]["alerts"]
    wanted = (alert for alert in alerts if alert["labels"].get("action") == "retrain")
    return sorted({alert["labels"]["alertname"] for alert in wanted if alert["state"] == "firing"})


def version(server: str) -> str:
    """Of the model that answers."""
    return str(httpx.get(f"{server}/model", timeout=60).json()["version"])


def until(phase: Phase, done: threading.Event) -> Phase:
    """The phase, cut short by an event."""
    return Phase(phase.name, phase.count, lambda: takewhile(lambda _: not done.is_set(), phase.faces()))


def wait_until(look: Callable[[], Found], seconds: float, what: str) -> Found:
    """What it is that is not false at last."""
    end = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > end:
            raise RuntimeError(f"{what} did not come within {seconds:.0f} s")
        time.sleep(0.05)
    return found


def main(
    faces: Annotated[int, typer.Option(help="In the data set, before and after.")] = 2400,
    rate: Annotated[float, typer.Option(help="Faces per second.")] = 40.0,
    folder: Annotated[Path | None, typer.Option(help="Kept; by default a temporary one.")] = None,
) -> None:
    """Run the loop once and print when each step was reached."""
    with tempfile.TemporaryDirectory() as temporary:
        root = (folder or Path(temporary)).resolve()
        root.mkdir(parents=True, exist_ok=True)
        project = small_project(root, faces)
        pool = read_pool(drawn_faces(seed=2))
        reference = dict.fromkeys(pool, 1 / len(pool))
        plan = phases("dark-room", pool, reference, baseline=round(3 * WINDOW * rate), shifted=10**6, seed=0)
        labelled = list(dark_faces(faces))
        plan[1] = with_labels(plan[1], lambda: add_faces(root / "faces", iter(labelled)))
        loop = run_loop(project, plan, root / "monitor", rate=rate, rules=hasten(root / "rules"))
    report(loop)


def with_labels(phase: Phase, arrive: Callable[[], None]) -> Phase:
    """The phase; labelled faces arrive with its first one."""

    def faces() -> Iterator[tuple[str, bytes]]:
        arrive()
        yield from phase.faces()

    return Phase(phase.name, phase.count, faces)


def report(loop: Loop) -> None:
    """Print it; exit status 1 where a request failed or an alert came too early."""
    table = Table("step", "s after the first shifted face", title="Closed loop")
    for step, seconds in loop.steps.items():
        table.add_row(step, f"{seconds:.1f}")
    answers = Table("phase", "version", "answers", "right")
    for tally in loop.tallies:
        for which, count in tally.versions.items():
            answers.add_row(tally.phase, which, f"{count:,}", f"{tally.right[which] / count:.1%}")
    Console().print(table, answers, f"failed requests: {loop.failed}; alerts before the shift: {loop.early or 'none'}")
    if loop.failed or loop.early:
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
