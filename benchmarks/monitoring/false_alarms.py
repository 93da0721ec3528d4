"""How many false alarms a day, and how soon a shift is noticed, by how much traffic there is.

    python -m benchmarks.monitoring.false_alarms --bundle bundles/lenet

A model judges drawn faces of people whom it has not seen: as they are, and with each of the shifts of `emotion replay`.
From its answers, days of traffic are drawn: 24 h as in training, then 24 h shifted, in counters as the server has them.
promtool runs the rules over them. A false alarm is an alert before the shift; the delay is from the shift to the first
alert. For each volume and seed every shift has a day before it of its own, and there is a server without any.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
import yaml
from numpy.typing import NDArray
from prometheus_client.utils import floatToGoString
from rich.console import Console
from rich.progress import track
from rich.table import Table

from emotion_detection.bundle import BundleInfo, read_bundle
from emotion_detection.face_quality import measure
from emotion_detection.preprocess import prepare
from emotion_detection.reference import EDGES, Feature, Reference
from emotion_detection.replay import SCENARIOS, Pool, drawn_faces, phases, read_pool
from serving.engine import Engine

RULES = Path(__file__).parents[2] / "monitoring/prometheus/rules"
VOLUMES = {"low": 30, "normal": 1_000, "high": 50_000}
"""Faces in an hour."""
STEP, HOUR = 5, 12
"""Minutes between two samples; samples in an hour."""
DAY, VERSION = 24 * HOUR, "1"
FACES = 4_000
"""Drawn for each condition; traffic is drawn from what became of them."""
METRICS: Mapping[Feature, str] = {
    "brightness": "emotion_face_brightness",
    "contrast": "emotion_face_contrast",
    "sharpness": "emotion_face_sharpness",
    "confidence": "emotion_prediction_confidence",
}
_FIRED = re.compile(r'\{([^}]*alertname="[^}]*)\} ([\d.E+]+)')


@dataclass(frozen=True)
class Seen:
    """What the server would count of some faces."""

    predicted: NDArray[np.int64]
    """(N,), indices of labels."""
    bins: Mapping[Feature, NDArray[np.int64]]
    """(N,) each."""
    confidence: NDArray[np.float64]
    """(N,)"""


def judge(engine: Engine, info: BundleInfo, files: list[bytes]) -> Seen:
    """Let the model see image files of one face each."""
    images = np.stack([prepare(file, info.image_size, info.channels) for file in files])
    rows = np.concatenate([engine.predict(images[start : start + 256]) for start in range(0, len(images), 256)])
    confidence = rows.max(axis=1).astype(np.float64)
    quality = np.array([measure(image, info.image_size)[1:4] for image in images])
    values = dict(zip(METRICS, (*quality.T, confidence), strict=True))
    bins = {feature: np.searchsorted(EDGES[feature], values[feature], side="left") for feature in METRICS}
    return Seen(rows.argmax(axis=1), bins, confidence)


def conditions(engine: Engine, info: BundleInfo, pool: Pool) -> dict[str, Seen]:
    """The faces as in training, and after each shift."""
    found: dict[str, Seen] = {}
    for name in track(SCENARIOS, "judge"):
        both = phases(name, pool, info.reference_shares, baseline=FACES, shifted=FACES, seed=0)
        for phase in both[bool(found) :]:
            found[phase.name] = judge(engine, info, [file for _, file in phase.faces()])
    return found


def traffic(
    job: str, seen: tuple[Seen, Seen], info: BundleInfo, hourly: float, rng: np.random.Generator
) -> list[dict[str, str]]:
    """Counters of a server, which sees something else on the second day."""
    counts = rng.poisson(hourly / HOUR, 2 * DAY)
    sums = [
        _step(seen, info, count, rng) for seen, count in zip([seen[0]] * DAY + [seen[1]] * DAY, counts, strict=True)
    ]
    return [
        {"series": name.replace("JOB", job), "values": " ".join(f"{value:g}" for value in (0, *np.cumsum(column)))}
        for name, column in zip(_names(info), np.array(sums).T, strict=True)
    ]


def _names(info: BundleInfo) -> list[str]:
    version = f'model_version="{VERSION}"'
    names = [f'emotion_predictions_total{{job="JOB", emotion="{label}", {version}}}' for label in info.labels]
    for feature, metric in METRICS.items():
        more = f", {version}" if feature == "confidence" else ""
        for edge in (*EDGES[feature], float("inf")):
            names.append(f'{metric}_bucket{{job="JOB", le="{floatToGoString(edge)}"{more}}}')
    ends = ("sum", "count")
    return [*names, *(f'emotion_prediction_confidence_{end}{{job="JOB", {version}}}' for end in ends)]


def _step(seen: Seen, info: BundleInfo, count: int, rng: np.random.Generator) -> list[float]:
    """What `count` faces add to each series."""
    chosen = rng.integers(len(seen.predicted), size=count)
    added = list(np.bincount(seen.predicted[chosen], minlength=len(info.labels)))
    for feature, bins in seen.bins.items():
        added += list(np.cumsum(np.bincount(bins[chosen], minlength=len(EDGES[feature]) + 1)))
    return [*added, float(seen.confidence[chosen].sum()), count]


def reference_series(job: str, reference: Reference) -> list[dict[str, str]]:
    """What the server shows of a bundle's reference."""
    labels = f'job="{job}", model_version="{VERSION}"'
    values = {f"emotion_reference_accuracy{{{labels}}}": reference.accuracy}
    values[f"emotion_reference_confidence{{{labels}}}"] = reference.mean_confidence
    for emotion, share in reference.predicted_shares().items():
        values[f'emotion_reference_share{{{labels}, emotion="{emotion}"}}'] = share
    for feature in METRICS:
        ends = [floatToGoString(edge) for edge in (float("-inf"), *EDGES[feature], float("inf"))]
        for above, upper, share in zip(ends, ends[1:], reference.histogram(feature).shares(), strict=False):
            name = f'emotion_reference_bin_share{{{labels}, feature="{feature}", above="{above}", upper="{upper}"}}'
            values[name] = share
    return [{"series": name, "values": f"{value:.9g}x{2 * DAY}"} for name, value in values.items()]


