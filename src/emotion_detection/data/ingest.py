"""Any source -> one Parquet data set, streamed: an image is held only until its row group is written.

counts = ingest(open_source(params.data, params.seed), DATASET, params.data.split, params.seed)
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from rich.table import Table

from emotion_detection.artifacts import DATASET_SCHEMA, atomic_file
from emotion_detection.data.sources.base import Sample, Source
from emotion_detection.errors import ImageError, SourceError
from emotion_detection.params import SPLITS, Split, SplitParams
from emotion_detection.preprocess import MAX_PIXELS, read_header

ROWS_PER_GROUP = 2048
BYTES_PER_GROUP = 32 * 2**20

Row = dict[str, Any]
Counts = Counter[tuple[str, str]]
Choice = Callable[[Split | None, str], Split]


def ingest(source: Source, path: Path, shares: SplitParams, seed: int, max_pixels: int = MAX_PIXELS) -> Counts:
    """Write every image of a source, untouched, as a Parquet file of `DATASET_SCHEMA`.

    The same source gives the same bytes. Memory is bounded by one row group of `BYTES_PER_GROUP` and one image.

    Args:
        shares: for the splits that the source does not name; see `split_chooser`.
        max_pixels: headers that announce more count as unreadable.

    Returns:
        Number of images by (split, label).

    Raises:
        SourceError: the source has no training images, or cannot be read, or its votes are not for these images.
        ArtifactError: the file cannot be written; nothing is left of it.
    """
    choose = split_chooser(source.named_splits, shares, seed)
    counts: Counts = Counter()
    with atomic_file(path) as temporary, _writer(temporary) as writer, _progress() as progress:
        samples = progress.track(source, total=len(source), description="ingest")
        for group in _groups(_row(sample, choose, max_pixels) for sample in samples):
            counts.update((row["split"], row["label"]) for row in group)
            writer.write_table(pa.Table.from_pylist(group, DATASET_SCHEMA))
    return counts


def split_chooser(named: frozenset[Split], shares: SplitParams, seed: int) -> Choice:
    """The rule that gives each image its split.

    A split that the source names stays, but splits that it lacks are cut out of its training images (or of all, if it
    names none). An image's hash decides: equal bytes land on the same side, no image moves when others are
    added, and each class is cut in the same proportion.

    Returns:
        (named split or none, SHA-256 of the image) -> split.

    Raises:
        SourceError: the source names splits, but none to train on.
    """
    if named and "train" not in named:
        raise SourceError(
            f"the source has {', '.join(sorted(named))} but no train split; add one, or name no split at all"
        )
    wanted: dict[Split, float] = {"test": shares.test, "val": shares.val}
    lacking = [(missing, share) for missing, share in wanted.items() if missing not in named]

    def choose(split: Split | None, sha256: str) -> Split:
        if split in ("val", "test"):
            return split
        position = _position(seed, sha256)
        for missing, share in lacking:
            if position < share:
                return missing
            position -= share
        return "train"

    return choose


def summary(counts: Counts) -> Table:
    """Images per class and split."""
    table = Table("class", *SPLITS, title="Images")
    for column in table.columns[1:]:
        column.justify = "right"
    for label in sorted({label for _, label in counts}):
        table.add_row(label, *(f"{counts[split, label]:,}" for split in SPLITS))
    table.add_section()
    table.add_row("all", *(f"{sum(n for (s, _), n in counts.items() if s == split):,}" for split in SPLITS))
    return table


def _progress() -> Progress:
    return Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=Console(stderr=True))


def _position(seed: int, sha256: str) -> float:
    """Uniform in [0, 1)."""
    digest = hashlib.sha256(f"{seed}:{sha256}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _row(sample: Sample, choose: Choice, max_pixels: int) -> Row:
    sha256 = hashlib.sha256(sample.data).hexdigest()
    row: Row = {"path": sample.path, "label": sample.label, "image": sample.data, "sha256": sha256}
    row["votes"] = list(sample.votes.items()) if sample.votes else None
    split = "train" if sample.only_train else choose(sample.split, sha256)
    return row | {"split": split} | _header(sample.data, max_pixels)


def _header(data: bytes, max_pixels: int) -> Row:
    try:
        header = read_header(data, max_pixels)
    except ImageError:
        return {}  # validation decides about it
    return {"width": header.width, "height": header.height, "mode": header.mode, "format": header.format}


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    group: list[Row] = []
    size = 0
    for row in rows:
        group.append(row)
        size += len(row["image"])
        if len(group) >= ROWS_PER_GROUP or size >= BYTES_PER_GROUP:
            yield group
            group, size = [], 0
    if group:
        yield group


def _writer(path: Path) -> pq.ParquetWriter:
    votes = [f"votes.key_value.{part}" for part in ("key", "value")]
    # Images are compressed already, and dictionaries pay only where values repeat.
    compression = {name: "none" if name == "image" else "zstd" for name in [*DATASET_SCHEMA.names, *votes]}
    repeating = ["split", "label", "mode", "format", *votes]
    return pq.ParquetWriter(
        path, DATASET_SCHEMA, compression=compression, use_dictionary=repeating, write_statistics=repeating
    )
