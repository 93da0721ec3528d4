"""Statistics against references (SciPy, scikit-learn), cases worked by hand, and their mathematical properties."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import optimize, special
from scipy import stats as reference
from scipy.spatial import distance
from sklearn import metrics

from emotion_detection import stats
from tests.drift import jensen_shannon, population_stability_index

CONFUSIONS = hnp.arrays(np.int64, (4, 4), elements=st.integers(0, 20)).filter(lambda counts: counts.sum() > 0)
SHARES = hnp.arrays(np.float64, 5, elements=st.floats(0.01, 1)).map(lambda values: values / values.sum())
ANSWERS = hnp.arrays(np.bool_, st.integers(1, 60))


def answers_of(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, predicted = np.indices(confusion.shape)
    return labels.ravel().repeat(confusion.ravel()), predicted.ravel().repeat(confusion.ravel())


def logits_with_temperature(planted: float, images: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose labels are drawn from softmax(logits / planted)."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(images, 5)) * 3 * planted
    probabilities = special.softmax(logits / planted, axis=1)
    return logits, (probabilities.cumsum(axis=1) > random.random((images, 1))).argmax(axis=1)


@given(hnp.arrays(np.float64, (3, 4), elements=st.floats(-1e4, 1e4)))
def test_softmax_agrees_with_scipy(logits):
    np.testing.assert_allclose(stats.softmax(logits), special.softmax(logits, axis=-1), atol=1e-12)


@given(CONFUSIONS)
def test_confusion_matrix_is_rebuilt_from_its_answers(confusion):
    np.testing.assert_array_equal(stats.confusion_matrix(*answers_of(confusion), 4), confusion)


@given(CONFUSIONS)
@settings(deadline=None)
def test_figures_of_a_confusion_matrix_agree_with_scikit_learn(confusion):
    labels, predicted = answers_of(confusion)
    classes = range(4)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=0
    )
    np.testing.assert_allclose(stats.precision(confusion), precision)
    np.testing.assert_allclose(stats.recall(confusion), recall)
    np.testing.assert_allclose(stats.f1(confusion), f1)
    np.testing.assert_allclose(stats.accuracy(confusion), metrics.accuracy_score(labels, predicted))
    np.testing.assert_allclose(
        stats.macro_f1(confusion), metrics.f1_score(labels, predicted, average="macro", zero_division=0)
    )
    np.testing.assert_allclose(stats.balanced_accuracy(confusion), recall[confusion.sum(axis=1) > 0].mean())


def test_figures_work_on_many_matrices_at_once():
    many = np.random.default_rng(0).integers(0, 9, size=(6, 3, 3))
    for statistic in (stats.accuracy, stats.macro_f1, stats.balanced_accuracy, stats.recall, stats.precision):
        np.testing.assert_allclose(statistic(many), [statistic(one) for one in many])


@pytest.mark.parametrize("planted", [0.4, 1.0, 3.0])
def test_planted_temperature_is_recovered(planted):
    logits, labels = logits_with_temperature(planted, 20_000)
    assert stats.fit_temperature(logits, labels) == pytest.approx(planted, rel=0.03)


def test_temperature_agrees_with_a_general_optimiser():
    logits, labels = logits_with_temperature(1.7, 500)

    def loss(log_temperature: float) -> float:
        scaled = special.log_softmax(logits / np.exp(log_temperature), axis=1)
        return -scaled[np.arange(len(labels)), labels].mean()

    best = optimize.minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-9})
    assert stats.fit_temperature(logits, labels) == pytest.approx(np.exp(best.x), rel=1e-5)


def test_temperature_stays_within_its_limits():
    certain = np.eye(3) * 5
    assert stats.TEMPERATURES[0] <= stats.fit_temperature(certain, [0, 1, 2]) < 0.2
    assert stats.fit_temperature(certain, [1, 2, 0]) == pytest.approx(stats.TEMPERATURES[1])
    assert stats.fit_temperature(np.zeros((4, 3)), [0, 1, 2, 0]) == pytest.approx(1)


def test_temperature_of_huge_float32_logits_is_finite():
    logits, labels = logits_with_temperature(1.0, 200)
    assert np.isfinite(stats.fit_temperature((logits * 1e6).astype(np.float32), labels))


def test_temperature_lowers_the_calibration_error_of_an_overconfident_model():
    logits, labels = logits_with_temperature(3.0, 5_000)
    before = stats.expected_calibration_error(stats.softmax(logits), labels, 15)
    temperature = stats.fit_temperature(logits, labels)
    after = stats.expected_calibration_error(stats.softmax(logits / temperature), labels, 15)
    assert before > 0.1
    assert after < 0.03


def test_calibration_error_worked_by_hand():
    # two bins: confidences 0.8 and 0.6 in (0.5, 1], right and wrong; 0.5 in (0, 0.5], right
    probabilities = [[0.8, 0.2], [0.4, 0.6], [0.5, 0.5]]
    expected = (2 / 3) * abs(0.5 - 0.7) + (1 / 3) * abs(1.0 - 0.5)
    assert stats.expected_calibration_error(probabilities, [0, 0, 0], 2) == pytest.approx(expected)


@given(st.integers(1, 200), st.integers(2, 20), st.integers(0, 1000))
def test_calibration_error_agrees_with_a_loop_over_bins(images, bins, seed):
    random = np.random.default_rng(seed)
    probabilities = special.softmax(random.normal(size=(images, 4)) * 2, axis=1)
    labels = random.integers(4, size=images)
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    expected = 0.0
    for number in range(bins):
        inside = (confidence > number / bins) & (confidence <= (number + 1) / bins)
        if inside.any():
            expected += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    assert stats.expected_calibration_error(probabilities, labels, bins) == pytest.approx(expected)


def test_reliability_counts_every_image_once():
    table = stats.reliability(np.eye(3), [0, 1, 1], 10)
    assert table.counts.tolist() == [0] * 9 + [3]
    assert table.accuracy[-1] == pytest.approx(2 / 3)


def test_bootstrap_by_counts_agrees_with_resampling_images():
    labels, predicted = answers_of(np.array([[40, 10, 5], [8, 20, 2], [3, 3, 9]]))
    random = np.random.default_rng(1)
    drawn = random.integers(len(labels), size=(1000, len(labels)))
    values = [metrics.f1_score(labels[rows], predicted[rows], average="macro") for rows in drawn]
    confusion = stats.confusion_matrix(labels, predicted, 3)
    low, high = stats.bootstrap_interval(confusion, stats.macro_f1, 4000, 0.9, seed=0)
    assert (low, high) == pytest.approx(tuple(np.quantile(values, [0.05, 0.95])), abs=0.012)


def test_bootstrap_interval_covers_the_truth_as_often_as_it_says():
    truth, images, experiments = 0.7, 300, 400
    random = np.random.default_rng(0)
    covered = 0
    for seed in range(experiments):
        right = random.binomial(images, truth)
        low, high = stats.bootstrap_interval([[right, images - right], [0, 0]], stats.accuracy, 400, 0.9, seed)
        covered += low <= truth <= high
    assert covered / experiments == pytest.approx(0.9, abs=0.04)


def test_bootstrap_is_repeatable_and_depends_on_the_seed():
    confusion = [[30, 12], [9, 25]]
    first, again, other = (stats.bootstrap_interval(confusion, stats.macro_f1, 500, 0.95, s) for s in (3, 3, 4))
    assert first == again != other


def test_bootstrap_of_millions_of_images_and_many_classes_stays_small():
    confusion = np.full((60, 60), 1000)
    tracemalloc.start()
    stats.bootstrap_interval(confusion, stats.macro_f1, 2000, 0.95, seed=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60_000_000


@given(ANSWERS, st.integers(0, 100))
@settings(deadline=None)
def test_paired_bootstrap_brackets_the_difference_and_mirrors(correct, seed):
    other = np.random.default_rng(seed).permutation(correct)
    difference, low, high = stats.paired_bootstrap(correct, other, 200, 0.95, seed)
    assert difference == pytest.approx(correct.mean() - other.mean())
    assert -1 <= low <= high <= 1
    assert stats.paired_bootstrap(other, correct, 200, 0.95, seed)[0] == pytest.approx(-difference)


def test_paired_bootstrap_of_equal_answers_is_exactly_zero():
    assert stats.paired_bootstrap([True, False, True], [True, False, True], 300, 0.95, 0) == (0.0, 0.0, 0.0)


def test_paired_bootstrap_is_narrower_than_the_unpaired_one():
    random = np.random.default_rng(0)
    champion = random.random(2000) < 0.6
    challenger = champion | (random.random(2000) < 0.02)  # agrees nearly everywhere
    difference, low, high = stats.paired_bootstrap(challenger, champion, 2000, 0.95, 0)
    _, loose_low, loose_high = stats.paired_bootstrap(challenger, random.permutation(champion), 2000, 0.95, 0)
    assert 0 < low < difference < high
    assert high - low < (loose_high - loose_low) / 3


def test_paired_answers_of_different_images_are_refused():
    with pytest.raises(ValueError, match="same images"):
        stats.paired_bootstrap([True, False], [True], 100, 0.95, 0)
    with pytest.raises(ValueError, match="same images"):
        stats.mcnemar([True, False], [True])


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 20))
def test_mcnemar_is_the_mid_p_value_of_the_binomial_test(only_a, only_b, both):
    a = np.r_[np.ones(only_a, bool), np.zeros(only_b, bool), np.ones(both, bool)]
    b = np.r_[np.zeros(only_a, bool), np.ones(only_b, bool), np.ones(both, bool)]
    total, fewer = only_a + only_b, min(only_a, only_b)
    exact = reference.binomtest(fewer, total).pvalue if total else 1.0
    expected = 1.0 if only_a == only_b else exact - reference.binom.pmf(fewer, total, 0.5)
    assert stats.mcnemar(a, b) == pytest.approx(expected, abs=1e-9)


def test_mcnemar_of_a_hundred_thousand_disagreements_does_not_vanish():
    a = np.arange(100_000) < 50_400
    normal = 2 * reference.norm.sf(800 / np.sqrt(100_000))
    assert stats.mcnemar(a, ~a) == pytest.approx(normal, rel=0.02)


def test_mcnemar_keeps_its_level_where_both_models_are_equally_good():
    random = np.random.default_rng(0)
    answers = random.random((2, 600, 80)) < 0.7
    rejected = np.mean([stats.mcnemar(a, b) < 0.05 for a, b in zip(*answers, strict=True)])
    assert 0.02 < rejected < 0.07


def test_population_stability_index_worked_by_hand():
    # counts 30 and 69, half an image added to each: shares 0.305 and 0.695
    expected = (0.305 - 0.5) * np.log(0.305 / 0.5) + (0.695 - 0.5) * np.log(0.695 / 0.5)
    assert population_stability_index([0.5, 0.5], [30, 69]) == pytest.approx(expected)


@given(SHARES)
def test_population_stability_index_is_small_without_a_move_and_never_negative(shares):
    assert 0 <= population_stability_index(shares, shares * 1e6) < 1e-3


def test_population_stability_index_is_finite_without_traffic_or_with_unseen_classes():
    assert np.isfinite(population_stability_index([0.5, 0.5, 0.0], [0, 0, 0]))
    assert population_stability_index([1.0, 0.0], [0, 1000]) > 1


@given(SHARES, SHARES)
def test_jensen_shannon_agrees_with_scipy(first, second):
    expected = distance.jensenshannon(first, second, base=2) ** 2
    assert jensen_shannon(first, second) == pytest.approx(expected, abs=1e-9)
    assert jensen_shannon(second, first) == pytest.approx(jensen_shannon(first, second), abs=1e-12)


def test_jensen_shannon_ends_at_zero_and_one_and_takes_counts():
    assert jensen_shannon([0.2, 0.8], [2, 8]) == pytest.approx(0, abs=1e-12)
    assert jensen_shannon([1, 0], [0, 7]) == pytest.approx(1)
