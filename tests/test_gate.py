"""The gate: each threshold, the comparison with the champion, and champions that cannot be compared."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rich.console import Console

from emotion_detection.bundle import BundleInfo, Lineage
from emotion_detection.gate import Candidate, Check, Holdout, Verdict, judge, table
from emotion_detection.params import Params, parse_params
from emotion_detection.scoring import Scores

LABELS = ("angry", "happy", "sad")
TRUTH = np.arange(300, dtype=np.int32) % 3
HOLDOUT = Holdout(LABELS, TRUTH, image_size=48, channels=1)
GATE = {
    "min_accuracy": 0.6,
    "min_recall": 0.5,
    "max_ece": 0.15,
    "max_milliseconds": 5.0,
    "margin": 0.02,
    "bootstrap": 500,
}


def params(**gate: float) -> Params:
    return parse_params({"models": {"m": {"architecture": "lenet"}}, "gate": GATE | gate})


def info(**changes: Any) -> BundleInfo:
    lineage = Lineage(commit=None, dirty=False, dvc_lock=None, data_hash="d", training_id="t")
    known = {
        "model": "m",
        "architecture": "lenet",
        "parameters": 1,
        "labels": LABELS,
        "image_size": 48,
        "channels": 1,
        "temperature": 1.0,
        "reference_shares": {},
        "metrics": {"parity": 1e-6},
        "lineage": lineage,
        "files": {},
    }
    return BundleInfo(**(known | changes))


def answers(correct: Mapping[int, float] | float, confidence: float = 0.8) -> NDArray[np.float32]:
    """(300, 3): of each class the first share is right; the others get the next class."""
    share = correct if isinstance(correct, Mapping) else dict.fromkeys(range(3), correct)
    within = np.arange(300) // 3  # 0 to 99 in each class
    right = within < np.array([share[label] * 100 for label in TRUTH])
    said = np.where(right, TRUTH, (TRUTH + 1) % 3)
    probabilities = np.full((300, 3), (1 - confidence) / 2, np.float32)
    probabilities[np.arange(300), said] = confidence
    return probabilities


def candidate(correct: Mapping[int, float] | float = 0.8, milliseconds: float = 1.0, **changes: Any) -> Candidate:
    return Candidate("version 2 (m)", info(**changes), Scores(answers(correct), milliseconds))


def check(verdict: Verdict, name: str) -> Check:
    return next(check for check in verdict.checks if check.name == name)


def failed(verdict: Verdict) -> list[str]:
    return [check.name for check in verdict.checks if not check.passed]


def test_a_good_first_champion_passes_the_absolute_checks() -> None:
    verdict = judge(params(), HOLDOUT, candidate(), None)
    assert verdict.passed
    assert check(verdict, "accuracy").value == pytest.approx(0.8)
    assert check(verdict, "calibration error").value == pytest.approx(0, abs=1e-6)
    assert "no champion yet" in verdict.notes[0]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("accuracy", {"correct": 0.55}),
        ("recall per class", {"correct": {0: 0.9, 1: 0.9, 2: 0.4}}),
        ("ms per face", {"milliseconds": 5.1}),
        ("ms per face", {"milliseconds": float("nan")}),
        ("ONNX parity", {"metrics": {"parity": 0.01}}),
        ("ONNX parity", {"metrics": {}}),
    ],
)
def test_each_threshold_alone_refuses(name: str, changes: dict[str, Any]) -> None:
    verdict = judge(params(max_ece=1.0), HOLDOUT, candidate(**changes), None)
    assert failed(verdict) == [name]
    assert name in verdict.failures()
    assert not verdict.passed


def test_overconfidence_refuses() -> None:
    overconfident = Candidate("x", info(), Scores(answers(0.7, confidence=0.98), 1.0))
    verdict = judge(params(), HOLDOUT, overconfident, None)
    assert failed(verdict) == ["calibration error"]
    assert check(verdict, "calibration error").value == pytest.approx(0.28, abs=1e-6)


def test_the_worst_class_is_named_and_classes_without_images_are_told() -> None:
    verdict = judge(params(), HOLDOUT, candidate({0: 0.9, 1: 0.8, 2: 0.6}), None)
    assert "worst class: sad" in check(verdict, "recall per class").detail
    four = Holdout((*LABELS, "fear"), TRUTH, 48, 1)
    wider = np.hstack([answers(0.8), np.zeros((300, 1), np.float32)])
    verdict = judge(params(), four, Candidate("x", info(labels=four.labels), Scores(wider, 1.0)), None)
    assert verdict.passed
    assert "no test images of fear" in check(verdict, "recall per class").detail


@pytest.mark.parametrize(("share", "passes"), [(0.90, True), (0.80, True), (0.79, True), (0.74, False)])
def test_a_challenger_must_not_be_worse_by_more_than_the_margin(share: float, passes: bool) -> None:
    verdict = judge(params(margin=0.03), HOLDOUT, candidate(share), candidate(0.8))
    assert check(verdict, "accuracy - champion's").passed is passes
    assert verdict.passed is passes
    assert verdict.champion == "version 2 (m)"


def test_too_few_images_to_tell_refuse_an_equal_challenger_that_errs_elsewhere() -> None:
    """Equal accuracy on 300 images, but on different ones: the interval is wider than the margin."""
    champion = Candidate("c", info(), Scores(np.roll(answers(0.8), 90, axis=0), 1.0))
    verdict = judge(params(margin=0.01), HOLDOUT, candidate(0.8), champion)
    comparison = check(verdict, "accuracy - champion's")
    assert "difference +0.0000" in comparison.detail
    assert not comparison.passed


def test_the_order_of_the_labels_does_not_matter() -> None:
    order = [2, 0, 1]
    shuffled = Candidate("x", info(labels=tuple(LABELS[i] for i in order)), Scores(answers(0.8)[:, order], 1.0))
    verdict = judge(params(), HOLDOUT, shuffled, shuffled)
    assert check(verdict, "accuracy").value == pytest.approx(0.8)
    assert "difference +0.0000" in check(verdict, "accuracy - champion's").detail


@pytest.mark.parametrize("changes", [{"labels": ("angry", "happy")}, {"image_size": 64}, {"channels": 3}])
def test_a_champion_that_cannot_answer_these_images_leaves_the_absolute_checks(changes: dict[str, Any]) -> None:
    champion = Candidate("version 1 (old)", info(**changes), None)
    verdict = judge(params(), HOLDOUT, candidate(), champion)
    assert verdict.passed
    assert "accuracy - champion's" not in [check.name for check in verdict.checks]
    assert "Not compared with the champion" in verdict.notes[0]
    assert not judge(params(), HOLDOUT, candidate(0.5), champion).passed


@pytest.mark.parametrize("changes", [{"labels": ("angry", "happy")}, {"image_size": 64}, {"channels": 3}])
def test_a_challenger_that_cannot_answer_these_images_is_refused(changes: dict[str, Any]) -> None:
    verdict = judge(params(), HOLDOUT, Candidate("x", info(**changes), None), candidate())
    assert failed(verdict) == ["fits the data"]


def test_no_test_images_are_a_refusal_and_no_crash() -> None:
    empty = Holdout(LABELS, np.array([], np.int32), 48, 1)
    verdict = judge(params(), empty, Candidate("x", info(), None), None)
    assert "no images" in verdict.failures()


def test_a_verdict_is_kept_as_json_and_read_back() -> None:
    verdict = judge(params(), HOLDOUT, candidate(0.5), candidate(0.8))
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict
    assert verdict.model_dump()["passed"] is False


def test_the_table_shows_every_check_with_what_was_required() -> None:
    verdict = judge(params(), HOLDOUT, candidate(0.5), candidate(0.8))
    text = StringIO()
    Console(file=text, width=200).print(table(verdict))
    lines = text.getvalue().splitlines()
    for each in verdict.checks:
        (line,) = [line for line in lines if line.startswith("│") and line.split("│")[1].strip() == each.name]
        assert ("pass" if each.passed else "FAIL") in line
        assert each.required() in line


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**31 - 1))
def test_passing_against_a_champion_never_contradicts_the_numbers(ours: float, theirs: float, seed: int) -> None:
    """Whatever the two are: it passes only if it is not observed to be worse by more than the margin."""
    lenient = params(min_accuracy=0, min_recall=0, max_ece=1).model_copy(update={"seed": seed})
    verdict = judge(lenient, HOLDOUT, candidate(ours), candidate(theirs))
    difference = (answers(ours).argmax(1) == TRUTH).mean() - (answers(theirs).argmax(1) == TRUTH).mean()
    if verdict.passed:
        assert difference >= -GATE["margin"] - 1e-9
    if difference >= 0 and ours >= theirs:  # right wherever the other is, and more
        assert verdict.passed
