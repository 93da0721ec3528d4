"""Pairwise figures against counts by hand and against other libraries."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from emotion_detection.comparison.agreement import cohen_kappa, disagreement, holm, matrix, pairs, wrong_models
from emotion_detection.stats import mcnemar
from tests.drift import jensen_shannon

LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2])
ANSWERS = np.array(
    [
        [0, 0, 0, 0, 1, 1, 1, 1, 2, 2],  # all right
        [0, 0, 0, 1, 1, 1, 1, 0, 2, 2],  # two wrong
        [0, 0, 1, 2, 1, 1, 1, 0, 2, 1],  # four wrong, one with another answer than the second
    ]
)
NAMES = ["best", "good", "poor"]


def test_pairs_by_hand() -> None:
    found = {(pair.first, pair.second): pair for pair in pairs(NAMES, ANSWERS, LABELS)}
    assert list(found) == [("best", "good"), ("best", "poor"), ("good", "poor")]
    first, _, last = found.values()
    assert (first.agreement, first.only_first, first.only_second, first.error_overlap) == (0.8, 2, 0, 0.0)
    assert (last.agreement, last.only_first, last.only_second, last.error_overlap) == (0.7, 2, 0, 0.5)
    same = matrix(NAMES, list(found.values()), "agreement")
    np.testing.assert_allclose(same, [[1, 0.8, 0.6], [0.8, 1, 0.7], [0.6, 0.7, 1]])


def test_p_values_are_those_of_mcnemar_corrected() -> None:
    found = pairs(NAMES, ANSWERS, LABELS)
    right = ANSWERS == LABELS
    raw = [mcnemar(right[a], right[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert [pair.p_value for pair in found] == pytest.approx(holm(raw).tolist())
    assert min(raw) < min(pair.p_value for pair in found)


def test_one_model_has_no_pairs() -> None:
    assert pairs(["only"], ANSWERS[:1], LABELS) == []
    assert matrix(["only"], [], "agreement").tolist() == [[1.0]]


@pytest.mark.parametrize("seed", range(5))
def test_kappa_is_that_of_scikit_learn(seed: int) -> None:
    first, second = np.random.default_rng(seed).integers(0, 4, (2, 60))
    second[:30] = first[:30]
    assert cohen_kappa(first, second) == pytest.approx(cohen_kappa_score(first, second))


def test_kappa_of_answers_that_never_change() -> None:
    assert cohen_kappa([1, 1, 1], [1, 1, 1]) == 1
    assert cohen_kappa([1, 1, 1], [2, 2, 2]) == 0


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]).tolist() == [1, 1]
    assert holm([]).tolist() == []


def test_disagreement_of_two_models_is_the_jensen_shannon_divergence() -> None:
    probabilities = np.random.default_rng(0).dirichlet(np.ones(4), size=(2, 6))
    expected = [jensen_shannon(first, second) for first, second in zip(*probabilities, strict=True)]
    np.testing.assert_allclose(disagreement(probabilities), expected)


def test_disagreement_runs_from_none_to_the_logarithm_of_the_models() -> None:
    certain = np.eye(4)[[[0, 0], [0, 1], [0, 2], [0, 3]]]  # four models, two images
    np.testing.assert_allclose(disagreement(certain), [0, 2], atol=1e-12)


def test_images_by_how_many_models_are_wrong() -> None:
    assert wrong_models(ANSWERS, LABELS).tolist() == [6, 2, 2, 0]
