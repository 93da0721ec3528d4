"""Pictures of the dashboards' panels, from the real series of a real Prometheus after a replay.

    python -m benchmarks.monitoring.panels bundles/lenet --scenario dark-room      # eight minutes; writes docs/images

No Grafana draws them: their queries are asked of Prometheus, and matplotlib draws what it answers in a like way. So the
series are those that Grafana would show, and the looks are not Grafana's. The rules are as they stand in
monitoring/prometheus/rules, with their hours.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
import matplotlib as mpl
import numpy as np
import typer
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from rich.progress import track

from benchmarks.monitoring.closed_loop import RULES, monitored, wait_until
from benchmarks.monitoring.project import Project
from emotion_detection.bundle import read_bundle
from emotion_detection.cli.replay import Scenario
from emotion_detection.replay import drawn_faces, phases, read_pool
from emotion_detection.sending import send
from tests.serving.processes import running

ROOT = Path(__file__).parents[2]
DASHBOARDS = ROOT / "monitoring/grafana/dashboards"
STEP = 5
"""Seconds between two points."""
SHOWN: Mapping[str, Sequence[str]] = {
    "service": ("Requests by route", "Latency of /detect", "Where the time goes", "Workers"),
    "model": (
        "Answers",
        "Answers against the reference",
        "Drift of the answers",
        "Drift of the faces, and of confidence",
        "Brightness",
        "Brightness against the reference",
        "Confidence",
        "Mean confidence",
        "Estimated accuracy",
    ),
}
"""Panels of each picture, by title; of several with the same title the first."""
CHOSEN = {"job": "emotion-server", "version": ".*", "window": "1h", "__rate_interval": "30s", "__range": "15m"}
UNITS = {"percentunit": "%", "s": "s", "reqps": "per s", "cps": "per s", "bytes": "B"}


@dataclass(frozen=True)
class Shown:
    """The time that is drawn."""

    prometheus: str
    start: float
    shift: float
    """When the shift began."""
    end: float


def panels_of(name: str) -> list[dict[str, Any]]:
    """The panels of a dashboard that are drawn."""
    panels = json.loads((DASHBOARDS / f"{name}.json").read_text())["panels"]
    return [next(panel for panel in panels if panel["title"] == title and "targets" in panel) for title in SHOWN[name]]


def written(expression: str) -> str:
    """An expression without variables."""
    for name, value in CHOSEN.items():
        expression = expression.replace(f"${name}", value)
    return expression


def ask(shown: Shown, target: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The series of one query: over the time that is drawn, or at its end."""
    asked: dict[str, Any] = {"query": written(target["expr"])}
    if target.get("instant"):
        path, asked = "query", asked | {"time": shown.end}
    else:
        path, asked = "query_range", asked | {"start": shown.start, "end": shown.end, "step": STEP}
    answer = httpx.get(f"{shown.prometheus}/api/v1/{path}", params=asked, timeout=60).raise_for_status()
    found: list[dict[str, Any]] = answer.json()["data"]["result"]
    return found


def legend(target: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """The name of a series."""
    text = str(target["legendFormat"])
    for name, value in labels.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    return text


def draw(axes: Axes, panel: Mapping[str, Any], shown: Shown) -> None:
    """Draw a panel."""
    axes.set_title(panel["title"], fontsize=9, loc="left")
    {"heatmap": draw_heat, "barchart": draw_bars}.get(panel["type"], draw_lines)(axes, panel, shown)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.2)


def draw_lines(axes: Axes, panel: Mapping[str, Any], shown: Shown) -> None:
    """A graph over time, stacked where the panel is."""
    defaults = panel["fieldConfig"]["defaults"]
    scale = 100 if defaults.get("unit") == "percentunit" else 1
    series = [
        (legend(target, one["metric"]), one["values"]) for target in panel["targets"] for one in ask(shown, target)
    ]
    times = np.arange(shown.start, shown.end + STEP, STEP)
    if defaults.get("custom", {}).get("stacking", {}).get("mode") == "normal":
        values = [np.interp(times, *np.array(points, float).T, left=0, right=0) * scale for _, points in series]
        axes.stackplot(dates(times), values, labels=[name for name, _ in series], alpha=0.7)
    else:
        for name, points in series:
            moments, values = np.array(points, float).T
            axes.plot(dates(moments), values * scale, label=name, linewidth=1.2)
        for step in defaults.get("thresholds", {}).get("steps", [])[1:]:
            if axes.get_ylim()[1] > step["value"] * scale / 2:
                axes.axhline(step["value"] * scale, color=step["color"], linestyle="--", linewidth=0.8)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(UNITS.get(defaults.get("unit", ""), ""), fontsize=7)
    in_time(axes, shown)
    if 0 < len(series) <= 8:
        axes.legend(fontsize=6, framealpha=0.6)


