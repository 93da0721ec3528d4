"""Which alerts each scenario of `emotion replay` makes fire, against a real server, Prometheus and Alertmanager.

    python -m benchmarks.monitoring.scenario_alerts bundles/lenet        # seven minutes; --json

The rules are those of monitoring/prometheus/rules; in those about drift and accuracy hours and days are cut to half a
minute, and waits to two seconds. Before each scenario faces come as in training for two windows, and nothing may fire
at the end. On a machine that is busy with other things, answers are slow, and the objectives' alerts rightly say so.

What a shift does to the faces is known, so those alerts must fire and no others about the faces. What a model makes of
changed faces, other answers or doubt, depends on the model: those alerts may fire. Exit status 1 where another does.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import httpx
import typer

from benchmarks.monitoring.closed_loop import RULES, hasten, monitored, wait_until
from benchmarks.monitoring.project import Project
from emotion_detection.bundle import read_bundle
from emotion_detection.cli.output import AsJson, print_json, print_table
from emotion_detection.errors import EmotionError, reported
from emotion_detection.replay import SCENARIOS, drawn_faces, phases, read_pool
from emotion_detection.sending import send
from tests.serving.processes import running

WINDOW = 30
"""Seconds in place of an hour and of a day."""
CLASSES, ESTIMATE = "EmotionClassDrift", "EmotionEstimatedAccuracyLow"
BRIGHTNESS, CONTRAST, SHARPNESS, CONFIDENCE = (
    f"EmotionInputDrift {feature}" for feature in ("brightness", "contrast", "sharpness", "confidence")
)
MUST: Mapping[str, frozenset[str]] = {
    "happy-hour": frozenset({CLASSES}),
    "dark-room": frozenset({BRIGHTNESS, CONTRAST, SHARPNESS}),
    "blur": frozenset({SHARPNESS}),
    "new-camera": frozenset({CONTRAST, SHARPNESS}),
}
MAY = frozenset({CLASSES, CONFIDENCE, ESTIMATE})
"""What a model may make of faces that are other than before."""
ALSO: Mapping[str, frozenset[str]] = {"blur": frozenset({CONTRAST})}
"""What blurred edges take away, more or less of it by how much of a face they are."""


@dataclass(frozen=True)
class Seen:
    """What fired during one scenario."""

    scenario: str
    fired: dict[str, float]
    """Seconds after the first shifted face, by alert."""
    before: list[str]
    """What fired although nothing was changed."""
    missing: list[str]
    unexpected: list[str]
    failed: int
    """Requests without an answer."""

    @property
    def exact(self) -> bool:
        """Whether all that must, and nothing that may not, has fired."""
        return not (self.before or self.missing or self.unexpected or self.failed)


def firing(prometheus: str) -> set[str]:
    """Alerts that fire now, those about faces with their feature."""
    alerts = httpx.get(f"{prometheus}/api/v1/alerts", timeout=20).raise_for_status().json()["data"]["alerts"]
    labels = (alert["labels"] for alert in alerts if alert["state"] == "firing")
    return {f"{label['alertname']} {label.get('feature', '')}".strip() for label in labels}


def replay(name: str, server: str, prometheus: str, rate: float, reference: Mapping[str, float]) -> Seen:
    """Send a scenario, and see what fires."""
    pool = read_pool(drawn_faces(seed=0))
    counts = {"baseline": round(2 * WINDOW * rate), "shifted": round(1.5 * WINDOW * rate)}
    baseline, shifted = phases(name, pool, reference, seed=0, **counts)
    sent = [send(server, baseline, rate)]
    before, start, fired = sorted(firing(prometheus)), time.monotonic(), dict[str, float]()
    with ThreadPoolExecutor(1) as threads:
        under_way = threads.submit(send, server, shifted, rate)
        while not under_way.done():
            for alert in firing(prometheus) - fired.keys():
                fired[alert] = round(time.monotonic() - start, 1)
            time.sleep(0.5)
    sent.append(under_way.result())
    failed = sum(tally.failures.total() for tally in sent)
    allowed = MUST[name] | MAY | ALSO.get(name, frozenset())
    missing, unexpected = sorted(MUST[name] - fired.keys()), sorted(fired.keys() - allowed)
    return Seen(name, fired, before, missing, unexpected, failed)


def main(
    bundle: Annotated[Path, typer.Argument(help="a bundle directory, with a reference")],
    rate: Annotated[float, typer.Option(min=15, help="faces per second")] = 40.0,
    as_json: AsJson = False,
) -> None:
    """Print which alerts fired, in each scenario, and whether they are those that must."""
    with reported(), tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder, loaded = Path(temporary), read_bundle(bundle)
        if loaded.info.reference is None:
            raise EmotionError(f"{bundle}: has no reference; export it again")
        server = stack.enter_context(running(folder, "--bundle", str(bundle.resolve())))
        wait_until(server.is_ready, 120, "the server")
        rules = hasten(folder / "rules", WINDOW, files=("*drift.yml", "accuracy.yml"))
        for file in set(RULES.glob("*.yml")) - {RULES / hastened.name for hastened in rules.iterdir()}:
            shutil.copy(file, rules)
        watched = stack.enter_context(monitored(Project(folder, "true"), server.url, folder / "monitor", rules))
        shares = loaded.info.reference_shares
        seen = [replay(name, server.url, watched.prometheus, rate, shares) for name in SCENARIOS]
    if as_json:
        print_json([asdict(one) | {"exact": one.exact} for one in seen])
    else:
        print_table("Alerts of each scenario", _COLUMNS, map(_cells, seen))
    if not all(one.exact for one in seen):
        sys.exit(1)


_COLUMNS = ("scenario", "must fire, and did (s)", "may fire (s)", "missing", "unexpected", "before it", "")


def _cells(seen: Seen) -> list[str]:
    told = [f"{_short(alert)} {seconds:.0f}" for alert, seconds in seen.fired.items() if alert in MUST[seen.scenario]]
    known = MUST[seen.scenario] | set(seen.unexpected)
    own = [f"{_short(alert)} {seconds:.0f}" for alert, seconds in seen.fired.items() if alert not in known]
    rest = [[_short(alert) for alert in alerts] for alerts in (seen.missing, seen.unexpected, seen.before)]
    return [
        seen.scenario,
        *(", ".join(words) or "none" for words in (told, own, *rest)),
        "exact" if seen.exact else f"NOT exact, {seen.failed} requests failed",
    ]


def _short(alert: str) -> str:
    return alert.removeprefix("Emotion")


if __name__ == "__main__":
    typer.run(main)
