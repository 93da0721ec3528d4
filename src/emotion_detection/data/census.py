"""What the decisions keep of the data set: counted, named by a hash, and read row by row.

census = count_kept(DECISIONS)
for row in kept_rows(DATASET, DECISIONS, ["image"]): ...

What decides the hash stands in lines, of which each is made from one row alone, and which are sorted: so that they can
also be made in several places.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from emotion_detection.artifacts import DATASET_SCHEMA, DECISIONS_SCHEMA, intact, open_parquet
from emotion_detection.data.votes import missing_labels
from emotion_detection.errors import ArtifactError
from emotion_detection.params import SPLITS, Split

Row = dict[str, Any]
Labels = tuple[str, ...]
_KEYS = ["path", "split", "label", "sha256"]
_BATCH = 64  # rows held at a time: little memory even for large photographs


class Census(NamedTuple):
    """What the decisions keep."""

    counts: Counter[tuple[str, str]]
    """Images by split and label."""
    data_hash: str
    """`DatasetInfo.data_hash`."""
    votes: dict[str, int] | None = None
    """`DatasetInfo.votes`."""

    def of_split(self, split: Split) -> int:
        return sum(count for (kept, _), count in self.counts.items() if kept == split)


def count_kept(decisions: Path) -> Census:
    """Count the kept images, without votes.

    Raises:
        ArtifactError: the file is missing or damaged, or has a split that there is not.
    """
    counts: Counter[tuple[str, str]] = Counter()
    lines = []
    for row in _rows(decisions, DECISIONS_SCHEMA, [*_KEYS, "keep"]):
        if row["split"] not in SPLITS:
            raise ArtifactError(f"{decisions}: {row['path']}: split {row['split']!r}, expected one of {SPLITS}")
        if row["keep"]:
            counts[row["split"], row["label"]] += 1
            lines.append(line_of(row))
    return Census(counts, digest(sorted(lines)))


def line_of(row: Row) -> str:
    """What of a kept image decides `DatasetInfo.data_hash`, apart from its votes."""
    return "\0".join((row["sha256"], row["label"], row["split"]))


def voted_line_of(row: Row) -> str:
    """What an image with votes adds to it."""
    return f"{row['sha256']} {sorted(row['votes'])}"


def digest(lines: Iterable[str]) -> str:
    """SHA-256 over sorted lines, hexadecimal; they are looked at one by one."""
    found = hashlib.sha256()
    for number, line in enumerate(lines):
        found.update(f"\n{line}".encode() if number else line.encode())
    return found.hexdigest()


def labels_in_use(census: Census, classes: Labels, decisions: Path) -> Labels:
    """Class names in the order of the model's outputs: `classes`, or all that are kept, sorted.

    Raises:
        ArtifactError: images of other classes are kept, or no training image of one of these.
    """
    kept = {label for _, label in census.counts}
    labels = classes or tuple(sorted(kept))
    if unknown := sorted(kept.difference(labels)):
        raise ArtifactError(f"{decisions}: keeps {', '.join(unknown)}, not in data.classes; run `dvc repro`")
    missing = [label for label in labels if not census.counts["train", label]]
    if missing or not labels:
        raise ArtifactError(
            f"{decisions}: keeps no training image of {', '.join(missing) or 'any class'}; see the reasons there, "
            "then add images or leave the class out of data.classes"
        )
    return labels


def with_votes(census: Census, dataset: Path, decisions: Path, labels: Labels) -> Census:
    """The census with the number of images that have votes, and a hash that they decide, too.

    Raises:
        ArtifactError: as `kept_rows`, or there is a label for which nobody could vote.
    """
    counts: Counter[str] = Counter()
    lines = []
    for row in kept_rows(dataset, decisions, ["votes"]):
        if row["votes"]:
            check_categories(dict(row["votes"]), labels, dataset)
            counts[row["split"]] += 1
            lines.append(voted_line_of(row))
    return counting_votes(census, counts, sorted(lines)) if lines else census


def check_categories(categories: Iterable[str], labels: Labels, dataset: Path) -> None:
    """Raise an ArtifactError where there is a label for which nobody could vote."""
    if missing := missing_labels(categories, labels):
        raise ArtifactError(
            f"{dataset}: nobody could vote for {', '.join(missing)}: data.votes has no such column; add it, or "
            "leave the class out of data.classes"
        )


def counting_votes(census: Census, counts: Counter[str], lines: Iterable[str]) -> Census:
    """The census with `counts` of images with votes by split, whose sorted lines decide the hash as well."""
    voted = {str(split): counts[split] for split in SPLITS}
    return Census(census.counts, digest(chain([census.data_hash], lines)), voted)


def kept_rows(dataset: Path, decisions: Path, columns: list[str], span: range | None = None) -> Iterator[Row]:
    """Path, split, label, SHA-256 and `columns` of every kept image, in the order of the data set.

    Args:
        span: rows of the data set to look at; none: all.

    Raises:
        ArtifactError: a file is missing or damaged, or the decisions are not of this data set.
    """
    mismatch = f"{decisions}: not made from this {dataset}; run `dvc repro`"
    images = _rows(dataset, DATASET_SCHEMA, [*_KEYS, *columns], span)
    verdicts = _rows(decisions, DECISIONS_SCHEMA, [*_KEYS, "keep"], span)
    try:
        for image, verdict in zip(images, verdicts, strict=True):
            if any(image[key] != verdict[key] for key in _KEYS):
                raise ArtifactError(f"{mismatch}: {verdict['path']} stands where the data set has {image['path']}")
            if verdict["keep"]:
                yield image
    except ValueError:
        raise ArtifactError(f"{mismatch}: the two differ in length") from None


def _rows(path: Path, schema: pa.Schema, columns: list[str], span: range | None = None) -> Iterator[Row]:
    file = open_parquet(path, schema)
    span = range(file.metadata.num_rows) if span is None else span
    start = 0
    with intact(path):
        for group in range(file.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            inside = range(max(start, span.start) - start, min(end, span.stop) - start)
            if inside:
                yield from _of_group(file, group, columns, inside)
            start = end


def _of_group(file: pq.ParquetFile, group: int, columns: list[str], inside: range) -> Iterator[Row]:
    start = 0
    for batch in file.iter_batches(_BATCH, [group], columns):
        first, last = max(inside.start - start, 0), min(inside.stop - start, batch.num_rows)
        if first < last:
            yield from batch.slice(first, last - first).to_pylist()
        start += batch.num_rows
