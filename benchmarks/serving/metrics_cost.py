"""What all metrics cost on the way of a request: the same server with them, and with every count left out.

    python -m benchmarks.serving.metrics_cost                       # exports untrained models, needs TensorFlow and wrk
    python -m benchmarks.serving.metrics_cost --bundle bundles/lenet

Two servers of one bundle take turns under the same load, in another order each round; one of them runs
`benchmarks.serving.unmeasured`, where counters, gauges and histograms do nothing, and neither entropy nor examples are
computed. The quality of a face is measured in both: it stands in the answer. Figures are medians over the rounds.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.serving.bundles import export_untrained, jpeg
from benchmarks.serving.servers import Load, ours, require_wrk, running, write_form

MODELS = ("emotion_cnn", "lenet")
CONNECTIONS = 32


def compare(bundle: Path, rounds: int, seconds: int) -> dict[str, list[Load]]:
    """Put both under load in turns."""
    loads: dict[str, list[Load]] = {"with": [], "without": []}
    with ExitStack() as stack:
        form = write_form(jpeg(48, 48), Path(stack.enter_context(tempfile.TemporaryDirectory())) / "form")
        unmeasured = ("-m", "benchmarks.serving.unmeasured", "--bundle", str(bundle.resolve()), "--port")
        servers = {"with": stack.enter_context(ours(bundle)), "without": stack.enter_context(running(*unmeasured))}
        for server in servers.values():
            server.under_load(form, CONNECTIONS, 2)
        for number in range(rounds):
            for name in list(loads)[:: 1 if number % 2 else -1]:
                loads[name].append(servers[name].under_load(form, CONNECTIONS, seconds))
    return loads


def main(
    bundle: Annotated[Path | None, typer.Option(help="a bundle directory; none: untrained models")] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 7,
    seconds: Annotated[int, typer.Option(min=1, help="of each run")] = 5,
) -> None:
    """Print one table."""
    require_wrk()
    table = Table("model", "metrics", "requests/s", "CPU s per 1,000", "cost in requests/s", "cost in CPU")
    with tempfile.TemporaryDirectory() as directory:
        for name in [bundle.name] if bundle else MODELS:
            where = bundle or Path(directory) / name
            if bundle is None:
                export_untrained(name, where)
            add_rows(table, name, compare(where, rounds, seconds))
    Console(width=120).print(table)


def add_rows(table: Table, name: str, loads: dict[str, list[Load]]) -> None:
    """Both servers of one model; the costs are medians of the ratios within a round."""
    figures: dict[str, Callable[[Load], float]] = {
        "rate": lambda load: load.rate,
        "cpu": lambda load: 1000 * load.cpu_seconds / load.good,
    }
    pairs = list(zip(loads["with"], loads["without"], strict=True))
    rate = 1 - statistics.median(figures["rate"](one) / figures["rate"](other) for one, other in pairs)
    cpu = statistics.median(figures["cpu"](one) / figures["cpu"](other) for one, other in pairs) - 1
    for contender, runs in loads.items():
        medians = [statistics.median(map(figure, runs)) for figure in figures.values()]
        costs = [f"{rate:.1%}", f"{cpu:.1%}"] if contender == "with" else ["", ""]
        table.add_row(name, contender, f"{medians[0]:,.0f}", f"{medians[1]:.3f}", *costs)


if __name__ == "__main__":
    typer.run(main)
