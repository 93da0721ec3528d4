"""What Prometheus gets through a Pushgateway: a pipeline's figures, by its own code; and those of a challenger."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, push_to_gateway

from emotion_detection.artifacts import VALIDATION_JSON, write_record
from emotion_detection.data.report import ClassCount, DuplicateStatistics, ValidationReport
from emotion_detection.errors import EmotionError
from emotion_detection.gate import Check, Verdict
from emotion_detection.params import SPLITS
from emotion_detection.pushing import URL, measured, push_verdict
from emotion_detection.versions import VersionInfo
from serving.challenger_metrics import CanaryMetrics, ChallengerMetrics, Pair, ShadowMetrics
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


class Challenged:
    """A challenger's metrics as the server has them, which this one does not serve: in its name."""

    def __init__(self, url: str) -> None:
        self._url, self._registry = url, CollectorRegistry()
        ChallengerMetrics(self._registry)
        self._shadow, self._canary = ShadowMetrics(self._registry, 0.2, 256), CanaryMetrics(self._registry, 0.05)
        champion, self._challenger = (SimpleNamespace(version=version, labels=LABELS) for version in "12")
        self._pair = Pair(self._shadow, champion, self._challenger)
        self._canary.show_model(self._challenger)
        self._push()

    def judge(self, faces: int) -> None:
        """Both judge so many faces, half of them alike; the challenger answers as many requests."""
        answers = np.eye(len(LABELS), dtype=np.float32)
        champion, challenger = answers[np.zeros(faces, int)], answers[np.arange(faces) % 2]
        self._pair.count(champion, challenger)
        for _ in range(faces):
            self._canary.count(self._challenger, failed=False)
            self._pair.queue_seconds.observe(0.01)
            self._pair.inference_seconds.observe(0.001)
        self._push()

    def _push(self) -> None:
        push_to_gateway(self._url, "emotion-server", self._registry)


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
