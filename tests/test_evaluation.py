"""Answers of a model -> report, predictions, plot data: against scikit-learn and worked cases."""

import csv
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from sklearn import metrics

from emotion_detection import reporting
from emotion_detection.artifacts import PREDICTIONS_SCHEMA, History, Report, open_parquet
from emotion_detection.errors import ArtifactError
from emotion_detection.evaluation import judge, measure, table
from emotion_detection.inference import Answers
from emotion_detection.params import EvaluationParams

HOW = EvaluationParams(bootstrap=200, ece_bins=10, mistakes=5)
NAMES = ("angry", "happy", "sad")
HISTORY = History(
    metrics={"loss": [1.0, 0.5], "seconds": [2.0, 1.0]}, best_epoch=1, resumed_at=[], stages=[1], parameters=10
)


def answers(split: str = "test", images: int = 300, seed: int = 0, sharpness: float = 3.0) -> Answers:
    random = np.random.default_rng(seed)
    labels = random.integers(3, size=images).astype(np.int32)
    logits = (random.normal(size=(images, 3)) + 1.2 * np.eye(3)[labels]) * sharpness
    pixels = random.integers(256, size=(images, 8, 8, 1), dtype=np.uint8)
    return Answers(split, NAMES, pixels, [f"{number:064x}" for number in range(images)], labels, logits.astype("f4"))


def report_of(test: Answers) -> Report:
    return judge("m", answers("val", seed=1), test, HOW, seed=0)


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_measured_figures_agree_with_scikit_learn():
    test = answers().scaled(2.0)
    found = measure(test, HOW, seed=0)
    precision, recall, _, _ = metrics.precision_recall_fscore_support(test.labels, test.predicted)
    assert found.images == 300
    assert found.accuracy.value == pytest.approx(metrics.accuracy_score(test.labels, test.predicted))
    assert found.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(test.labels, test.predicted))
    assert found.macro_f1.value == pytest.approx(metrics.f1_score(test.labels, test.predicted, average="macro"))
    expected = metrics.roc_auc_score(test.labels, test.probabilities, multi_class="ovr", average="macro")
    assert found.roc_auc == pytest.approx(expected)
    assert found.precision == pytest.approx(dict(zip(NAMES, precision, strict=True)))
    assert found.recall == pytest.approx(dict(zip(NAMES, recall, strict=True)))


def test_intervals_hold_their_values_and_narrow_with_more_images():
    few, many = (measure(answers(images=images), HOW, seed=0) for images in (100, 3000))
    for split in (few, many):
        for interval in (split.accuracy, split.macro_f1):
            assert interval.low < interval.value < interval.high
    assert many.accuracy.high - many.accuracy.low < (few.accuracy.high - few.accuracy.low) / 3


def test_temperature_comes_from_val_alone_and_calibrates_test():
    val, test = answers("val", 2000, seed=1), answers("test", 2000, seed=2)
    report = judge("m", val, test, HOW, seed=0)
    flattened = replace(test, logits=test.logits * 0.01)
    assert judge("m", val, flattened, HOW, seed=0).temperature == report.temperature > 1
    assert report.test.ece < 0.05 < report.test.ece_before


def test_report_is_repeatable_and_survives_json():
    report = judge("m", answers("val", seed=1), answers(seed=2), HOW, seed=0)
    assert judge("m", answers("val", seed=1), answers(seed=2), HOW, seed=0) == report
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_class_without_images_is_left_out_of_means():
    whole = answers()
    keep = whole.labels != 2
    test = Answers("test", NAMES, whole.images[keep], [], whole.labels[keep], whole.logits[keep])
    found = measure(test, HOW, seed=0)
    assert set(found.recall) == set(found.precision) == {"angry", "happy"}
    assert found.balanced_accuracy == pytest.approx(np.mean(list(found.recall.values())))
    areas = [metrics.roc_auc_score(test.labels == index, test.probabilities[:, index]) for index in (0, 1)]
    assert found.roc_auc == pytest.approx(np.mean(areas))


@pytest.mark.parametrize("kept", [[], [1]])
def test_split_with_fewer_than_two_classes_cannot_be_judged(kept):
    whole = answers()
    keep = np.isin(whole.labels, kept)
    with pytest.raises(ArtifactError, match=rf"split val has images of {len(kept)} classes.*data\.split"):
        Answers("val", NAMES, whole.images[keep], [], whole.labels[keep], whole.logits[keep])


