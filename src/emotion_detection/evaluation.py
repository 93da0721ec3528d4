"""Judge a trained model on val and test: `python -m pipeline.evaluate NAME`.

The temperature is fitted on val; test is only measured. What is judged is what is served: the model as
`inference` in params.yaml has it asked. Beside it stand other views of the faces, slices of test, and corrupted faces.
What is written to reports/NAME/ stands in `reporting`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

from emotion_detection import robustness, stats
from emotion_detection.artifacts import (
    SHARDS,
    History,
    Interval,
    Report,
    Robustness,
    SplitMetrics,
    ViewAccuracy,
    model_dir,
    read_record,
    report_dir,
    write_record,
)
from emotion_detection.backend import keras
from emotion_detection.data.shards import load_arrays, read_dataset_info
from emotion_detection.explain.report import explanation_drawings
from emotion_detection.inference import Answers, asked, check_fits, predict_logits
from emotion_detection.models import load_model
from emotion_detection.params import EvaluationParams, Params, Split
from emotion_detection.reporting import breakdown_drawings, write_figures, write_plot_data, write_predictions
from emotion_detection.slices import Slicing, accuracy_by_slice, by_class, by_value, face_slicings
from emotion_detection.stats import Counts
from emotion_detection.views import Images, Logits, view_logits

AGREEMENT = (0.5, 0.8)  # shares of the voters


def evaluate(name: str, params: Params) -> Report:
    """Judge a trained model and write reports/NAME/.

    Raises:
        ArtifactError: a file of an earlier stage is missing, the model does not fit the shards or gives no finite
            outputs, or a split cannot be judged.
    """
    info, trained, directory, how = read_dataset_info(SHARDS), model_dir(name), report_dir(name), params.evaluation
    model = load_model(params.model(name).architecture, trained / "model.keras")
    check_fits(model, info)
    flip_average = params.flip_average_of(name)
    served = asked(model, flip_average)
    history = read_record(trained / "history.json", History)

    def answers(split: Split, asked_model: keras.Model) -> Answers:
        arrays = load_arrays(SHARDS, split)
        logits = predict_logits(asked_model, arrays.images, f"{name}: {split}")
        answers = Answers(split, info.labels, arrays.images, arrays.sha256, arrays.labels, logits)
        return replace(answers, agreement=arrays.agreement)

    single = answers("val", model), answers("test", model)
    val, test = (answers("val", served), answers("test", served)) if flip_average else single
    report = judge(name, val, test, how, params.seed)
    test = test.scaled(report.temperature)
    found = {
        "flip_average": flip_average,
        "views": measure_views(model, *single, how, params.seed),
        "robustness": measure_robustness(served, test, how, params.seed),
        "slices": accuracy_by_slice(slicings(test), test.predicted == test.labels, how.confidence),
    }
    report = report.model_copy(update=found)
    more = explanation_drawings(model, test, how.explained) | breakdown_drawings(report, test, params.seed)
    write_predictions(directory / "predictions.parquet", [val, test])
    write_plot_data(directory / "plots", test, history, how.ece_bins, report)
    write_figures(directory / "figures", test, history, how, more)
    write_record(directory / "metrics.json", report)
    return report


def judge(model: str, val: Answers, test: Answers, how: EvaluationParams, seed: int) -> Report:
    """Fit the temperature on val and measure both splits."""
    temperature = stats.fit_temperature(val.logits, val.labels)
    measured = {answers.split: measure(answers.scaled(temperature), how, seed) for answers in (val, test)}
    return Report(model=model, temperature=temperature, **measured)


def measure(answers: Answers, how: EvaluationParams, seed: int) -> SplitMetrics:
    """Figures of one split. Classes without images are left out of means, `precision` and `recall`.

    But not of `macro_f1`, where the model gives one as an answer: its F1 is 0 then.
    """
    confusion, probabilities, present = answers.confusion, answers.probabilities, answers.present
    areas = [roc_auc_score(answers.labels == index, probabilities[:, index]) for index in present]
    precision, recall = stats.precision(confusion), stats.recall(confusion)
    return SplitMetrics(
        images=len(answers.labels),
        accuracy=_interval(confusion, stats.accuracy, how, seed),
        balanced_accuracy=float(stats.balanced_accuracy(confusion)),
        macro_f1=_interval(confusion, stats.macro_f1, how, seed),
        roc_auc=float(np.mean(areas)),
        ece_before=answers.scaled(1.0).reliability(how.ece_bins).error,
        ece=answers.reliability(how.ece_bins).error,
        precision={answers.names[index]: float(precision[index]) for index in present},
        recall={answers.names[index]: float(recall[index]) for index in present},
    )


def measure_views(
    model: keras.Model, val: Answers, test: Answers, how: EvaluationParams, seed: int
) -> dict[str, ViewAccuracy]:
    """Accuracy of a trained model in each of `views`, whatever is served; ten crops on test alone.

    Args:
        val, test: with the logits of the model as it is trained.
    """

    def predict(images: Images) -> Logits:
        return predict_logits(model, images, quiet=True)

    def accuracy(answers: Answers, logits: Logits) -> Interval:
        return _interval(replace(answers, logits=logits).confusion, stats.accuracy, how, seed)

    with Console(stderr=True).status(f"{model.name}: views"):
        of_val = view_logits(predict, val.images, val.logits, ten_crop=False)
        of_test = view_logits(predict, test.images, test.logits, how.ten_crop)
    return {
        view: ViewAccuracy(val=accuracy(val, of_val[view]) if view in of_val else None, test=accuracy(test, logits))
        for view, logits in of_test.items()
    }


def measure_robustness(model: keras.Model, test: Answers, how: EvaluationParams, seed: int) -> Robustness | None:
    """Accuracy on corrupted test images; none where `evaluation.robustness_images` is 0."""

    def classes(images: Images) -> NDArray[np.intp]:
        return np.asarray(predict_logits(model, images, quiet=True).argmax(axis=1))

    return robustness.measure(classes, test.images, test.labels, how, seed)


def slicings(test: Answers) -> list[Slicing]:
    """How the test split is cut; by how far people agree about a face where there are votes."""
    voted = [] if test.agreement is None else [by_value("agreement", test.agreement, AGREEMENT)]
    return [by_class(test.labels, test.names), *face_slicings(test.images), *voted]


def table(report: Report) -> Table:
    """The report for a terminal; parentheses hold bootstrap intervals."""
    result = Table(title=f"{report.model}, temperature {report.temperature:.3f}", title_justify="left")
    for column in ("", "val", "test"):
        result.add_column(column, justify="right" if column else "left")
    for name, val, test in zip(_ROWS, _cells(report.val), _cells(report.test), strict=True):
        result.add_row(name, val, test)
    for view, found in report.views.items():
        result.add_row(f"accuracy, {VIEW_NAMES[view]}", _text(found.val) if found.val else "", _text(found.test))
    if report.robustness:
        result.add_row("accuracy, corrupted", "", _text(report.robustness.mean))
    if report.slices:
        worst = min(report.slices, key=lambda part: part.accuracy.value)
        result.add_row("lowest slice", "", f"{worst.accuracy.value:.3f} {worst.slicing} {worst.title}")
    return result


VIEW_NAMES = {"single": "one view", "flip": "with mirror image", "ten_crop": "ten crops"}


_ROWS = ("images", "accuracy", "balanced accuracy", "macro-F1", "ROC-AUC", "ECE", "lowest recall")


def _cells(split: SplitMetrics) -> list[str]:
    weakest = min(split.recall, key=lambda label: split.recall[label])
    return [
        f"{split.images:,}",
        _text(split.accuracy),
        f"{split.balanced_accuracy:.3f}",
        _text(split.macro_f1),
        f"{split.roc_auc:.3f}",
        f"{split.ece_before:.3f} → {split.ece:.3f}",
        f"{split.recall[weakest]:.3f} {weakest}",
    ]


def _text(interval: Interval) -> str:
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def _interval(confusion: Counts, statistic: stats.Statistic, how: EvaluationParams, seed: int) -> Interval:
    low, high = stats.bootstrap_interval(confusion, statistic, how.bootstrap, how.confidence, seed)
    return Interval(value=float(statistic(confusion)), low=low, high=high)
