"""A pipeline's figures, pushed by its own code from the artifacts of a finished project."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from emotion_detection.artifacts import VALIDATION_JSON, write_record
from emotion_detection.data.report import SPLITS, ClassCount, DuplicateStatistics, ValidationReport
from emotion_detection.errors import EmotionError
from emotion_detection.gate import Check, Verdict
from emotion_detection.pushing import URL, measured, push_verdict
from emotion_detection.versions import VersionInfo
from tests.project import ACCURACY
from tests.workspace import LABELS

DROPPED = 3
VERSION = VersionInfo("detector", "7", None, "", (), {"model": "good"}, "", 0.0)


def push_all(project: Path, url: str) -> None:
    """Every stage of every model, two runs, one of which failed, and a verdict."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        patch.setenv(URL, url)
        write_validation()
        with contextlib.suppress(EmotionError), measured("run"):
            raise EmotionError("broken")
        for stage in ("fingerprint", "ingest", "validate", "shards", "pictures", "compare", "run"):
            with measured(stage):
                pass
        for model in ACCURACY:
            for stage in ("train", "evaluate", "export", "register"):
                with measured(stage, model):
                    pass
        checks = [Check(name="accuracy", value=0.9, threshold=0.5, bound="at least", passed=True, detail="")]
        push_verdict(VERSION, "promoted", Verdict(challenger="version 7", champion=None, checks=tuple(checks)))


def write_validation() -> None:
    """reports/validation.json of a data set of which a few training images were left out."""
    none = dict.fromkeys(SPLITS, 0)
    zeros = dict.fromkeys(set(DuplicateStatistics.model_fields) - {"in_train"}, 0)
    report = ValidationReport(
        images=228,
        kept=228 - DROPPED,
        defects={"unreadable": none, "duplicate": none | {"train": DROPPED}},
        black=none,
        dropped={"duplicate": none | {"train": DROPPED}},
        classes={split: {label: ClassCount(found=1, kept=1) for label in LABELS} for split in SPLITS},
        duplicates=DuplicateStatistics(in_train={}, **zeros),
        findings=(),
    )
    write_record(VALIDATION_JSON, report)
