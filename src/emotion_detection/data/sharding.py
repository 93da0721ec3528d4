"""Kept images -> shuffled TFRecord shards, which `shards.py` reads.

    python -m pipeline.shards   # data/dataset.parquet, data/decisions.parquet -> data/shards/

The decisions are read first, to count. Then the images are streamed, prepared in threads, and each is put at its
final, random place in a temporary file of equal slots; that file is cut into shards. At no time is more than one
shard of images in memory, and equal input and seed give equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from emotion_detection.artifacts import (
    DATASET,
    DECISIONS,
    SHARDS,
    DatasetInfo,
    atomic_directory,
    write_record,
)
from emotion_detection.backend import tf
from emotion_detection.data.census import Census, Labels, Row, count_kept, kept_rows, labels_in_use, with_votes
from emotion_detection.data.shards import INFO_FILE, SPLITS, encode_record, sha256_of, shard_name
from emotion_detection.data.votes import target, voters
from emotion_detection.errors import ArtifactError, ImageError
from emotion_detection.params import DataParams
from emotion_detection.preprocess import Pixels, prepare

_BATCH = 64  # images decoded at a time: enough for every core, little memory even for large photographs
_LARGE = 2**14  # mean bytes; smaller images take less time to decode than to hand to another thread


def write_shards(
    data: DataParams, seed: int, dataset: Path = DATASET, decisions: Path = DECISIONS, directory: Path = SHARDS
) -> DatasetInfo:
    """Prepare every kept image and write the shards of all splits with their dataset.json.

    A random permutation gives each image of a split its shard and its place there; the sizes of a split's shards
    differ by at most one, and some are empty where there are fewer images than shards.

    Raises:
        ArtifactError: an input is missing, damaged or does not match the other, a class has no training image or
            no votes, an image cannot be prepared, or the disk is full. What stood in `directory` before then remains.
    """
    census = count_kept(decisions)
    labels = labels_in_use(census, data.classes, decisions)
    census = with_votes(census, dataset, decisions, labels)
    images = _prepared(kept_rows(dataset, decisions, ["image", "votes"]), data, dataset)
    slot = _slot(data, labels, voted=census.votes is not None)
    sizes = _shard_sizes(census, data.shards)
    with _progress() as progress, atomic_directory(directory) as temporary, _tensorflow_errors_as_os_errors():
        slots = temporary / "slots"
        tracked = progress.track(images, census.counts.total(), description="prepare images")
        _fill_slots(slots, slot, tracked, _places(census, seed), labels)
        files = _cut_into_shards(slots, slot, progress.track(sizes.items(), description="write shards  "), labels)
        slots.unlink()
        info = _describe(census, labels, data, files)
        write_record(temporary / INFO_FILE, info)
    return info


def counts_table(info: DatasetInfo) -> Table:
    """Images by class (rows) and split (columns), with totals."""
    table = Table("class", title=f"{info.image_size} x {info.image_size} x {info.channels} images")
    for heading in (*SPLITS, "total"):
        table.add_column(heading, justify="right")
    for label in info.labels:
        _add_counts(table, label, [info.counts[split][label] for split in SPLITS])
    table.add_section()
    _add_counts(table, "total", [sum(info.counts[split].values()) for split in SPLITS])
    return table


def _add_counts(table: Table, name: str, counts: list[int]) -> None:
    table.add_row(name, *(f"{count:,}" for count in [*counts, sum(counts)]))


def _slot(data: DataParams, labels: Labels, voted: bool) -> np.dtype[Any]:
    votes = [("votes", "<f4", (len(labels),)), ("voters", "<f4")]
    pixels = ("pixels", "u1", (data.image_size, data.image_size, data.channels))
    return np.dtype([("label", "<i4"), ("sha256", "S64"), pixels, *votes[: 2 * voted]])


def _prepared(rows: Iterator[Row], data: DataParams, dataset: Path) -> Iterator[tuple[Row, Pixels]]:
    def pixels(row: Row) -> Pixels:
        try:
            return prepare(row["image"], data.image_size, data.channels, data.max_pixels)
        except ImageError as error:
            advice = f"let validation drop it: validation.unreadable.drop must name {row['split']}"
            raise ArtifactError(f"{dataset}: {row['path']}: {error}; {advice}") from None

    with ThreadPoolExecutor() as pool:
        while batch := list(islice(rows, _BATCH)):
            large = sum(len(row["image"]) for row in batch) > _BATCH * _LARGE
            yield from zip(batch, (pool.map if large else map)(pixels, batch), strict=True)


def _places(census: Census, seed: int) -> dict[str, Iterator[int]]:
    places: dict[str, Iterator[int]] = {}
    start = 0
    for number, split in enumerate(SPLITS):
        order = np.random.default_rng([seed, number]).permutation(census.of_split(split))
        places[split] = iter((start + order).tolist())
        start += len(order)
    return places


def _fill_slots(
    path: Path,
    slot: np.dtype[Any],
    images: Iterable[tuple[Row, Pixels]],
    places: dict[str, Iterator[int]],
    labels: Labels,
) -> None:
    with path.open("wb") as file:
        for row, pixels in images:
            votes = dict(row["votes"]) if row["votes"] else None
            content = [
                labels.index(row["label"]),
                row["sha256"].encode(),
                pixels,
                target(votes, row["label"], labels),
                voters(votes, labels),
            ]
            file.seek(next(places[row["split"]]) * slot.itemsize)
            file.write(np.array(tuple(content[: len(slot.names or ())]), slot).tobytes())


def _shard_sizes(census: Census, shards: int) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for split in SPLITS:
        least, rest = divmod(census.of_split(split), shards)
        sizes |= {shard_name(split, number, shards): least + (number < rest) for number in range(shards)}
    return sizes


def _cut_into_shards(
    slots: Path, slot: np.dtype[Any], sizes: Iterable[tuple[str, int]], labels: Labels
) -> dict[str, str]:
    with slots.open("rb") as file:
        return {
            name: _write_shard(slots.with_name(name), np.fromfile(file, slot, size), labels) for name, size in sizes
        }


def _write_shard(path: Path, records: NDArray[Any], labels: Labels) -> str:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for label, sha256, pixels, *votes in records:
            writer.write(encode_record(pixels, int(label), labels[label], sha256, tuple(votes) or None))
    return sha256_of(path)


def _describe(census: Census, labels: Labels, data: DataParams, files: dict[str, str]) -> DatasetInfo:
    counts = {split: {label: census.counts[split, label] for label in labels} for split in SPLITS}
    training = counts["train"]
    total = sum(training.values())
    return DatasetInfo(
        labels=labels,
        image_size=data.image_size,
        channels=data.channels,
        counts={str(split): by_label for split, by_label in counts.items()},
        class_weights={label: total / len(labels) / count for label, count in training.items()},
        reference_shares={label: count / total for label, count in training.items()},
        files=files,
        data_hash=census.data_hash,
        votes=census.votes,
    )


def _progress() -> Progress:
    console = Console(stderr=True)
    return Progress(console=console, disable=not console.is_terminal)


@contextmanager
def _tensorflow_errors_as_os_errors() -> Iterator[None]:
    try:
        yield
    except tf.errors.OpError as error:
        raise OSError(error.message) from None
