"""A look at the data set: `python -m pipeline.pictures` writes reports/data/, a page with pictures and their numbers.

index.html               beside the Data Docs, which it links
figures/*.png            classes, samples, means, augmentation, dropped, sizes; the same bytes when made again
plots/classes.csv        class (split/label), split, label, found, kept
plots/outcomes.csv       outcome (kept or the reason), split, images
plots/sizes.csv          width, height, mode, format, images; empty where the file is unreadable

Everything is streamed: of the data set only headers are held, of the shards one batch and a few samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from emotion_detection.artifacts import (
    DATA_PICTURES,
    DATASET,
    DATASET_SCHEMA,
    DECISIONS,
    DECISIONS_SCHEMA,
    SHARDS,
    DatasetInfo,
    atomic_directory,
    read_table,
)
from emotion_detection.data import drawings
from emotion_detection.data.drawings import Images
from emotion_detection.data.rows import images_at
from emotion_detection.data.shards import load_split, read_dataset_info
from emotion_detection.errors import ArtifactError, ImageError
from emotion_detection.figures import Drawing, write_figures
from emotion_detection.pages import render
from emotion_detection.params import SPLITS, AugmentationParams, Params
from emotion_detection.preprocess import prepare

SHOWN = 12  # images in a row
AUGMENTED = 6  # training images shown with their changes
_BATCH = 256


@dataclass(frozen=True)
class Faces:
    """The training split as models see it."""

    samples: Mapping[str, Images]
    """By class, the first images of the shards, which are shuffled: uint8 (up to `SHOWN`, S, S, C)."""
    means: Mapping[str, Images]
    """By class, uint8 (S, S, C)."""


def write_pictures(params: Params, directory: Path = DATA_PICTURES) -> None:
    """Draw the data set and write the page.

    Raises:
        ArtifactError: an input is missing, damaged or does not match the others, or the disk is full.
    """
    info, images = read_dataset_info(SHARDS), read_inventory()
    seen = look_at_faces(SHARDS, info)
    tables = {"classes": class_counts(images), "outcomes": outcomes(images), "sizes": file_sizes(images)}
    dropped = dropped_images(images, info, params.data.max_pixels)
    with atomic_directory(directory) as temporary:
        (temporary / "figures").mkdir()
        (temporary / "plots").mkdir()
        write_figures(temporary / "figures", _drawings(tables, seen, dropped, params))
        for name, table in tables.items():
            table.to_csv(temporary / "plots" / f"{name}.csv", index=False, lineterminator="\n")
        (temporary / "index.html").write_text(_page(params.data.source, images, tables), encoding="utf-8")


def read_inventory(dataset: Path = DATASET, decisions: Path = DECISIONS) -> pd.DataFrame:
    """One row per image of the data set: split, label, width, height, mode, format, keep, reason.

    Raises:
        ArtifactError: a file is missing, or the decisions are not of this data set.
    """
    shown = ["sha256", "split", "label", "width", "height", "mode", "format"]
    headers = read_table(dataset, DATASET_SCHEMA, shown)
    verdicts = read_table(decisions, DECISIONS_SCHEMA, ["sha256", "keep", "reason"])
    if not headers["sha256"].equals(verdicts["sha256"]):
        raise ArtifactError(f"{decisions}: not made from this {dataset}; run `dvc repro`")
    parts: list[pd.DataFrame] = [table.drop_columns(["sha256"]).to_pandas() for table in (headers, verdicts)]
    return pd.concat(parts, axis=1)


def look_at_faces(directory: Path, info: DatasetInfo) -> Faces:
    """Stream the training shards once: samples and the mean of each class.

    Raises:
        ArtifactError: a shard is missing.
    """
    shape = (info.image_size, info.image_size, info.channels)
    sums = np.zeros((len(info.labels), *shape), np.int64)  # whole numbers: the same in any order
    counts = np.zeros(len(info.labels), np.int64)
    samples: list[list[Images]] = [[] for _ in info.labels]
    for images, labels in load_split(directory, "train", _BATCH).as_numpy_iterator():
        for index in np.unique(labels):
            found = images[labels == index]
            sums[index] += found.sum(axis=0, dtype=np.int64)
            counts[index] += len(found)
            samples[index].extend(found[: SHOWN - len(samples[index])])
    means = (sums / counts[:, None, None, None]).round().astype(np.uint8)
    return Faces(
        {label: np.stack(some) for label, some in zip(info.labels, samples, strict=True)},
        dict(zip(info.labels, means, strict=True)),
    )


def class_counts(images: pd.DataFrame) -> pd.DataFrame:
    """Images of every class in every split: columns class (split/label), split, label, found, kept."""
    keys = ["split", "label"]
    grid = pd.MultiIndex.from_product([SPLITS, sorted(images["label"].unique())], names=keys)
    found, kept = (rows.groupby(keys).size().reindex(grid, fill_value=0) for rows in (images, images[images["keep"]]))
    table = pd.DataFrame({"found": found, "kept": kept}).reset_index()
    table.insert(0, "class", table["split"] + "/" + table["label"])
    return table


def outcomes(images: pd.DataFrame) -> pd.DataFrame:
    """Images by what became of them: columns outcome (kept, or the reason for dropping), split, images."""
    became = images["reason"].fillna("kept").rename("outcome")
    grid = pd.MultiIndex.from_product([sorted(became.unique()), SPLITS], names=["outcome", "split"])
    return images.groupby([became, "split"]).size().reindex(grid, fill_value=0).rename("images").reset_index()


def file_sizes(images: pd.DataFrame) -> pd.DataFrame:
    """Images by width, height, mode and format, as many rows as there are combinations."""
    columns = ["width", "height", "mode", "format"]
    table = images.groupby(columns, dropna=False).size().rename("images").reset_index()
    return table.astype({"width": "Int64", "height": "Int64"})


def dropped_images(
    images: pd.DataFrame, info: DatasetInfo, max_pixels: int, dataset: Path = DATASET
) -> dict[str, Images]:
    """By reason, images evenly spread over those dropped for it: uint8 (up to `SHOWN`, S, S, C)."""
    rows = {reason: _spread(group.index.to_numpy()) for reason, group in images.groupby("reason")}
    encoded = images_at(dataset, {row for some in rows.values() for row in some})

    def pixels(row: int) -> Images:
        try:
            return prepare(encoded[row], info.image_size, info.channels, max_pixels)
        except ImageError:
            return drawings.crossed_out(info.image_size, info.channels)

    return {str(reason): np.stack([pixels(int(row)) for row in some]) for reason, some in rows.items()}


def augmented(images: Images, augmentation: AugmentationParams, seed: int) -> Images:
    """Each image, then changes of it as training makes them: uint8 (N, S, S, C) -> (N, `SHOWN`, S, S, C)."""
    from emotion_detection.augmentation import augment  # noqa: PLC0415

    drawn = [np.asarray(augment(images, [seed, step], augmentation)) for step in range(SHOWN - 1)]
    return np.stack([images, *drawn], axis=1)


def _drawings(
    tables: Mapping[str, pd.DataFrame], seen: Faces, dropped: Mapping[str, Images], params: Params
) -> dict[str, Drawing]:
    one_each = np.stack([images[0] for images in list(seen.samples.values())[:AUGMENTED]])
    changed = augmented(one_each, params.training.augmentation, params.seed)
    named = dict(zip(list(seen.samples)[:AUGMENTED], changed, strict=True))
    figures: dict[str, Drawing] = {
        "classes": partial(drawings.classes, tables["classes"], SPLITS),
        "samples": partial(drawings.faces, seen.samples),
        "means": partial(drawings.means, seen.means),
        "augmentation": partial(drawings.faces, named, columns=["source", "changed"]),
        "sizes": partial(drawings.sizes, tables["sizes"]),
    }
    return figures | ({"dropped": partial(drawings.faces, dropped)} if dropped else {})


def _page(source: str, images: pd.DataFrame, tables: Mapping[str, pd.DataFrame]) -> str:
    lost = tables["outcomes"][tables["outcomes"]["outcome"] != "kept"]
    return render(
        "data.html.j2",
        title="Pictures of the data set",
        source=source,
        images=len(images),
        kept=int(images["keep"].sum()),
        splits=SPLITS,
        classes={
            label: rows.set_index("split")[["found", "kept"]].to_dict("index")
            for label, rows in tables["classes"].groupby("label")
        },
        dropped={reason: rows.set_index("split")["images"].to_dict() for reason, rows in lost.groupby("outcome")},
        tables=list(tables),
    )


def _spread(rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[int]:
    places = np.linspace(0, len(rows) - 1, min(SHOWN, len(rows))).astype(int)
    return [int(row) for row in rows[places]]
