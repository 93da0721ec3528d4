"""The same ONNX model behind other servers: LitServe, BentoML, `mlflow models serve`, plain FastAPI; and ours.

    python -m benchmarks.serving.peers                            # builds their environments, needs wrk and TensorFlow
    python -m benchmarks.serving.peers --bundle bundles/lenet --rounds 5 --seconds 10 --only bentoml

Each has an environment of its own under `.cache/peers/`, from a hashed lock in `benchmarks/serving/peers/`, and the
same decoding and ONNX Runtime session (`serving.engine`), so that what differs is the server. Every peer is tried with
all settings that `contenders.PEERS` lists, and runs with what was best for that number of connections; ours runs with
its defaults. LitServe, BentoML and MLflow are sent base64 in JSON, which costs the first two less than uploads (MLflow
takes nothing else); FastAPI and ours are sent uploads. Answers are checked to be equal first. Servers run one at a time
and take turns; the figures are medians over the rounds. wrk runs on the same machine. The limit is decoding and the
model in one process without HTTP, on all cores.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.serving.bundles import SIZE, export_untrained, jpeg
from benchmarks.serving.contenders import ENVIRONMENTS, PEERS, Model, Peer, Setting, ask, build, serving
from benchmarks.serving.servers import Load, Server, ours, require_wrk
from benchmarks.serving.throughput import BATCHES, limit, median

CONNECTIONS = (32, 1)
CLOSE = 1e-5
"""Largest difference of a probability between two servers' answers."""
Figures = tuple[Load, float]
"""What wrk saw, and MiB of memory afterwards."""
Best = dict[int, Setting]
"""By number of connections."""


@dataclass(frozen=True)
class Race:
    """How long."""

    rounds: int
    seconds: int
    """Of each run."""


def check_equal(server: Server, peer: Peer, model: Model, expected: list[dict[str, float]]) -> None:
    """Fail where a peer answers otherwise than we do.

    Raises:
        ValueError: it does.
    """
    for number, right in enumerate(expected):
        found = ask(server, peer, model.form(peer, number))
        if found.keys() != right.keys() or max(abs(found[label] - right[label]) for label in right) > CLOSE:
            raise ValueError(f"{peer.name} answers {found}, expected {right}")


def tune(peer: Peer, model: Model, expected: list[dict[str, float]], seconds: int) -> Best:
    """The settings with which a peer answers everything, and most; with each its answers are compared first."""
    rates: dict[int, list[float]] = {connections: [] for connections in CONNECTIONS}
    for setting in peer.settings:
        with serving(peer, model, setting) as server:
            check_equal(server, peer, model, expected)
            for connections, found in rates.items():
                load = server.under_load(model.form(peer), connections, seconds)
                found.append(load.rate if load.good == load.requests else 0)
    return {connections: peer.settings[found.index(max(found))] for connections, found in rates.items()}


def measure(peer: Peer | None, model: Model, best: Best, seconds: int) -> dict[int, Figures]:
    """One turn: start, warm up, load, stop; twice where the settings differ."""
    seen: dict[int, Figures] = {}
    form = model.form(peer)
    while missing := [connections for connections in CONNECTIONS if connections not in seen]:
        setting = best[missing[0]]
        with serving(peer, model, setting) as server:
            server.under_load(form, max(CONNECTIONS), max(1, seconds // 3))
            for connections in missing:
                if best[connections] == setting:
                    load = server.under_load(form, connections, seconds)
                    seen[connections] = load, server.megabytes()
    return seen


def compare(
    bests: dict[str, Best], model: Model, race: Race
) -> tuple[list[float], dict[str, list[dict[int, Figures]]]]:
    """The limit and everybody's turns, round by round."""
    image = model.directory / "image.jpg"
    image.write_bytes(model.images[0])
    peers = {peer.name: peer for peer in PEERS}
    seen: dict[str, list[dict[int, Figures]]] = {name: [] for name in bests}
    limits: list[float] = []
    for _ in track(range(race.rounds), "rounds"):
        limits.append(max(limit(model.bundle, image, race.seconds / 2, batch)[0] for batch in BATCHES))
        for name, best in bests.items():
            seen[name].append(measure(peers.get(name), model, best, race.seconds))
    return limits, seen


def _show(limits: list[float], seen: dict[str, list[dict[int, Figures]]], bests: dict[str, Best]) -> None:
    headings = ("requests/s", "of the limit", "p50 ms", "p99 ms", "CPU s per 1,000", "MiB", "failed")
    table = Table("", "", "setting", *headings)
    best = statistics.median(limits)
    for connections in CONNECTIONS:
        table.add_section()
        table.add_row(f"{connections} connections", "limit", "", f"{best:,.0f}")
        for name, turns in seen.items():
            _add_row(table, name, bests[name][connections], [turn[connections] for turn in turns], best)
    Console(width=170).print(table)


def _add_row(table: Table, name: str, setting: Setting, figures: list[Figures], best: float) -> None:
    loads = [load for load, _ in figures]
    rate = median(loads, lambda load: load.rate)
    table.add_row(
        "",
        name,
        ", ".join(f"{key.removeprefix('PEER_').lower()} {value}" for key, value in setting.items()),
        f"{rate:,.0f}",
        f"{rate / best:.2f}",
        f"{median(loads, lambda load: load.p50_ms):.1f}",
        f"{median(loads, lambda load: load.p99_ms):.1f}",
        f"{median(loads, lambda load: 1000 * load.cpu_seconds / max(load.good, 1)):.2f}",
        f"{statistics.median(memory for _, memory in figures):.0f}",
        str(sum(load.lost + load.requests - load.good for load in loads)),
    )


def main(
    bundle: Annotated[Path | None, typer.Option(help="a bundle directory; none: an untrained emotion_cnn")] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    seconds: Annotated[int, typer.Option(min=1, help="of each run")] = 6,
    only: Annotated[str, typer.Option(help="the peers whose names are in this")] = "",
    remove: Annotated[bool, typer.Option(help="remove the environments afterwards (1 GB)")] = False,
) -> None:
    """Print one table."""
    require_wrk()
    peers = [peer for peer in PEERS if not only or peer.name in only]
    for peer in track(peers, "environments"):
        build(peer)
    with tempfile.TemporaryDirectory() as name:
        if bundle is None:
            export_untrained("emotion_cnn", bundle := Path(name) / "emotion_cnn")
        served = Model(bundle.resolve(), [jpeg(SIZE, SIZE, 1, seed) for seed in range(3)], Path(name))
        with ours(served.bundle) as server:
            expected = [ask(server, None, served.form(None, number)) for number in range(3)]
        trial = max(1, seconds // 2)
        bests: dict[str, Best] = {"ours": {connections: {} for connections in CONNECTIONS}}
        bests |= {peer.name: tune(peer, served, expected, trial) for peer in track(peers, "settings")}
        limits, seen = compare(bests, served, Race(rounds, seconds))
    _show(limits, seen, bests)
    if remove:
        shutil.rmtree(ENVIRONMENTS)


if __name__ == "__main__":
    typer.run(main)
