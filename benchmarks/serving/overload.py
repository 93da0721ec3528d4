"""Four times more requests than the server can answer.

    python -m benchmarks.serving.overload [--seconds 60] [--model lenet] [--bundle DIR]

First the peak (32 connections, as fast as it goes), then 512 connections that pause between their requests so that
together they ask for four times the peak, whatever they are answered. What does not fit into the queue must be
refused with 503, the rest answered about as fast as before, in bounded time, in bounded memory.

The time of accepted requests is measured by a client of its own that asks 20 times a second meanwhile.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.serving.bundles import SIZE, export_untrained, jpeg
from benchmarks.serving.servers import Load, Server, ours, require_wrk, write_form

CONNECTIONS = 512
QUEUE = 256


class Probe(threading.Thread):
    """Asks now and then, and notes how long accepted requests took and how much memory the server has."""

    def __init__(self, server: Server, image: bytes) -> None:
        super().__init__()
        self._server, self._image = server, image
        self._done = threading.Event()
        self.accepted_ms: list[float] = []
        self.megabytes: list[float] = []

    def run(self) -> None:
        with httpx.Client(timeout=60) as client:
            while not self._done.wait(0.05):
                start = time.perf_counter()
                answer = client.post(f"{self._server.url}/detect", files={"file": self._image})
                if answer.status_code == 200:
                    self.accepted_ms.append(1000 * (time.perf_counter() - start))
                self.megabytes.append(self._server.process.memory_info().rss / 2**20)

    def stop(self) -> None:
        """End, and wait for it."""
        self._done.set()
        self.join()


def overload(server: Server, form: Path, probe: Probe, excess: float, seconds: int) -> tuple[Load, Probe]:
    """Offer so many requests per second more than the server can answer."""
    pause = (CONNECTIONS - QUEUE) / excess  # the others wait in the queue
    probe.start()
    load = server.under_load(form, CONNECTIONS, seconds, pause_ms=1000 * pause)
    probe.stop()
    return load, probe


def report(peak: list[Load], load: Load, probe: Probe) -> Table:
    """What became of it."""
    best = statistics.median(one.rate for one in peak)
    late = len(probe.megabytes) // 2
    table = Table("figure", "seen", title="overload", title_justify="left")
    table.add_row("peak, 32 connections: answers/s", f"{best:,.0f}")
    table.add_row("asked for, x peak", f"{load.requests / load.seconds / best:.1f}")
    table.add_row("answered/s", f"{load.rate:,.0f}")
    table.add_row("goodput, of the peak", f"{load.rate / best:.2f}")
    table.add_row("refused with 503/s", f"{load.refused / load.seconds:,.0f}")
    cost = statistics.median(1000 * one.cpu_seconds / one.good for one in peak)
    rest = load.cpu_seconds - cost * load.good / 1000
    table.add_row("CPU s per 1,000 answers at the peak", f"{cost:.2f}")
    table.add_row("CPU s per 1,000 refusals: the rest", f"{1000 * rest / load.refused:.3f}" if load.refused else "")
    table.add_row("lost or answered otherwise", f"{load.lost + load.requests - load.good - load.refused}")
    if len(probe.accepted_ms) > 1:
        p99 = statistics.quantiles(probe.accepted_ms, n=100)[98]
        table.add_row("accepted: p50, p99 ms", f"{statistics.median(probe.accepted_ms):.0f}, {p99:.0f}")
    table.add_row("a full queue takes, ms", f"{1000 * QUEUE / best:.0f}")
    table.add_row("memory, second half: first, last MiB", f"{probe.megabytes[late]:.0f}, {probe.megabytes[-1]:.0f}")
    return table


def main(
    bundle: Annotated[Path | None, typer.Option(help="a bundle directory; none: an untrained model")] = None,
    model: Annotated[str, typer.Option(help="architecture of the untrained model")] = "emotion_cnn",
    size: Annotated[tuple[int, int], typer.Option(help="width and height of the image")] = (SIZE, SIZE),
    seconds: Annotated[int, typer.Option(min=2, help="of overload")] = 60,
    factor: Annotated[float, typer.Option(min=1)] = 4,
) -> None:
    """Print one table."""
    require_wrk()
    with tempfile.TemporaryDirectory() as directory:
        if bundle is None:
            export_untrained(model, bundle := Path(directory) / model)
        image = jpeg(*size)
        form = write_form(image, Path(directory) / "form")
        with ours(bundle, queue_size=QUEUE) as server:
            server.under_load(form, 32, 1)
            peak = [server.under_load(form, 32, max(seconds // 6, 1)) for _ in range(2)]
            best = statistics.median(one.rate for one in peak)
            load, probe = overload(server, form, Probe(server, image), (factor - 1) * best, seconds)
            peak.append(server.under_load(form, 32, max(seconds // 6, 1)))
    Console().print(report(peak, load, probe))


if __name__ == "__main__":
    typer.run(main)
