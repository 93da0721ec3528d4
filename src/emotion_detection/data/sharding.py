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
from emotion_detection.data.shards import INFO_FILE, encode_record, sha256_of, shard_name, shard_size
from emotion_detection.data.votes import target, voters
from emotion_detection.errors import ArtifactError, ImageError
from emotion_detection.params import SPLITS, DataParams, Split
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
    sizes = shard_sizes(census, data.shards)
    with _progress() as progress, atomic_directory(directory) as temporary, tensorflow_errors_as_os_errors():
        slots = temporary / "slots"
        tracked = progress.track(images, census.counts.total(), description="prepare images")
        in_turn = {split: iter(order.tolist()) for split, order in places(census, seed).items()}
        _fill_slots(slots, slot, tracked, in_turn, labels)
        files = _cut_into_shards(slots, slot, progress.track(sizes.items(), description="write shards  "), labels)
        slots.unlink()
        info = describe(census, labels, data, files)
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
    with ThreadPoolExecutor() as pool:
        while batch := list(islice(rows, _BATCH)):
            large = sum(len(row["image"]) for row in batch) > _BATCH * _LARGE
            done = (pool.map if large else map)(lambda row: pixels_of(row, data, dataset), batch)
            yield from zip(batch, done, strict=True)


def pixels_of(row: Row, data: DataParams, dataset: Path) -> Pixels:
    """The image of a row as models see it; an ArtifactError where it cannot be read."""
    try:
        return prepare(row["image"], data.image_size, data.channels, data.max_pixels)
    except ImageError as error:
        advice = f"let validation drop it: validation.unreadable.drop must name {row['split']}"
        raise ArtifactError(f"{dataset}: {row['path']}: {error}; {advice}") from None


def votes_of(row: Row, labels: Labels) -> tuple[NDArray[np.float32], float]:
    """Target and number of voters of a row, as `encode_record` wants them."""
    votes = dict(row["votes"]) if row["votes"] else None
    return target(votes, row["label"], labels), voters(votes, labels)


def places(census: Census, seed: int) -> dict[Split, NDArray[np.int64]]:
    """Where each kept image of a split goes, (N,), counted over the shards of all splits one after the other."""
    found: dict[Split, NDArray[np.int64]] = {}
    start = 0
    for number, split in enumerate(SPLITS):
        order = np.random.default_rng([seed, number]).permutation(census.of_split(split))
        found[split] = start + order
        start += len(order)
    return found


def _fill_slots(
    path: Path,
    slot: np.dtype[Any],
    images: Iterable[tuple[Row, Pixels]],
    in_turn: dict[Split, Iterator[int]],
    labels: Labels,
) -> None:
    with path.open("wb") as file:
        for row, pixels in images:
            content = [labels.index(row["label"]), row["sha256"].encode(), pixels, *votes_of(row, labels)]
            file.seek(next(in_turn[row["split"]]) * slot.itemsize)
            file.write(np.array(tuple(content[: len(slot.names or ())]), slot).tobytes())


def shard_sizes(census: Census, shards: int) -> dict[str, int]:
    """Images of each shard by its name, in the order of their places."""
    return {
        shard_name(split, number, shards): shard_size(census.of_split(split), number, shards)
        for split in SPLITS
        for number in range(shards)
    }


def _cut_into_shards(
    slots: Path, slot: np.dtype[Any], sizes: Iterable[tuple[str, int]], labels: Labels
) -> dict[str, str]:
    with slots.open("rb") as file:
        return {
            name: write_shard(slots.with_name(name), _encoded(np.fromfile(file, slot, size), labels))
            for name, size in sizes
        }


def _encoded(slots: NDArray[Any], labels: Labels) -> Iterator[bytes]:
    for label, sha256, pixels, *votes in slots:
        yield encode_record(pixels, int(label), labels[label], sha256, tuple(votes) or None)


def write_shard(path: Path, records: Iterable[bytes]) -> str:
    """Write records to a file, and give its checksum."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return sha256_of(path)


def describe(census: Census, labels: Labels, data: DataParams, files: dict[str, str]) -> DatasetInfo:
    """What the shards hold, `files` being their checksums by name."""
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
def tensorflow_errors_as_os_errors() -> Iterator[None]:
    try:
        yield
    except tf.errors.OpError as error:
        raise OSError(error.message) from None