def draw_heat(axes: Axes, panel: Mapping[str, Any], shown: Shown) -> None:
    """A histogram over time: a row for each bucket between the first and the last that is not empty."""
    [target] = panel["targets"]
    found = sorted(ask(shown, target), key=lambda one: float(one["metric"]["le"]))
    times = np.arange(shown.start, shown.end + STEP, STEP)
    counts = np.array([np.interp(times, *np.array(one["values"], float).T) for one in found])
    cells = np.diff(counts, axis=0, prepend=0).clip(0)
    used = np.flatnonzero(cells.max(axis=1) > 0)
    rows = slice(max(0, used.min() - 1), used.max() + 2)
    names = [one["metric"]["le"] for one in found][rows]
    axes.pcolormesh(dates(times), np.arange(len(names)), cells[rows] ** 0.5, cmap="Oranges", shading="nearest")
    axes.set_yticks(np.arange(len(names)) + 0.5, names)
    in_time(axes, shown)


def draw_bars(axes: Axes, panel: Mapping[str, Any], shown: Shown) -> None:
    """Groups of bars."""
    label = panel["options"]["xField"]
    changes = [change["options"] for change in panel["transformations"] if change["id"] == "organize"]
    groups = {
        changes[0]["renameByName"][f"Value #{target['refId']}"]: {
            one["metric"][label]: float(one["value"][1]) for one in ask(shown, target)
        }
        for target in panel["targets"]
    }
    keys = {key for group in groups.values() for key in group}
    names = sorted(keys, key=lambda key: (float(key), "") if all(map(is_number, keys)) else (0.0, key))
    for place, (name, group) in enumerate(groups.items()):
        heights = [100 * group.get(key, 0) for key in names]
        axes.bar(np.arange(len(names)) + 0.4 * place - 0.2, heights, 0.4, label=name)
    axes.set_xticks(range(len(names)), names, rotation=30 if len(names) > 7 else 0)
    axes.set_ylabel("%", fontsize=7)
    axes.legend(fontsize=6)


def is_number(text: str) -> bool:
    """Whether it can be read as one."""
    return text.replace(".", "", 1).isdigit()


def dates(moments: Any) -> Any:
    """Seconds since 1970 as matplotlib has them."""
    return np.asarray(moments, float) / 86400


def in_time(axes: Axes, shown: Shown) -> None:
    """A time axis, with a line where the shift began."""
    locator = AutoDateLocator(minticks=4, maxticks=7)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))
    axes.set_xlim(dates(shown.start), dates(shown.end))
    axes.axvline(dates(shown.shift), color="black", linestyle=":", linewidth=1)


def picture(name: str, shown: Shown, scenario: str) -> Figure:
    """The panels of a dashboard."""
    panels = panels_of(name)
    columns = 3 if len(panels) > 4 else 2
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.3 * rows), layout="constrained")
    for axes, panel in zip(np.atleast_1d(figure.subplots(rows, columns)).flat, track(panels, name), strict=False):
        draw(axes, panel, shown)
    figure.suptitle(f"{name}: as in training, and from the dotted line on {scenario}", fontsize=10)
    return figure


def main(
    bundle: Annotated[Path, typer.Argument(help="a bundle directory, with a reference")],
    scenario: Annotated[Scenario, typer.Option(help="of `emotion replay`")] = Scenario.dark_room,
    rate: Annotated[float, typer.Option(min=1, help="faces per second")] = 20.0,
    minutes: Annotated[float, typer.Option(min=1, help="with the shift; half as long before it")] = 5.0,
    output: Annotated[Path, typer.Option(help="directory that is written to")] = ROOT / "docs/images",
) -> None:
    """Replay a scenario and draw what the dashboards show of it."""
    mpl.use("agg")
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder, shares = Path(temporary), read_bundle(bundle).info.reference_shares
        server = stack.enter_context(running(folder, "--bundle", str(bundle.resolve())))
        wait_until(server.is_ready, 120, "the server")
        watched = stack.enter_context(monitored(Project(folder, "true"), server.url, folder / "monitor", RULES))
        counts = {"baseline": round(30 * minutes * rate), "shifted": round(60 * minutes * rate)}
        baseline, shifted = phases(scenario.value, read_pool(drawn_faces(seed=0)), shares, seed=0, **counts)
        start = time.time()
        send(server.url, baseline, rate)
        shift = time.time()
        send(server.url, shifted, rate)
        shown = Shown(watched.prometheus, start, shift, time.time())
        for name in SHOWN:
            path = output / f"panels-{name}.png"
            picture(name, shown, scenario.value).savefig(path, dpi=80)
            print(path)


if __name__ == "__main__":
    typer.run(main)
