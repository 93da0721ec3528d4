"""The gate: each threshold, the comparison with the champion, and champions that cannot be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from emotion_detection.bundle import (
    MODEL_FILE,
    BundleInfo,
    Lineage,
    ModelBundle,
    file_sha256,
    read_bundle,
    write_bundle_info,
)
from emotion_detection.corruptions import BY_NAME
from emotion_detection.gate import FEWEST_IN_SLICE, Candidate, Check, Holdout, Verdict, judge, table
from emotion_detection.params import Params, parse_params
from emotion_detection.promotion import measure_robustness
from emotion_detection.scoring import Scores, score
from emotion_detection.slices import by_value, face_slicings

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


# What a model does on parts of the test images, and on corrupted ones


def faces(light: Sequence[int]) -> NDArray[np.uint8]:
    """(300, 48, 48, 1) of noise, as many of each brightness."""
    noise = np.random.default_rng(0).integers(0, 40, size=(300, 48, 48, 1))
    return (noise + np.repeat(light, 300 // len(light))[:, np.newaxis, np.newaxis, np.newaxis]).astype(np.uint8)


def blind_in_the_dark(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Right answers, but for images darker than 50: `angry`, whatever they show."""
    said = np.where(images.mean(axis=(1, 2, 3)) < 50, 0, TRUTH)
    return np.eye(3, dtype=np.float32)[said] * 0.9 + np.float32(0.1 / 3)


def floors(**gate: float) -> Params:
    return params(max_ece=1.0, min_accuracy=0.5, **gate)


@pytest.mark.parametrize(("floor", "passes"), [(0.5, False), (0.3, True), (0.0, True)])
def test_a_model_that_fails_on_dark_faces_is_refused(floor: float, passes: bool) -> None:
    images = faces([10, 100, 160])
    holdout = replace(HOLDOUT, slicings=face_slicings(images))
    challenger = Candidate("x", info(), Scores(blind_in_the_dark(images), 1.0))
    verdict = judge(floors(min_slice_accuracy=floor), holdout, challenger, None)
    assert check(verdict, "accuracy").value == pytest.approx(7 / 9, abs=0.01)  # nothing else shows it
    assert verdict.passed is passes
    found = [each for each in verdict.checks if each.name == "accuracy per slice"]
    if floor:
        assert found[0].value == pytest.approx(1 / 3, abs=0.01)
        assert "brightness ≤" in found[0].detail
        assert "100 images" in found[0].detail
    else:
        assert not found


def test_few_images_are_no_reason_to_refuse() -> None:
    rare = by_value("agreement", np.r_[np.zeros(FEWEST_IN_SLICE - 1), np.ones(301 - FEWEST_IN_SLICE)], [0.5])
    answered = answers(0.9)
    answered[: FEWEST_IN_SLICE - 1] = np.roll(answered[: FEWEST_IN_SLICE - 1], 1, axis=1)  # all wrong
    challenger = Candidate("x", info(), Scores(answered, 1.0))
    verdict = judge(floors(min_slice_accuracy=0.5), replace(HOLDOUT, slicings=[rare]), challenger, None)
    assert check(verdict, "accuracy per slice").value == pytest.approx(0.9, abs=0.05)


def corrupted_bundle(directory: Path, labels: tuple[str, ...]) -> ModelBundle:
    """A real graph: the first class for dark faces, else the second."""
    limit = [
        numpy_helper.from_array(np.float32([-60.0]), "limit"),
        numpy_helper.from_array(np.float32([[-1, 1, -9]]), "to"),
    ]
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["pixels"], ["flat"]),
        helper.make_node("ReduceMean", ["flat"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Add", ["mean", "limit"], ["above"]),
        helper.make_node("MatMul", ["above", "to"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    ends = [
        helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 48, 48, 1]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 3]),
    ]
    graph = helper.make_graph(nodes, "light", ends[:1], ends[1:], limit)
    directory.mkdir()
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9), directory / MODEL_FILE
    )
    write_bundle_info(directory, info(labels=labels, files={MODEL_FILE: file_sha256(directory / MODEL_FILE)}))
    return read_bundle(directory)


def test_a_model_that_bears_no_darkening_is_refused_by_what_onnx_runtime_measures(tmp_path: Path) -> None:
    """It answers `sad` to every face of 110; labels stand in another order than those of the data set."""
    bundle = corrupted_bundle(tmp_path / "bundle", ("happy", "sad", "angry"))
    images = faces([90])
    holdout = replace(HOLDOUT, truth=np.full(300, 2, np.int32))
    settings = floors(min_corrupted_accuracy=0.96, min_recall=0.0)
    found = measure_robustness(settings, bundle, holdout, images)
    assert found is not None
    assert found.by_corruption() == pytest.approx(dict.fromkeys(BY_NAME, 1.0) | {"darker": 1 / 3})
    challenger = Candidate("x", bundle.info, score(bundle, images), found)
    verdict = judge(settings, holdout, challenger, None)
    assert failed(verdict) == ["accuracy, corrupted"]
    assert "on 120 corrupted test images; lowest: darker 0.333" in verdict.failures()
    assert judge(floors(min_corrupted_accuracy=0.9, min_recall=0.0), holdout, challenger, None).passed
