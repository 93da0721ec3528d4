"""Which labels of a split are suspicious: `emotion labels MODEL` writes reports/labels/MODEL/SPLIT/.

scores.parquet      SCORES_SCHEMA, one row per image, most suspicious first
suspicious.csv      path, sha256, label, suggested, score: the worst of those for which it is confident of another label
labels.json         LabelQuality
index.html          the same for people, with pictures/*.png

`validation.suspicious` in params.yaml takes suspicious.csv. Training images are judged by models that have not seen
them (`folds`), those of val and test by the trained model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from emotion_detection import stats
from emotion_detection.artifacts import (
    DECISIONS,
    DECISIONS_SCHEMA,
    SHARDS,
    Record,
    atomic_directory,
    model_dir,
    read_table,
    write_record,
)
from emotion_detection.data.shards import Arrays, load_arrays, read_dataset_info
from emotion_detection.errors import ArtifactError
from emotion_detection.figures import write_figures
from emotion_detection.inference import check_fits, predict_logits
from emotion_detection.label_quality import confident as cl
from emotion_detection.label_quality.confident import Labels
from emotion_detection.label_quality.drawings import suspects
from emotion_detection.label_quality.folds import out_of_fold, shortened
from emotion_detection.models import load_model
from emotion_detection.pages import render
from emotion_detection.params import Params, Split
from emotion_detection.stats import Floats

LABELS = Path("reports/labels")
LISTED = 200  # images in the table of the page
SCORES_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("suggested", pa.string(), nullable=False),  # what the model says in its place, or the label itself
        pa.field("score", pa.float32(), nullable=False),  # 1 - normalised margin: 0 sure of the label, 1 of another
        pa.field("self_confidence", pa.float32(), nullable=False),  # probability of the label
        pa.field("doubted", pa.bool_(), nullable=False),  # the model is confident of another class
        pa.field("suspicious", pa.bool_(), nullable=False),  # and it is among the worst: stands in suspicious.csv
    ]
)


@dataclass(frozen=True)
class Limits:
    """How much is shown."""

    most: float = 0.1
    """Share of the images that may be called suspicious: a weak model doubts half of all labels."""
    shown: int = 48
    """Images drawn."""


class ClassQuality(Record):
    """Labels of one class."""

    images: int
    suspicious: int
    suggested: dict[str, int]
    """What the model is confident of in place of it."""


class LabelQuality(Record):
    """`labels.json`."""

    model: str
    split: Split
    folds: int
    """0 for val and test, which the trained model has not seen."""
    epochs: int
    temperature: float
    """Fitted to these labels: what probabilities are shares of."""
    images: int
    accuracy: float
    """Share of the labels that are the model's answer: how much its doubts are worth."""
    doubted: int
    """Images for which it is confident of another label."""
    suspicious: int
    """The worst of them."""
    estimated_errors: float
    """Share of wrong labels, from the estimated joint distribution of given and true ones; too many by a weak one."""
    classes: dict[str, ClassQuality]


def labels_dir(name: str, split: Split) -> Path:
    """Where the report on one split is."""
    return LABELS / name / split


def judge_training(name: str, params: Params, folds: int, epochs: int | None, limits: Limits) -> LabelQuality:
    """Judge the labels of the training split by `folds` trainings, and write the report.

    Args:
        epochs: of each training; None for those of the model.

    Raises:
        ParamsError, ArtifactError: as `folds.out_of_fold`.
    """
    params = shortened(params, name, epochs)
    logits = out_of_fold(name, params, SHARDS, folds)
    how = {"model": name, "split": "train", "folds": folds, "epochs": params.training_of(name).total_epochs}
    return _write(logits, how, limits)


def judge_held_out(name: str, params: Params, split: Split, limits: Limits) -> LabelQuality:
    """Judge the labels of val or test by the trained model, and write the report.

    Raises:
        ArtifactError: the model is not trained yet, or does not fit the shards.
    """
    model = load_model(params.model(name).architecture, model_dir(name) / "model.keras")
    check_fits(model, read_dataset_info(SHARDS))
    images = load_arrays(SHARDS, split).images
    if not len(images):
        raise ArtifactError(f"{SHARDS}: split {split} has no images; see data.split and validation in params.yaml")
    logits = predict_logits(model, images, f"{name}: {split}")
    how = {"model": name, "split": split, "folds": 0, "epochs": params.training_of(name).total_epochs}
    return _write(logits, how, limits)


