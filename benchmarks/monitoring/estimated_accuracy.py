"""Accuracy that the rules estimate without labels against the true one, under each shift of `emotion replay`.

    python -m benchmarks.monitoring.estimated_accuracy bundles/lenet         # --json; in a project that was trained

The faces of the test split are changed as a replay changes them, each of them once; for happy-hour some are left out,
so that those that remain have its shares. The estimate is that of monitoring/prometheus/rules/accuracy.yml: accuracy on
the validation split, plus mean confidence now, less mean confidence there. It holds as long as confidence does: where a
model is wrong and sure of it, the estimate is too high, and the table says by how much.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.progress import track

from emotion_detection.artifacts import DATASET, DECISIONS, Interval
from emotion_detection.bundle import ModelBundle, read_bundle
from emotion_detection.cli.output import AsJson, print_json, print_table
from emotion_detection.data.census import kept_rows
from emotion_detection.errors import EmotionError, reported
from emotion_detection.labels import plain
from emotion_detection.preprocess import prepare
from emotion_detection.replay import SCENARIOS, Scenario, change_face
from emotion_detection.scoring import predictor
from emotion_detection.slices import share

MARGIN = 0.05
"""How far below the registered accuracy EmotionEstimatedAccuracyLow fires, as in the rules."""
Faces = Sequence[tuple[str, bytes]]
"""Plain name of the emotion, and image file."""


@dataclass(frozen=True)
class Row:
    """One scenario."""

    scenario: str
    faces: int
    accuracy: Interval
    estimated: float
    registered: float
    """Accuracy on the validation split."""

    @property
    def verdict(self) -> str:
        """Whether the alert says what labels would."""
        told, true = self.estimated < self.registered - MARGIN, self.accuracy.value < self.registered - MARGIN
        return {(True, True): "told", (False, False): "nothing to tell", (True, False): "false alarm"}.get(
            (told, true), "missed"
        )


def compare(bundle: ModelBundle, name: str, faces: Faces, confidence: float) -> Row:
    """True and estimated accuracy of a bundle that has a reference on faces that are as they are served."""
    info, reference = bundle.info, bundle.info.reference
    assert reference is not None
    labels = [plain(label) for label in info.labels]
    images = np.stack([prepare(data, info.image_size, info.channels) for _, data in faces])
    rows = predictor(bundle)(images)
    truth = np.array([labels.index(emotion) for emotion, _ in faces])
    right = int((rows.argmax(axis=1) == truth).sum())
    estimated = float(rows.max(axis=1).mean()) + reference.accuracy - reference.mean_confidence
    return Row(name, len(faces), share(right, len(faces), confidence), estimated, reference.accuracy)


def shifted(faces: Faces, scenario: Scenario) -> Faces:
    """The faces with a scenario's shares and its changes."""
    chosen = with_shares(faces, scenario.shares) if scenario.shares else faces
    if not scenario.steps:
        return chosen
    return [(emotion, change_face(data, scenario.steps, 0, place)) for place, (emotion, data) in enumerate(chosen)]


def with_shares(faces: Faces, shares: Mapping[str, float]) -> Faces:
    """As many of the faces as can have these shares of some emotions; of the others the rest, as they were."""
    found = Counter(emotion for emotion, _ in faces)
    if missing := sorted(set(shares) - set(found)):
        raise EmotionError(f"no face of the test split is {', '.join(missing)}; this scenario needs some")
    others = len(faces) - sum(found[emotion] for emotion in shares)
    left = 1 - sum(shares.values())
    total = min([found[emotion] / part for emotion, part in shares.items()] + [others / left])
    wanted = {emotion: round(total * shares.get(emotion, left * count / others)) for emotion, count in found.items()}
    seen: Counter[str] = Counter()
    chosen = []
    for emotion, data in faces:
        seen[emotion] += 1
        if seen[emotion] <= wanted[emotion]:
            chosen.append((emotion, data))
    return chosen


def held_out_faces() -> Faces:
    """Those of the test split that validation keeps."""
    rows = kept_rows(DATASET, DECISIONS, ["split", "label", "image"])
    return [(plain(row["label"]), row["image"]) for row in rows if row["split"] == "test"]


def main(
    bundle: Annotated[Path, typer.Argument(help="a bundle directory, with a reference")],
    confidence: Annotated[float, typer.Option(min=0.5, max=0.999, help="of the intervals")] = 0.95,
    as_json: AsJson = False,
) -> None:
    """Print true and estimated accuracy, and their difference, as the faces are and under each shift."""
    with reported():
        loaded, faces = read_bundle(bundle), held_out_faces()
        if loaded.info.reference is None:
            raise EmotionError(f"{bundle}: has no reference; export it again")
        if unknown := sorted({emotion for emotion, _ in faces} - {plain(label) for label in loaded.info.labels}):
            raise EmotionError(f"{bundle}: does not know {', '.join(unknown)}, which the test split has; take another")
        scenarios = {"as they are": Scenario("")} | dict(SCENARIOS)
        rows = [
            compare(loaded, name, shifted(faces, scenario), confidence)
            for name, scenario in track(scenarios.items(), "judge", disable=as_json)
        ]
    if as_json:
        print_json([as_record(row) for row in rows])
    else:
        print_table(f"{bundle}: accuracy, {confidence:.0%} intervals", _COLUMNS, map(_cells, rows))


def as_record(row: Row) -> dict[str, Any]:
    """Ready for JSON."""
    accuracy = row.accuracy.model_dump()
    return asdict(row) | {
        "accuracy": accuracy,
        "difference": row.estimated - row.accuracy.value,
        "verdict": row.verdict,
    }


_COLUMNS = ("faces", " number", " true", " estimated", " difference", "the alert")


def _cells(row: Row) -> list[str]:
    true = f"{row.accuracy.value:.3f} ({row.accuracy.low:.3f} to {row.accuracy.high:.3f})"
    difference = f"{row.estimated - row.accuracy.value:+.3f}"
    return [row.scenario, f"{row.faces:,}", true, f"{row.estimated:.3f}", difference, row.verdict]


if __name__ == "__main__":
    typer.run(main)
