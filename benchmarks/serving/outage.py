"""The registry goes away, twice, while clients post: no request is lost, the last good model answers, and it is said.

    python -m benchmarks.serving.outage                    # 10 minutes; exports untrained models, needs TensorFlow
    python -m benchmarks.serving.outage --minutes 60

A real MLflow server is killed (SIGKILL) before the server starts, which therefore starts from its cache; comes back; is
killed again in the middle of a swap, when a part of the new model has been sent; stays away for all the minutes; comes
back with the new version as champion. Exit status 1 where a request was lost, an answer was not that of the model it
names, nobody said that the registry was away, or the new version took longer than the poll interval and its loading.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.serving.bundles import export_untrained, jpeg
from benchmarks.serving.registries import PATIENCE, Mlflow, seconds_until, tapped, wait_for
from benchmarks.serving.servers import Server, running
from benchmarks.serving.swaps import Clients, expected_answers, register

MODEL = "outage"
LOADING = 5.0
"""Seconds that fetching, verifying and loading a model may take beside the poll interval."""


@dataclass
class Outage:
    """One time for which the registry was away."""

    name: str
    seconds: float = 0.0
    """For which it was."""
    answers: int = 0
    lost: int = 0
    told: float = PATIENCE
    """Seconds until /readyz and the metric said so."""
    reason: str = ""
    """As /readyz gave it."""
    silent: int = 0
    """Looks, one per second after that, at which it was not said, or another version answered."""
    back: float = PATIENCE
    """Seconds from its return until /readyz and the metric said that all was well."""


@dataclass
class Report:
    """What was seen."""

    ready_seconds: float
    """From the start of the server to its first answer, without a registry."""
    poll_seconds: float
    outages: list[Outage] = field(default_factory=list)
    pickup: float = PATIENCE
    """Seconds from the return of the registry to the first answer of the new version."""
    wrong: int = 0
    failed: list[str] = field(default_factory=list)
    growth: float = 0.0
    """MiB of memory during the last outage."""

    def complaints(self) -> list[str]:
        """What should not have been; nothing where all went well."""
        found = [*self.failed[:5]]
        found += [f"{self.wrong} answers of another model than named"] * bool(self.wrong)
        for outage in self.outages:
            found += [f"{outage.name}: nobody said that the registry was away"] * (outage.told >= PATIENCE)
            found += [f"{outage.name}: {outage.silent} looks at which it was not said"] * bool(outage.silent)
            found += [f"{outage.name}: nobody said that the registry was back"] * (outage.back >= PATIENCE)
        return found

    @property
    def late(self) -> bool:
        """Whether the new version took longer than the poll interval and its loading."""
        return self.pickup > self.poll_seconds + LOADING


def watch(server: Server, clients: Clients, outage: Outage, seconds: float, version: str) -> None:
    """Look at what the server says of the registry, which is away, for so long."""
    start, before = time.perf_counter(), (clients.outcome.answers, len(clients.outcome.failed))
    wait_for(lambda: says_away(server), f"{outage.name}: nobody said so")
    outage.told, outage.reason = time.perf_counter() - start, state(server)[1]
    while time.perf_counter() - start < seconds:
        outage.silent += not (says_away(server) and state(server)[0] == version == clients.latest)
        time.sleep(min(1.0, seconds / 4))
    outage.seconds = time.perf_counter() - start
    outage.answers, outage.lost = clients.outcome.answers - before[0], len(clients.outcome.failed) - before[1]


def state(server: Server) -> tuple[str, str, bool]:
    """Version, what is wrong, and whether the metric says that the registry is up."""
    ready = httpx.get(f"{server.url}/readyz").raise_for_status().json()
    metrics = httpx.get(f"{server.url}/metrics").text
    return ready["version"], ready["detail"] or "", "\nemotion_registry_up 1.0\n" in metrics


def says_away(server: Server) -> bool:
    """Whether the server knows that it has no registry."""
    _, detail, up = state(server)
    return bool(detail) and not up


@dataclass(frozen=True)
class Plan:
    """How long, and how often."""

    seconds: tuple[float, float]
    """That the outages last."""
    poll_seconds: float
    clients: int
    """Connections that post at the same time."""
    pause: float = 0.0
    """Seconds that each waits after an answer."""


def run(bundles: Sequence[Path], image: bytes, directory: Path, plan: Plan) -> Report:
    """Both outages; the bundles are of two models that answer differently."""
    mlflow = Mlflow(directory)
    try:
        mlflow.start()
        registry = register(mlflow.url, MODEL, bundles)
        registry.promote(registry.resolve("1"))
        with tapped(mlflow) as tap:
            cache, retry = directory / "cache", min(5.0, plan.poll_seconds)
            options = ["--model", MODEL, "--cache", str(cache), "--poll-seconds", str(plan.poll_seconds)]
            options += ["--retry-seconds", str(retry), "--port"]
            variables = {"MLFLOW_TRACKING_URI": tap.url}
            with running("-m", "serving", *options, variables=variables):
                wait_for((cache / MODEL / "champion.json").exists, "the cache was not filled")
            mlflow.kill()
            with running("-m", "serving", *options, variables=variables) as server:
                report = Report(server.ready_seconds, plan.poll_seconds)
                clients = Clients(server.url, image, expected_answers(bundles, image), plan.clients, plan.pause)
                with clients:
                    _before_the_start(report, mlflow, server, clients, plan.seconds[0])
                    tap.cut_at(mlflow.kill)
                    registry.promote(registry.resolve("2"))
                    wait_for(tap.cut.is_set, "the new version was not fetched")
                    _during_a_swap(report, mlflow, server, clients, plan.seconds[1])
                report.wrong, report.failed = clients.outcome.wrong, clients.outcome.failed
    finally:
        mlflow.kill()
    return report


def _before_the_start(report: Report, mlflow: Mlflow, server: Server, clients: Clients, seconds: float) -> None:
    outage = Outage("before the start")
    report.outages.append(outage)
    watch(server, clients, outage, seconds, "1")
    outage.back = _return(mlflow, lambda: state(server)[1:] == ("", True))


def _during_a_swap(report: Report, mlflow: Mlflow, server: Server, clients: Clients, seconds: float) -> None:
    outage, memory = Outage("during a swap"), server.process.memory_info().rss
    report.outages.append(outage)
    watch(server, clients, outage, seconds, "1")
    report.growth = (server.process.memory_info().rss - memory) / 2**20
    report.pickup = _return(mlflow, lambda: clients.latest == "2")
    outage.back = report.pickup + seconds_until(lambda: state(server) == ("2", "", True))


def _return(mlflow: Mlflow, condition: Callable[[], bool]) -> float:
    mlflow.start()
    return seconds_until(condition)


def show(report: Report) -> None:
    """Print the figures."""
    table = Table("figure", *(outage.name for outage in report.outages))
    rows: Mapping[str, Callable[[Outage], str]] = {
        "registry away, s": lambda outage: f"{outage.seconds:.0f}",
        "answers meanwhile": lambda outage: f"{outage.answers:,}",
        "lost": lambda outage: f"{outage.lost}",
        "s until /readyz and metrics say so": lambda outage: f"{outage.told:.1f}",
        "later looks at which they do not": lambda outage: f"{outage.silent}",
        "s from its return until they say that": lambda outage: f"{outage.back:.1f}",
    }
    for name, figure in rows.items():
        table.add_row(name, *map(figure, report.outages))
    console = Console(width=120)
    console.print(table)
    console.print(f"ready without a registry, from the cache: {report.ready_seconds:.1f} s")
    console.print(
        f"new version answers: {report.pickup:.1f} s after the return (asked every {report.poll_seconds:g} s)"
    )
    console.print(f"lost in all: {len(report.failed)}; answers of another model than named: {report.wrong}")
    console.print(
        f"memory grew by {report.growth:.0f} MiB during the last outage; /readyz: {report.outages[-1].reason}"
    )


def main(
    minutes: Annotated[float, typer.Option(min=0.01, help="for which the registry is away")] = 10,
    poll_seconds: Annotated[float, typer.Option(help="of the server")] = 10,
    clients: Annotated[int, typer.Option(min=1, help="connections")] = 4,
) -> None:
    """Print the figures; exit status 1 if something was not as it should be."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        bundles = [directory / architecture for architecture in ("emotion_cnn", "lenet")]
        for bundle in bundles:
            export_untrained(bundle.name, bundle)
        plan = Plan((min(60 * minutes, 30), 60 * minutes), poll_seconds, clients)
        report = run(bundles, jpeg(48, 48), directory, plan)
    show(report)
    for complaint in report.complaints():
        Console().print(f"[red]{complaint}[/red]")
    sys.exit(bool(report.complaints()) or report.late)


if __name__ == "__main__":
    typer.run(main)