def score(labels: Labels, names: tuple[str, ...], probabilities: Floats) -> pd.DataFrame:
    """What is thought of each label: columns label to doubted of SCORES_SCHEMA, in the order of the images.

    Args:
        labels: (N,), indices into `names`.
        probabilities: (N, K), of a model that has not seen these labels.
    """
    confident = cl.confident_classes(probabilities, cl.thresholds(labels, probabilities))
    doubted = (confident != cl.NONE) & (confident != labels)
    suggested = np.where(doubted, confident, probabilities.argmax(axis=1))
    return pd.DataFrame(
        {
            "label": np.take(names, labels),
            "suggested": np.take(names, suggested),
            "score": 1 - cl.normalised_margin(labels, probabilities),
            "self_confidence": cl.self_confidence(labels, probabilities),
            "doubted": doubted,
        }
    )


def _write(logits: NDArray[np.float32], how: Mapping[str, Any], limits: Limits) -> LabelQuality:
    info, arrays = read_dataset_info(SHARDS), load_arrays(SHARDS, how["split"])
    temperature = stats.fit_temperature(logits, arrays.labels)
    probabilities = stats.softmax(logits / temperature)
    table = score(arrays.labels, info.labels, probabilities).assign(
        sha256=arrays.sha256, path=_paths(arrays, how["split"])
    )
    table["suspicious"] = _worst(table, limits.most)
    accuracy = float((probabilities.argmax(axis=1) == arrays.labels).mean())
    figures = {"temperature": temperature, "accuracy": accuracy, "estimated_errors": _errors(arrays, probabilities)}
    quality = _summary(table, {**how, **figures})
    worst = table.sort_values("score", ascending=False, kind="stable")
    found = worst[worst["suspicious"]]
    directory = labels_dir(how["model"], how["split"])
    with atomic_directory(directory) as temporary:
        pq.write_table(pa.Table.from_pandas(worst, SCORES_SCHEMA, preserve_index=False), temporary / "scores.parquet")
        columns = ["path", "sha256", "label", "suggested", "score"]
        found[columns].to_csv(temporary / "suspicious.csv", index=False, float_format="%.6f", lineterminator="\n")
        write_record(temporary / "labels.json", quality)
        pictures = [(arrays.images[row], found.loc[row]) for row in found.index[: limits.shown]]
        (temporary / "pictures").mkdir()
        write_figures(temporary / "pictures", {"suspicious": partial(suspects, pictures)} if pictures else {})
        (temporary / "index.html").write_text(_page(quality, found, bool(pictures)), encoding="utf-8")
    return quality


def _worst(table: pd.DataFrame, most: float) -> pd.Series:
    """The doubted images with the highest scores, at most a share of all: bool."""
    worst = table["score"][table["doubted"]].sort_values(ascending=False, kind="stable").index[: int(most * len(table))]
    return pd.Series(table.index.isin(worst), index=table.index)


def _paths(arrays: Arrays, split: str) -> list[str]:
    """Of the images, as the data set has them; of equal ones that were kept, the first."""
    table = read_table(DECISIONS, DECISIONS_SCHEMA, ["path", "split", "sha256", "keep"]).to_pandas()
    kept = table[table["keep"] & (table["split"] == split)].drop_duplicates("sha256")
    paths = dict(zip(kept["sha256"], kept["path"], strict=True))
    if missing := [sha256 for sha256 in arrays.sha256 if sha256 not in paths]:
        raise ArtifactError(f"{DECISIONS}: keeps no image {missing[0]}, which {SHARDS} has; run `dvc repro`")
    return [paths[sha256] for sha256 in arrays.sha256]


def _errors(arrays: Arrays, probabilities: Floats) -> float:
    classes = probabilities.shape[1]
    confident = cl.confident_classes(probabilities, cl.thresholds(arrays.labels, probabilities))
    counts = cl.confident_joint(arrays.labels, confident, classes)
    return float(1 - np.trace(cl.estimated_joint(counts, np.bincount(arrays.labels, minlength=classes))))


def _summary(table: pd.DataFrame, about: Mapping[str, Any]) -> LabelQuality:
    classes = {
        str(label): ClassQuality(
            images=len(rows),
            suspicious=int(rows["suspicious"].sum()),
            suggested={str(k): int(n) for k, n in rows["suggested"][rows["suspicious"]].value_counts().items()},
        )
        for label, rows in table.groupby("label")
    }
    found = {name: int(table[name].sum()) for name in ("doubted", "suspicious")}
    return LabelQuality(images=len(table), classes=classes, **found, **about)


def _page(quality: LabelQuality, found: pd.DataFrame, pictures: bool) -> str:
    return render(
        "labels.html.j2",
        title=f"Suspicious labels: {quality.split}, by {quality.model}",
        quality=quality,
        names=list(quality.classes),
        rows=found.head(LISTED).to_dict("records"),
        pictures=pictures,
    )
