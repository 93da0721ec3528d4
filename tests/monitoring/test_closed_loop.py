"""Replayed drift -> Prometheus -> Alertmanager -> webhook -> gate -> champion -> the server swaps, all of it real.

The training alone is left out: the better model is there, and the command takes it through the gate.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.monitoring.closed_loop import hasten, run_loop
from benchmarks.monitoring.project import Project
from emotion_detection.preprocess import encode_png
from emotion_detection.replay import phases
from tests.monitoring.programs import need_alertmanager, need_pushgateway
from tests.monitoring.prometheus import need_prometheus
from tests.test_cli import succeed
from tests.workspace import LABELS, faces

pytestmark = pytest.mark.slow


def test_drift_ends_in_a_swap_and_no_request_fails(project: Path) -> None:
    need_prometheus()
    need_alertmanager()
    need_pushgateway()
    succeed("promote", "fair")
    images, labels = faces("test")
    pool = {
        label: [encode_png(image) for image, found in zip(images, labels, strict=True) if found == number]
        for number, label in enumerate(LABELS)
    }
    plan = phases("happy-hour", pool, dict.fromkeys(LABELS, 1 / 3), baseline=180, shifted=10_000, seed=0)
    rules = hasten(project / "rules", window=5, least=60)
    watched = Project(project, "emotion promote good")
    loop = run_loop(watched, plan, project / "monitor", rate=30, rules=rules, after=1)
    assert loop.early == []
    assert loop.failed == 0
    assert loop.alert == "EmotionClassDrift"
    assert list(loop.steps.values()) == sorted(loop.steps.values())
    before, after = loop.tallies
    assert before.versions.keys() < after.versions.keys()
    assert len(after.versions) == 2