def first_alerts(series: list[dict[str, str]], directory: Path) -> list[tuple[dict[str, str], float]]:
    """Which alerts fire, and after how many minutes; promtool tells what it found and did not expect."""
    fired = f'min_over_time(timestamp(ALERTS{{alertstate="firing"}})[{2 * DAY * STEP}m:{STEP}m])'
    expected = {"expr": fired, "eval_time": f"{2 * DAY * STEP}m", "exp_samples": []}
    test = {"interval": f"{STEP}m", "input_series": series, "promql_expr_test": [expected]}
    rules = [str(RULES / f"{name}.yml") for name in ("class_drift", "input_drift", "accuracy")]
    path = directory / "traffic.yml"
    path.write_text(yaml.safe_dump({"rule_files": rules, "evaluation_interval": f"{STEP}m", "tests": [test]}))
    output = subprocess.run(["promtool", "test", "rules", str(path)], capture_output=True, text=True, check=False)
    if output.returncode and "got:" not in output.stderr:
        raise typer.BadParameter(f"promtool failed: {output.stderr}")
    return [
        (dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(at) / 60) for labels, at in _FIRED.findall(output.stderr)
    ]


def day_of(volume: str, seed: int, seen: Mapping[str, Seen], info: BundleInfo) -> list[tuple[dict[str, str], float]]:
    """The alerts of one volume and seed."""
    rng = np.random.default_rng((seed, VOLUMES[volume]))
    assert info.reference is not None
    series = []
    for name, after in seen.items():
        series += reference_series(name, info.reference)
        series += traffic(name, (seen["baseline"], after), info, VOLUMES[volume], rng)
    with tempfile.TemporaryDirectory() as directory:
        return first_alerts(series, Path(directory))


def told(minutes: list[float], days: int) -> str:
    """Delays of one shift."""
    if not minutes:
        return "not in 24 h"
    middle = float(np.median(minutes))
    text = f"{middle:.0f} min" if middle < 120 else f"{middle / 60:.1f} h"
    return text if len(minutes) == days else f"{text} ({len(minutes)} of {days})"


def main(
    bundle: Annotated[Path, typer.Option(help="a bundle directory, with a reference")],
    days: Annotated[int, typer.Option(min=1, help="seeds for each volume")] = 3,
) -> None:
    """Print one table: false alarms, and the median delay of each shift with the alert that came first."""
    loaded = read_bundle(bundle)
    if loaded.info.reference is None:
        raise typer.BadParameter(f"{bundle} has no reference; export it again")
    pool = read_pool(drawn_faces(seed=0))
    seen = conditions(Engine(loaded), loaded.info, pool)
    table = Table("faces per hour", "false alarms", *SCENARIOS)
    for volume, hourly in VOLUMES.items():
        table.add_row(f"{volume}, {hourly:,}", *row(volume, days, seen, loaded.info))
    Console(width=160).print(table)


def row(volume: str, days: int, seen: Mapping[str, Seen], info: BundleInfo) -> list[str]:
    """The cells of one volume."""
    alarms, delays, first = 0, {name: [] for name in SCENARIOS}, dict.fromkeys(SCENARIOS, "")
    for seed in track(range(days), volume):
        soonest: dict[str, tuple[float, str]] = {}
        for labels, minute in day_of(volume, seed, seen, info):
            job = labels["job"]
            if minute <= DAY * STEP or job == "baseline":
                alarms += 1
                typer.echo(f"false alarm: {labels} after {minute:.0f} min", err=True)
            else:
                about = labels.get("feature", labels["alertname"].removeprefix("Emotion"))
                soonest[job] = min(soonest.get(job, (minute, about)), (minute, about))
        for job, (minute, about) in soonest.items():
            delays[job].append(minute - DAY * STEP)
            first[job] = about
    served = days * (len(SCENARIOS) + 2)
    cells = [f"{told(delays[name], days)}{f', {first[name]}' if first[name] else ''}" for name in SCENARIOS]
    return [f"{alarms} in {served} days", *cells]


if __name__ == "__main__":
    typer.run(main)
