"""What it costs on the way of a request that people may judge its answer: signed ids, and faces that wait in memory.

    python -m benchmarks.serving.feedback_cost --bundle bundles/lenet          # needs wrk

Three servers of one bundle take turns under the same load, in another order each round: EMOTION_FEEDBACK=off, count
(the default) and keep. Nobody judges anything meanwhile. Figures are medians over the rounds, ratios those within one.
"""

from __future__ import annotations

import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.serving.bundles import jpeg
from benchmarks.serving.servers import Load, require_wrk, running, write_form

CONNECTIONS = 32
SETTINGS = ("off", "count", "keep")


def compare(bundle: Path, rounds: int, seconds: int) -> dict[str, list[Load]]:
    """Put all three under load in turns."""
    loads: dict[str, list[Load]] = {setting: [] for setting in SETTINGS}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        form = write_form(jpeg(48, 48), folder / "form")
        command = ("-m", "serving", "--bundle", str(bundle.resolve()), "--no-feedback-encrypt", "--feedback-directory")
        servers = {
            setting: stack.enter_context(running(*command, str(folder / setting), "--feedback", setting, "--port"))
            for setting in SETTINGS
        }
        for server in servers.values():
            server.under_load(form, CONNECTIONS, 2)
        for number in range(rounds):
            for place in range(len(SETTINGS)):
                setting = SETTINGS[(place + number) % len(SETTINGS)]
                loads[setting].append(servers[setting].under_load(form, CONNECTIONS, seconds))
    return loads


def main(
    bundle: Annotated[Path, typer.Option(help="a bundle directory")],
    rounds: Annotated[int, typer.Option(min=1)] = 7,
    seconds: Annotated[int, typer.Option(min=1, help="of each run")] = 5,
) -> None:
    """Print one table."""
    require_wrk()
    loads = compare(bundle, rounds, seconds)
    table = Table("feedback", "requests/s", "CPU s per 1,000", "requests/s, against off", "CPU, against off")
    for setting, runs in loads.items():
        pairs = list(zip(runs, loads["off"], strict=True))
        rate = statistics.median(one.rate / other.rate for one, other in pairs)
        cpu = statistics.median(one.cpu_seconds / one.good / (other.cpu_seconds / other.good) for one, other in pairs)
        costs = (f"{rate:.3f}", f"{cpu:.3f}") if setting != "off" else ("", "")
        rates, seconds_each = [one.rate for one in runs], [1000 * one.cpu_seconds / one.good for one in runs]
        table.add_row(setting, f"{statistics.median(rates):,.0f}", f"{statistics.median(seconds_each):.3f}", *costs)
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
