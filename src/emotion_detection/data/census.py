"""What the decisions keep of the data set: counted, named by a hash, and read row by row.

census = count_kept(DECISIONS)
for row in kept_rows(DATASET, DECISIONS, ["image"]): ...
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pyarrow as pa

from emotion_detection.artifacts import DATASET_SCHEMA, DECISIONS_SCHEMA, open_parquet
from emotion_detection.data.votes import missing_labels
from emotion_detection.errors import ArtifactError
from emotion_detection.params import Split

Row = dict[str, Any]
Labels = tuple[str, ...]
SPLITS: tuple[Split, ...] = get_args(Split)
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
            lines.append("\0".join((row["sha256"], row["label"], row["split"])))
    return Census(counts, hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest())


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
            if missing := missing_labels(dict(row["votes"]), labels):
                raise ArtifactError(
                    f"{dataset}: nobody could vote for {', '.join(missing)}: data.votes has no such column; add it, or "
                    "leave the class out of data.classes"
                )
            counts[row["split"]] += 1
            lines.append(f"{row['sha256']} {sorted(row['votes'])}")
    if not lines:
        return census
    voted = "\n".join([census.data_hash, *sorted(lines)])
    return Census(census.counts, hashlib.sha256(voted.encode()).hexdigest(), {split: counts[split] for split in SPLITS})


def kept_rows(dataset: Path, decisions: Path, columns: list[str]) -> Iterator[Row]:
    """Path, split, label, SHA-256 and `columns` of every kept image, in the order of the data set.

    Raises:
        ArtifactError: a file is missing or damaged, or the decisions are not of this data set.
    """
    mismatch = f"{decisions}: not made from this {dataset}; run `dvc repro`"
    images = _rows(dataset, DATASET_SCHEMA, [*_KEYS, *columns])
    verdicts = _rows(decisions, DECISIONS_SCHEMA, [*_KEYS, "keep"])
    try:
        for image, verdict in zip(images, verdicts, strict=True):
            if any(image[key] != verdict[key] for key in _KEYS):
                raise ArtifactError(f"{mismatch}: {verdict['path']} stands where the data set has {image['path']}")
            if verdict["keep"]:
                yield image
    except ValueError:
        raise ArtifactError(f"{mismatch}: the two differ in length") from None


def _rows(path: Path, schema: pa.Schema, columns: list[str]) -> Iterator[Row]:
    file = open_parquet(path, schema)
    try:
        for batch in file.iter_batches(_BATCH, columns=columns):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise ArtifactError(f"{path}: damaged; remove it and run `dvc repro`: {error}") from None
