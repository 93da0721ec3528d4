"""The benchmark of estimated accuracy: which faces it takes, and that its two figures are those of NumPy."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks.monitoring.estimated_accuracy import Row, compare, shifted, with_shares
from emotion_detection.artifacts import Interval
from emotion_detection.bundle import read_bundle
from emotion_detection.errors import EmotionError
from emotion_detection.replay import SCENARIOS
from tests.serving.tiny import LABELS, encode, some_reference, write_bundle

FACES = [(LABELS[number % 3], encode(number)) for number in range(90)]


def test_shares_are_those_of_the_scenario_and_no_face_counts_twice() -> None:
    chosen = with_shares(FACES, {"happy": 0.8})
    assert Counter(emotion for emotion, _ in chosen) == {"happy": 30, "angry": 4, "sad": 4}
    assert len({data for _, data in chosen}) == len(chosen)
    rarer = [face for face in FACES if face[0] != "sad"]
    assert Counter(emotion for emotion, _ in with_shares(rarer, {"happy": 0.1})) == {"happy": 3, "angry": 30}
    with pytest.raises(EmotionError, match="is happy"):
        with_shares([face for face in FACES if face[0] != "happy"], {"happy": 0.8})
    assert shifted(FACES, SCENARIOS["happy-hour"]) == chosen
    darker = shifted(FACES[:2], SCENARIOS["dark-room"])
    assert [emotion for emotion, _ in darker] == ["angry", "happy"]
    assert darker[0][1] != FACES[0][1]


def test_true_and_estimated_accuracy_are_those_of_numpy(tmp_path: Path) -> None:
    tiny = write_bundle(tmp_path / "bundle", seed=1, spread=9, reference=some_reference())
    row = compare(read_bundle(tiny.directory), "as they are", FACES, 0.95)
    answers = np.array([tiny.expected(data) for _, data in FACES])
    truth = [LABELS.index(emotion) for emotion, _ in FACES]
    assert row.accuracy.value == (answers.argmax(axis=1) == truth).mean()
    assert row.estimated == pytest.approx(answers.max(axis=1).mean() + 0.8 - 0.78, abs=1e-6)
    assert row.accuracy.low < row.accuracy.value < row.accuracy.high


@pytest.mark.parametrize(
    ("true", "estimated", "verdict"),
    [(0.5, 0.6, "told"), (0.5, 0.9, "missed"), (0.79, 0.79, "nothing to tell"), (0.9, 0.7, "false alarm")],
)
def test_what_the_alert_is_worth(true: float, estimated: float, verdict: str) -> None:
    assert Row("", 1, Interval(value=true, low=0, high=1), estimated, registered=0.8).verdict == verdict
