"""May this model become champion? Thresholds and evidence in, verdict out; no MLflow, no TensorFlow, no files.

    verdict = judge(params, holdout, challenger, champion)
    verdict.passed, verdict.checks

Challenger and champion answer the same test images, each with the graph that is served: in int8 where its bundle has
that. Against a champion the challenger must be non-inferior: the lower end of the paired bootstrap interval of the
difference in accuracy is at least minus `gate.margin`. A first champion, or one that cannot answer today's images,
leaves the absolute checks alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, computed_field
from rich.table import Table

from emotion_detection import stats
from emotion_detection.artifacts import Robustness
from emotion_detection.bundle import BundleInfo
from emotion_detection.params import Params
from emotion_detection.scoring import Scores
from emotion_detection.slices import Slicing, accuracy_by_slice

FEWEST_IN_SLICE = 30
"""Images without which the accuracy of a slice says too little to refuse a model."""


@dataclass(frozen=True)
class Holdout:
    """The images that both are judged on."""

    labels: tuple[str, ...]
    """(K,) class names."""
    truth: NDArray[np.int32]
    """(N,), indices into `labels`."""
    image_size: int
    channels: int
    slicings: Sequence[Slicing] = ()
    """How accuracy is looked at in parts."""


@dataclass(frozen=True)
class Candidate:
    """A bundle and what it answered."""

    name: str
    """For people: `version 3 (lenet)`."""
    info: BundleInfo
    scores: Scores | None
    """On the test set; none where the bundle cannot take it (see `misfit`)."""
    robustness: Robustness | None = None
    """On corrupted test images; none where `gate.min_corrupted_accuracy` does not ask for it."""


class Check(BaseModel):
    """One requirement."""

    model_config = ConfigDict(frozen=True)

    name: str
    value: float | None
    """None where it could not be measured."""
    threshold: float | None
    bound: Literal["at least", "at most", "none"]
    passed: bool
    detail: str

    def required(self) -> str:
        """`≥ 0.5`, `≤ 0.1`, or nothing."""
        return "" if self.threshold is None else f"{'≥' if self.bound == 'at least' else '≤'} {_number(self.threshold)}"

    def sentence(self) -> str:
        figures = "" if self.value is None else f" {_number(self.value)}, required {self.required()}"
        return f"{self.name}{figures} ({self.detail})"


class Verdict(BaseModel):
    """All requirements, and whether all are met."""

    model_config = ConfigDict(frozen=True)

    challenger: str
    champion: str | None
    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def failures(self) -> str:
        """What was not met, in one line."""
        return "; ".join(check.sentence() for check in self.checks if not check.passed)


def misfit(info: BundleInfo, holdout: Holdout) -> str | None:
    """Why a bundle cannot answer the test set; none if it can. The order of the labels does not matter."""
    if len(holdout.truth) == 0:
        return "the test split has no images; see data.split in params.yaml"
    if set(info.labels) != set(holdout.labels):
        return f"its labels are {', '.join(info.labels)}; the data set has {', '.join(holdout.labels)}"
    if (info.image_size, info.channels) != (holdout.image_size, holdout.channels):
        # The shards hold finished crops: scaling those again would not be what the bundle sees in service.
        return (
            f"it takes {info.image_size} x {info.image_size} x {info.channels}; the data set has crops of "
            f"{holdout.image_size} x {holdout.image_size} x {holdout.channels}, which cannot be cut anew"
        )
    return None


def judge(params: Params, holdout: Holdout, challenger: Candidate, champion: Candidate | None) -> Verdict:
    """Hold a challenger against the thresholds of `params.gate` and against the champion, if there is one."""
    problem = misfit(challenger.info, holdout)
    checks = [_fits(problem), _parity(challenger.info, params)]
    notes: list[str] = []
    if problem is None and challenger.scores is not None:
        answers = _in_order(challenger.info, challenger.scores, holdout.labels)
        checks += _absolute(params, holdout, answers, challenger.scores)
        checks += _floors(params, holdout, answers, challenger.robustness)
        checks += _against(champion, params, holdout, answers, notes)
    else:
        notes.append("The challenger could not be scored: only what its bundle records was checked.")
    name = champion.name if champion else None
    return Verdict(challenger=challenger.name, champion=name, checks=tuple(checks), notes=tuple(notes))


def table(verdict: Verdict) -> Table:
    """The verdict for a terminal."""
    against = f"against {verdict.champion}" if verdict.champion else "no champion yet"
    result = Table(title=f"Gate: {verdict.challenger}, {against}", caption="\n".join(verdict.notes) or None)
    for column in ("check", "found", "required", "", "detail"):
        result.add_column(column, justify="right" if column in ("found", "required") else "left")
    for check in verdict.checks:
        mark = "[green]pass[/]" if check.passed else "[bold red]FAIL[/]"
        result.add_row(check.name, _number(check.value), check.required(), mark, check.detail)
    return result


def _fits(problem: str | None) -> Check:
    detail = problem or "same labels and input as the data set"
    return Check(name="fits the data", value=None, threshold=None, bound="none", passed=problem is None, detail=detail)


def _parity(info: BundleInfo, params: Params) -> Check:
    found = info.metrics.get("parity")
    detail = "largest difference between Keras and ONNX, recorded by export"
    if found is None:
        limit = params.export.max_difference
        detail = "the bundle records none; export it again"
        return Check(name="ONNX parity", value=None, threshold=limit, bound="at most", passed=False, detail=detail)
    return _at_most("ONNX parity", found, params.export.max_difference, detail)


def _absolute(params: Params, holdout: Holdout, answers: NDArray[np.float32], scores: Scores) -> list[Check]:
    gate, count = params.gate, len(holdout.labels)
    confusion = stats.confusion_matrix(holdout.truth, answers.argmax(axis=1), count)
    ece = stats.expected_calibration_error(answers, holdout.truth, params.evaluation.ece_bins)
    images = f"on {len(holdout.truth)} test images, {scores.precision}"
    return [
        _at_least("accuracy", float(stats.accuracy(confusion)), gate.min_accuracy, images),
        _worst_recall(confusion, holdout.labels, gate.min_recall),
        _at_most("calibration error", ece, gate.max_ece, f"{params.evaluation.ece_bins} bins"),
        _at_most(
            "ms per face", scores.milliseconds, gate.max_milliseconds, "median, batch 1, one thread, this machine"
        ),
    ]


def _worst_recall(confusion: stats.Counts, labels: Sequence[str], floor: float) -> Check:
    images = confusion.sum(axis=1)
    recall = {label: value for label, value, n in zip(labels, stats.recall(confusion), images, strict=True) if n}
    worst = min(recall, key=lambda label: recall[label])
    empty = [label for label, n in zip(labels, images, strict=True) if not n]
    detail = f"worst class: {worst}" + (f"; no test images of {', '.join(empty)}" if empty else "")
    return _at_least("recall per class", float(recall[worst]), floor, detail)


def _floors(
    params: Params, holdout: Holdout, answers: NDArray[np.float32], robustness: Robustness | None
) -> list[Check]:
    """For parts of the test images and for corrupted ones, as far as they are asked for and there are enough images."""
    right, gate, checks = answers.argmax(axis=1) == holdout.truth, params.gate, []
    parts = accuracy_by_slice(holdout.slicings, right, gate.confidence)
    parts = tuple(part for part in parts if part.images >= FEWEST_IN_SLICE)
    if parts and gate.min_slice_accuracy:
        worst = min(parts, key=lambda part: part.accuracy.value)
        detail = f"lowest: {worst.slicing} {worst.title}, {worst.images} images"
        checks.append(_at_least("accuracy per slice", worst.accuracy.value, gate.min_slice_accuracy, detail))
    if robustness and gate.min_corrupted_accuracy:
        means = robustness.by_corruption()
        worst_change = min(means, key=lambda name: means[name])
        detail = f"on {robustness.images} corrupted test images; lowest: {worst_change} {means[worst_change]:.3f}"
        checks.append(_at_least("accuracy, corrupted", robustness.mean.value, gate.min_corrupted_accuracy, detail))
    return checks


def _against(
    champion: Candidate | None, params: Params, holdout: Holdout, answers: NDArray[np.float32], notes: list[str]
) -> list[Check]:
    if champion is None:
        notes.append("There is no champion yet: only the absolute checks apply.")
        return []
    problem = misfit(champion.info, holdout)
    if problem is not None or champion.scores is None:
        notes.append(f"Not compared with the champion: {problem}. Only the absolute checks apply.")
        return []
    gate, truth = params.gate, holdout.truth
    ours = answers.argmax(axis=1) == truth
    theirs = _in_order(champion.info, champion.scores, holdout.labels).argmax(axis=1) == truth
    difference, low, high = stats.paired_bootstrap(ours, theirs, gate.bootstrap, gate.confidence, params.seed)
    detail = (
        f"lower end; difference {difference:+.4f}, {gate.confidence:.0%} interval {low:+.4f} to {high:+.4f}, "
        f"McNemar p = {stats.mcnemar(ours, theirs):.3f}"
    )
    return [_at_least("accuracy - champion's", low, -gate.margin, detail)]


def _in_order(info: BundleInfo, scores: Scores, labels: Sequence[str]) -> NDArray[np.float32]:
    return scores.probabilities[:, [info.labels.index(label) for label in labels]]


def _at_least(name: str, value: float, threshold: float, detail: str) -> Check:
    passed = bool(value >= threshold)  # false for NaN
    return Check(name=name, value=value, threshold=threshold, bound="at least", passed=passed, detail=detail)


def _at_most(name: str, value: float, threshold: float, detail: str) -> Check:
    passed = bool(value <= threshold)
    return Check(name=name, value=value, threshold=threshold, bound="at most", passed=passed, detail=detail)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
