"""Throughput against the limit of the machine, and against a plain FastAPI endpoint.

    python -m benchmarks.serving.throughput                      # exports untrained models, needs TensorFlow and wrk
    python -m benchmarks.serving.throughput --bundle bundles/emotion_cnn

For each scenario, four contenders take turns: the limit (decoding and the model without HTTP, at its best batch size),
this server with its limits and metrics on, in one process and in two, and a plain endpoint with the same decoding and
session. The figures are medians over the rounds; the load generator (wrk) runs on the same machine, and its share is
not added to anybody's. Answers are checked to be equal first. No faces are looked for: 48 x 48 is a face already,
photos go as `faces=none`. On a machine that others use as well, requests/s are theirs as much as ours: the CPU seconds
per 1,000 are what can be compared there.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.serving.bundles import export_untrained, jpeg
from benchmarks.serving.servers import Load, Server, ours, plain, require_wrk, write_form

BATCHES = (1, 16)
PROCESSES = 2


@dataclass(frozen=True)
class Scenario:
    """One load."""

    model: str
    image: str
    size: tuple[int, int, int]
    """Width, height, channels."""
    connections: int
    query: str = ""
    """Of `/detect`."""


SCENARIOS = (
    Scenario("emotion_cnn", "48 x 48", (48, 48, 1), 32),
    Scenario("emotion_cnn", "48 x 48", (48, 48, 1), 1),
    Scenario("lenet", "48 x 48", (48, 48, 1), 32),
    Scenario("lenet", "48 x 48", (48, 48, 1), 1),
    Scenario("emotion_cnn", "1280 x 720", (1280, 720, 3), 8, "?faces=none"),
    Scenario("lenet", "1280 x 720", (1280, 720, 3), 8, "?faces=none"),
)


def limit(bundle: Path, image: Path, seconds: float, batch: int) -> tuple[float, float]:
    """Images per second without HTTP, and CPU seconds per 1,000."""
    command = [sys.executable, "-m", "benchmarks.serving.limit", str(bundle), str(image), str(seconds), str(batch)]
    speed, cost = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(speed), float(cost)


def check_equal(servers: list[Server], images: list[bytes], query: str) -> None:
    """Fail where two servers do not answer alike."""
    for image in images:
        first, *others = (server.post(image, query) for server in servers)
        for other in others:
            if first.keys() != other.keys() or max(abs(first[label] - other[label]) for label in first) > 1e-5:
                raise typer.BadParameter(f"answers differ: {first} and {other}")


def compare(scenario: Scenario, bundle: Path, rounds: int, seconds: int, table: Table) -> None:
    """Run one scenario and add its rows."""
    images = [jpeg(*scenario.size, seed) for seed in range(3)]
    several = ours(bundle, processes=PROCESSES)
    with tempfile.TemporaryDirectory() as directory, ours(bundle) as us, several as ours_several, plain(bundle) as them:
        contenders = {"ours": us, f"ours, {PROCESSES} processes": ours_several, "plain FastAPI": them}
        check_equal(list(contenders.values()), images, scenario.query)
        image, form = Path(directory) / "image.jpg", write_form(images[0], Path(directory) / "form")
        image.write_bytes(images[0])
        limits: list[tuple[float, float]] = []
        loads: dict[str, list[Load]] = {name: [] for name in contenders}
        for server in contenders.values():
            server.under_load(form, scenario.connections, 1, query=scenario.query)
        for _ in range(rounds):
            limits.append(max(limit(bundle, image, seconds / 2, batch) for batch in BATCHES))
            for name, server in contenders.items():
                loads[name].append(server.under_load(form, scenario.connections, seconds, query=scenario.query))
        name = f"{scenario.model}, {scenario.image}, {scenario.connections} connections"
        add_rows(name, table, limits, loads, list(contenders.values()))


def add_rows(
    name: str, table: Table, limits: list[tuple[float, float]], loads: dict[str, list[Load]], servers: list[Server]
) -> None:
    """The limit and the contenders of one scenario."""
    table.add_section()
    best, cost = (statistics.median(figures) for figures in zip(*limits, strict=True))
    table.add_row(name, "limit", f"{best:,.0f}", "", "", "", "", f"{cost:.2f}")
    baseline = median(loads["plain FastAPI"], lambda load: load.rate)
    for (contender, runs), server in zip(loads.items(), servers, strict=True):
        if any(load.lost or load.good != load.requests for load in runs):
            raise typer.BadParameter(f"{contender} did not answer everything: {runs}")
        rate = median(runs, lambda load: load.rate)
        table.add_row(
            "",
            contender,
            f"{rate:,.0f}",
            f"{rate / best:.2f}",
            f"{rate / baseline:.2f}",
            f"{median(runs, lambda load: load.p50_ms):.1f}",
            f"{median(runs, lambda load: load.p99_ms):.1f}",
            f"{median(runs, lambda load: 1000 * load.cpu_seconds / load.good):.2f}",
            f"{server.peak_megabytes():.0f}",
            f"{server.ready_seconds:.1f}",
        )


def median(runs: list[Load], figure: Callable[[Load], float]) -> float:
    """Of one figure over the rounds."""
    return statistics.median(map(figure, runs))


def main(
    bundle: Annotated[Path | None, typer.Option(help="a bundle directory; none: untrained models")] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    seconds: Annotated[int, typer.Option(min=1, help="of each run")] = 5,
    only: Annotated[str, typer.Option(help="scenarios whose model, image or connections contain this")] = "",
) -> None:
    """Print one table."""
    require_wrk()
    headings = ("requests/s", "of the limit", "x plain", "p50 ms", "p99 ms", "CPU s per 1,000", "peak MiB", "ready s")
    table = Table("scenario", "", *headings)
    scenarios = [replace(one, model=bundle.name) for one in SCENARIOS if one.model == "lenet"] if bundle else SCENARIOS
    with tempfile.TemporaryDirectory() as directory:
        for scenario in scenarios:
            if only not in f"{scenario.model} {scenario.image} {scenario.connections}":
                continue
            where = bundle or Path(directory) / scenario.model
            if not where.exists():
                export_untrained(scenario.model, where)
            compare(scenario, where, rounds, seconds, table)
    Console(width=160).print(table)


if __name__ == "__main__":
    typer.run(main)