def test_predictions_hold_both_splits_with_unscaled_logits(tmp_path):
    val, test = answers("val", 40, seed=1), answers("test", 30, seed=2).scaled(9.0)
    reporting.write_predictions(tmp_path / "predictions.parquet", [val, test])
    open_parquet(tmp_path / "predictions.parquet", PREDICTIONS_SCHEMA).close()
    rows = pq.read_table(tmp_path / "predictions.parquet").to_pylist()
    assert [row["split"] for row in rows] == ["val"] * 40 + ["test"] * 30
    assert [row["sha256"] for row in rows[40:]] == test.sha256
    np.testing.assert_array_equal([row["logits"] for row in rows[40:]], test.logits)
    assert all(row["predicted"] == int(np.argmax(row["logits"])) for row in rows)
    assert [row["label"] for row in rows[:40]] == val.labels.tolist()


def test_plot_data_gives_the_curves_for_dvc(tmp_path):
    test = answers().scaled(2.0)
    reporting.write_plot_data(tmp_path / "plots", test, HISTORY, HOW.ece_bins, report_of(test))
    confusion = rows_of(tmp_path / "plots" / "confusion.csv")
    assert [row["actual"] for row in confusion] == [NAMES[label] for label in test.labels]
    assert np.mean([row["actual"] == row["predicted"] for row in confusion]) == pytest.approx(
        metrics.accuracy_score(test.labels, test.predicted)
    )
    epochs = rows_of(tmp_path / "plots" / "history.csv")
    assert [(row["epoch"], row["stage"]) for row in epochs] == [("1", "0"), ("2", "1")]
    bins = rows_of(tmp_path / "plots" / "reliability.csv")
    for scaling in ("before", "after"):
        assert sum(int(row["images"]) for row in bins if row["scaling"] == scaling) == 300
    assert len({(row["confidence"], row["scaling"]) for row in bins}) == len(bins)


def test_roc_data_is_small_and_keeps_its_area(tmp_path):
    test = answers(images=5000).scaled(2.0)
    reporting.write_plot_data(tmp_path / "plots", test, HISTORY, HOW.ece_bins, report_of(test))
    rows = rows_of(tmp_path / "plots" / "roc.csv")
    assert len(rows) <= 3 * reporting.CURVE_POINTS
    for index, name in enumerate(NAMES):
        curve = [row for row in rows if row["class"] == name]
        x, y = ([float(row[key]) for row in curve] for key in ("false_positive_rate", "true_positive_rate"))
        assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
        area = metrics.roc_auc_score(test.labels == index, test.probabilities[:, index])
        assert metrics.auc(x, y) == pytest.approx(area, abs=0.01)


def test_mistakes_are_wrong_and_come_most_confident_first():
    test = answers()
    found = reporting.confident_mistakes(test, 5)
    wrong = test.probabilities.max(axis=1)[test.predicted != test.labels]
    assert [item.confidence for item in found] == sorted(wrong, reverse=True)[:5]
    assert all(item.true != item.predicted for item in found)
    first = np.flatnonzero((test.probabilities.max(axis=1) == found[0].confidence) & (test.predicted != test.labels))[0]
    np.testing.assert_array_equal(found[0].image, test.images[first])


def test_table_shows_both_splits():
    report = judge("my_model", answers("val", seed=1), answers(seed=2), HOW, seed=0)
    console = Console(width=100, record=True, quiet=False, file=None)
    with console.capture() as capture:
        console.print(table(report))
    text = capture.get()
    assert "my_model" in text
    assert f"{report.test.accuracy.value:.3f}" in text
    assert f"{report.val.macro_f1.value:.3f}" in text


def test_predictions_are_made_in_batches_and_in_full_precision():
    from emotion_detection import inference
    from emotion_detection.backend import keras, tf

    tf.config.experimental.enable_tensor_float_32_execution(True)
    image = keras.Input((2, 2, 1), dtype="uint8", name="image")
    model = keras.Model(image, keras.layers.Flatten()(keras.ops.cast(image, "float32") * 2))
    images = np.random.default_rng(0).integers(256, size=(2 * inference.BATCH_SIZE + 3, 2, 2, 1), dtype=np.uint8)
    found = inference.predict_logits(model, images)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, images.reshape(len(images), 4) * 2.0)
    assert not tf.config.experimental.tensor_float_32_execution_enabled()
