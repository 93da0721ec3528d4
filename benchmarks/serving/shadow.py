"""What a challenger in the shadow costs those who are answered: one server with it on a share of images, one without.

    python -m benchmarks.serving.shadow                       # exports untrained models, needs TensorFlow and wrk

Two servers follow the same registry; one of them also shows a share of what it has answered to the challenger. They
take turns under the same load, in another order each round: at half of what the server can answer, and as fast as it
goes. The ratios are medians over those within a round.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import httpx
import typer
from prometheus_client.parser import text_string_to_metric_families as parse
from rich.console import Console
from rich.table import Table

from benchmarks.serving.bundles import export_untrained, jpeg
from benchmarks.serving.registries import wait_for
from benchmarks.serving.servers import Load, Server, require_wrk, running, write_form
from benchmarks.serving.swaps import mlflow_server, register

CONNECTIONS = 32
MODEL = "shadow"
NAMES = ("none", "shadow")
FIGURES: dict[str, Callable[[Load], float]] = {
    "requests/s": lambda load: load.rate,
    "p50 ms": lambda load: load.p50_ms,
    "p99 ms": lambda load: load.p99_ms,
    "CPU s per 1,000": lambda load: 1000 * load.cpu_seconds / load.good,
}


@contextmanager
def following(directory: Path, share: float) -> Iterator[Server]:
    """A server of the registry, once it has its models."""
    options = ["--model", MODEL, "--cache", f"{directory}/cache-{share}", "--shadow-share", str(share)]
    with running("-m", "serving", *options, "--port") as server:
        if share:
            wait_for(lambda: samples(server, "emotion_challenger_ready")[""] == 1, "no challenger was loaded")
        yield server


def samples(server: Server, name: str, label: str = "") -> dict[str, float]:
    """The samples of a metric, by the value of a label."""
    families = parse(httpx.get(f"{server.url}/metrics", timeout=20).text)
    return {
        sample.labels.get(label, ""): sample.value
        for family in families
        for sample in family.samples
        if sample.name == name
    }


def compare(
    servers: dict[str, Server], form: Path, pause_ms: float, rounds: int, seconds: int
) -> dict[str, list[Load]]:
    """Put both under load in turns."""
    loads: dict[str, list[Load]] = {name: [] for name in servers}
    for number in range(rounds):
        for name in list(servers)[:: 1 if number % 2 else -1]:
            loads[name].append(servers[name].under_load(form, CONNECTIONS, seconds, pause_ms))
    return loads


def add_rows(table: Table, load: str, loads: dict[str, list[Load]], judged: dict[str, str]) -> None:
    """Both servers under one load."""
    pairs = list(zip(loads["shadow"], loads["none"], strict=True))
    ratios = [f"{statistics.median(of(one) / of(other) for one, other in pairs):.3f}" for of in FIGURES.values()]
    for name, runs in loads.items():
        medians = [f"{statistics.median(map(figure, runs)):,.2f}" for figure in FIGURES.values()]
        lost = sum(run.lost + run.refused for run in runs)
        table.add_row(load, name, *medians, str(lost), judged.get(name, ""))
    table.add_row(load, "ratio", *ratios)


def judged_since(server: Server, before: dict[str, float]) -> str:
    """What became of the faces that were drawn."""
    now = samples(server, "emotion_shadow_faces_total", "result")
    gained = {result: now[result] - before.get(result, 0) for result in now}
    return f"{gained['scored'] / max(1, sum(gained.values())):.0%} of {sum(gained.values()):,.0f}"


def main(
    share: Annotated[float, typer.Option(min=0, max=1, help="of the images")] = 0.2,
    rounds: Annotated[int, typer.Option(min=1)] = 9,
    seconds: Annotated[int, typer.Option(min=1, help="of each run")] = 6,
    champion: Annotated[str, typer.Option(help="architecture")] = "emotion_cnn",
    challenger: Annotated[str, typer.Option(help="architecture")] = "emotion_cnn",
) -> None:
    """Print one table."""
    require_wrk()
    table = Table("load", "", *FIGURES, "lost or refused", "judged of drawn")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bundles = [directory / name / role for role, name in (("challenger", challenger), ("champion", champion))]
        for bundle in bundles:
            export_untrained(bundle.parent.name, bundle)
        os.environ["MLFLOW_TRACKING_URI"] = uri = stack.enter_context(mlflow_server(directory))
        registry = register(uri, MODEL, bundles)
        registry.challenge(registry.resolve("1"))
        servers = {
            name: stack.enter_context(following(directory, of)) for name, of in zip(NAMES, (0, share), strict=True)
        }
        form = write_form(jpeg(48, 48), directory / "form")
        most = min(server.under_load(form, CONNECTIONS, 3).rate for server in servers.values())
        for load, pause in (("half", 2000 * CONNECTIONS / most), ("all", 0.0)):
            before = samples(servers["shadow"], "emotion_shadow_faces_total", "result")
            loads = compare(servers, form, pause, rounds, seconds)
            add_rows(table, load, loads, {"shadow": judged_since(servers["shadow"], before)})
    Console(width=130).print(table)


if __name__ == "__main__":
    typer.run(main)
