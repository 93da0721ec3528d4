"""What an evaluation leaves in reports/NAME/, beside metrics.json.

predictions.parquet      PREDICTIONS_SCHEMA, val and test
figures/                 confusion, reliability, roc, precision_recall, classes, mistakes, training (PNG),
                         slices, robustness, explanations, and of a CNN feature_maps
plots/confusion.csv      actual, predicted: one line per test image
plots/roc.csv            class, false_positive_rate, true_positive_rate
plots/reliability.csv    scaling (before, after), confidence, accuracy, images
plots/slices.csv         slicing, title, slice (both), images, accuracy, low, high
plots/robustness.csv     corruption, strength, unit (what it says), change (both), accuracy, low, high
plots/history.csv        epoch, stage, loss, accuracy, val_loss, val_accuracy, learning_rate, seconds
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn import metrics

from emotion_detection import breakdowns, figures, stats
from emotion_detection.artifacts import PREDICTIONS_SCHEMA, History, Interval, Report, atomic_directory, atomic_file
from emotion_detection.corruptions import BY_NAME
from emotion_detection.inference import Answers
from emotion_detection.params import EvaluationParams

CURVE_POINTS = 200  # per class, in roc.csv
ACCURACY = ("accuracy", "low", "high")  # columns


def write_predictions(path: Path, splits: Sequence[Answers]) -> None:
    """Write the answers in `PREDICTIONS_SCHEMA`, one row group per split."""
    with atomic_file(path) as temporary, pq.ParquetWriter(temporary, PREDICTIONS_SCHEMA) as writer:
        for answers in splits:
            columns = {
                "split": [answers.split] * len(answers.labels),
                "sha256": list(answers.sha256),
                "label": answers.labels,
                "predicted": answers.predicted,
                "logits": list(answers.logits),
            }
            writer.write_table(pa.table(columns, schema=PREDICTIONS_SCHEMA))


def write_plot_data(directory: Path, test: Answers, history: History, bins: int, report: Report) -> None:
    """Write the data behind `dvc plots` as small CSV files; `test` is scaled."""
    names = np.asarray(test.names)
    frames = {
        "confusion": pd.DataFrame({"actual": names[test.labels], "predicted": names[test.predicted]}),
        "roc": pd.concat(_roc_frame(curve) for curve in roc_curves(test)),
        "reliability": pd.concat(
            [_reliability_frame("before", test.scaled(1.0), bins), _reliability_frame("after", test, bins)]
        ),
        "history": _history_frame(history),
        "slices": slices_frame(report),
        "robustness": robustness_frame(report),
    }
    with atomic_directory(directory) as temporary:
        for name, frame in frames.items():
            frame.to_csv(temporary / f"{name}.csv", index=False, float_format="%.6g", lineterminator="\n")


def write_figures(
    directory: Path, test: Answers, history: History, how: EvaluationParams, more: Mapping[str, figures.Drawing]
) -> None:
    """Draw and write all figures, with `more` of them by name; `test` is scaled."""
    confusion = test.confusion
    bars = (stats.precision(confusion), stats.recall(confusion), stats.f1(confusion), confusion.sum(axis=1))
    before, after = (answers.reliability(how.ece_bins) for answers in (test.scaled(1.0), test))
    drawings = {
        "confusion": partial(figures.confusion, confusion, test.names),
        "reliability": partial(figures.reliability, before, after, test.temperature),
        "roc": partial(figures.roc, roc_curves(test)),
        "precision_recall": partial(figures.precision_recall, precision_recall_curves(test)),
        "classes": partial(figures.classes, *bars, test.names),
        "mistakes": partial(figures.mistakes, confident_mistakes(test, how.mistakes)),
        "training": partial(figures.training, history),
    }
    with atomic_directory(directory) as temporary:
        figures.write_figures(temporary, {**drawings, **more})


def breakdown_drawings(report: Report, test: Answers, seed: int) -> dict[str, figures.Drawing]:
    """Pictures of the slices and of the corrupted faces, as far as the report has them."""
    drawings: dict[str, figures.Drawing] = {}
    if report.slices:
        drawings["slices"] = partial(breakdowns.slices, report.slices, report.test.accuracy.value)
    if report.robustness:
        face = test.images[int(test.probabilities.max(axis=1).argmax())]
        drawings["robustness"] = partial(breakdowns.robustness, report.robustness, face, seed)
    return drawings


def slices_frame(report: Report) -> pd.DataFrame:
    """A row for each slice."""
    rows = [
        {"slicing": row.slicing, "title": row.title, "slice": f"{row.slicing} {row.title}", "images": row.images}
        | _accuracy(row.accuracy)
        for row in report.slices
    ]
    return pd.DataFrame(rows, columns=["slicing", "title", "slice", "images", *ACCURACY])


def robustness_frame(report: Report) -> pd.DataFrame:
    """The chosen images as they are, then a row for each corruption and strength; empty where nothing was corrupted."""
    found = report.robustness
    rows = (
        [{"corruption": "none", "strength": 0, "unit": "", "change": "none", **_accuracy(found.clean)}] if found else []
    )
    rows += [
        {
            "corruption": row.corruption,
            "strength": row.strength,
            "unit": BY_NAME[row.corruption].unit,
            "change": f"{row.corruption} {row.strength:g}",
            **_accuracy(row.accuracy),
        }
        for row in (found.rows if found else ())
    ]
    return pd.DataFrame(rows, columns=["corruption", "strength", "unit", "change", *ACCURACY])


def roc_curves(answers: Answers) -> list[figures.Curve]:
    """False against true positive rate of each class that has images, one against the rest."""
    probabilities, curves = answers.probabilities, []
    for index in answers.present:
        x, y, _ = metrics.roc_curve(answers.labels == index, probabilities[:, index])
        curves.append(figures.Curve(answers.names[index], x, y, float(metrics.auc(x, y))))
    return curves


def precision_recall_curves(answers: Answers) -> list[figures.Curve]:
    """Recall against precision of each class that has images; the area is the average precision."""
    probabilities, curves = answers.probabilities, []
    for index in answers.present:
        truth, scores = answers.labels == index, probabilities[:, index]
        precision, recall, _ = metrics.precision_recall_curve(truth, scores)
        area = float(metrics.average_precision_score(truth, scores))
        curves.append(figures.Curve(answers.names[index], recall, precision, area))
    return curves


def confident_mistakes(answers: Answers, count: int) -> list[figures.Mistake]:
    """The wrong answers with the highest probabilities, most confident first."""
    names, labels, predicted = answers.names, answers.labels, answers.predicted
    confidence = answers.probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    chosen = wrong[np.argsort(-confidence[wrong], kind="stable")][:count]
    return [
        figures.Mistake(answers.images[i], names[labels[i]], names[predicted[i]], float(confidence[i])) for i in chosen
    ]


def _accuracy(interval: Interval) -> dict[str, float]:
    return dict(zip(ACCURACY, (interval.value, interval.low, interval.high), strict=True))


def _history_frame(history: History) -> pd.DataFrame:
    """One row per epoch, counted from 1; stage 0 is the first training, from 1 on those of fine-tuning."""
    frame = pd.DataFrame(history.metrics)
    frame.insert(0, "epoch", frame.index + 1)
    frame.insert(1, "stage", np.searchsorted(history.stages, frame.index, side="right"))
    return frame


def _roc_frame(curve: figures.Curve) -> pd.DataFrame:
    kept = np.unique(np.linspace(0, len(curve.x) - 1, CURVE_POINTS).astype(int))
    columns = {"false_positive_rate": curve.x[kept], "true_positive_rate": curve.y[kept]}
    return pd.DataFrame({"class": curve.label, **columns})


def _reliability_frame(scaling: str, answers: Answers, bins: int) -> pd.DataFrame:
    bars = answers.reliability(bins)
    columns = {"confidence": bars.confidence, "accuracy": bars.accuracy, "images": bars.counts}
    return pd.DataFrame({"scaling": scaling, **columns})[bars.counts > 0]
