"""The pipeline's figures as Prometheus metrics, read from the artifacts that a stage has just written.

    registry = of_stage("evaluate", "lenet", seconds=31.2)      # to be pushed, see pushing.py

A Pushgateway adds the labels `stage` and `model` to all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge

from emotion_detection.artifacts import (
    SHARDS,
    VALIDATION_JSON,
    DatasetInfo,
    History,
    Report,
    model_dir,
    read_record,
    report_dir,
)
from emotion_detection.params import SPLITS

if TYPE_CHECKING:
    from emotion_detection.gate import Verdict

OUTCOMES = ("promoted", "refused", "forced", "champion")
"""What may become of a version, as `promotion.Decision` has it; champion: it was already."""
SEVERITIES = ("critical", "warning")


def of_stage(stage: str, model: str, seconds: float) -> CollectorRegistry:
    """Duration of a stage that has just succeeded, when that was, and what its artifacts say.

    Raises:
        ArtifactError: one of them is missing or damaged.
    """
    registry = CollectorRegistry()
    gauge = partial(Gauge, registry=registry)
    gauge("emotion_pipeline_duration_seconds", "How long a stage took when it last succeeded, once loaded").set(seconds)
    succeeded = "When a stage last succeeded, seconds since 1970"
    gauge("emotion_pipeline_success_timestamp_seconds", succeeded).set_to_current_time()
    if tell := _FIGURES.get(stage):
        tell(gauge, model)
    return registry


def of_failure() -> CollectorRegistry:
    """That a stage has failed just now."""
    registry = CollectorRegistry()
    failed = "When a stage last failed, seconds since 1970"
    Gauge("emotion_pipeline_failure_timestamp_seconds", failed, registry=registry).set_to_current_time()
    return registry


def of_verdict(version: str, outcome: str, verdict: Verdict | None) -> CollectorRegistry:
    """What the gate said of a version.

    Args:
        verdict: none where nothing was judged.
    """
    registry = CollectorRegistry()
    labels = ["version", "check"]
    gauge = partial(Gauge, registry=registry)
    outcomes = gauge("emotion_gate_outcome", "1 for what became of the version", ["version", "outcome"])
    for name in OUTCOMES:
        outcomes.labels(version, name).set(name == outcome)
    gauge("emotion_gate_timestamp_seconds", "When the gate was last asked, seconds since 1970").set_to_current_time()
    if verdict:
        passed = gauge("emotion_gate_check_passed", "Whether the version meets a requirement", labels)
        value = gauge("emotion_gate_check_value", "What the gate has found", labels)
        required = gauge("emotion_gate_check_required", "What it asks for", [*labels, "bound"])
        for check in verdict.checks:
            passed.labels(version, check.name).set(check.passed)
            if check.value is not None:
                value.labels(version, check.name).set(check.value)
            if check.threshold is not None:
                required.labels(version, check.name, check.bound).set(check.threshold)
    return registry


def _validation(gauge: partial[Gauge], _model: str) -> None:
    from emotion_detection.data.report import ValidationReport  # noqa: PLC0415  imports pandas

    report = read_record(VALIDATION_JSON, ValidationReport)
    dropped = gauge("emotion_pipeline_images_dropped", "Images that validation left out", ["split", "reason"])
    for reason in (*report.defects, "class"):
        for split in SPLITS:
            dropped.labels(split, reason).set(report.dropped.get(reason, {}).get(split, 0))
    findings = gauge("emotion_pipeline_findings", "Expectations about the data that do not hold", ["severity"])
    for severity in SEVERITIES:
        findings.labels(severity).set(sum(finding.severity == severity for finding in report.findings))


def _shards(gauge: partial[Gauge], _model: str) -> None:
    images = gauge("emotion_pipeline_images", "Images that are used", ["split", "emotion"])
    for split, counts in read_record(SHARDS / "dataset.json", DatasetInfo).counts.items():
        for emotion, count in counts.items():
            images.labels(split, emotion).set(count)


def _training(gauge: partial[Gauge], model: str) -> None:
    history = read_record(model_dir(model) / "history.json", History)
    seconds = history.metrics.get("seconds", [])
    gauge("emotion_pipeline_training_seconds", "Time of all epochs, interrupted runs included").set(sum(seconds))
    gauge("emotion_pipeline_training_epochs", "Epochs that were trained").set(len(seconds))
    gauge("emotion_pipeline_parameters", "Weights of the model").set(history.parameters)


def _evaluation(gauge: partial[Gauge], model: str) -> None:
    report = read_record(report_dir(model) / "metrics.json", Report)
    accuracy = gauge("emotion_pipeline_accuracy", "Share of right answers", ["split"])
    low = gauge("emotion_pipeline_accuracy_low", "Lower end of its confidence interval", ["split"])
    high = gauge("emotion_pipeline_accuracy_high", "Upper end of its confidence interval", ["split"])
    macro_f1 = gauge("emotion_pipeline_macro_f1", "F1, averaged over the emotions", ["split"])
    ece = gauge("emotion_pipeline_calibration_error", "Expected calibration error, after temperature", ["split"])
    for split, found in (("val", report.val), ("test", report.test)):
        accuracy.labels(split).set(found.accuracy.value)
        low.labels(split).set(found.accuracy.low)
        high.labels(split).set(found.accuracy.high)
        macro_f1.labels(split).set(found.macro_f1.value)
        ece.labels(split).set(found.ece)


_FIGURES: Mapping[str, Callable[[partial[Gauge], str], None]] = {
    "validate": _validation,
    "shards": _shards,
    "train": _training,
    "evaluate": _evaluation,
}
