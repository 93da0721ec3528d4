"""Kept images -> TFRecord shards on Ray Data: the files of `data.sharding`, byte for byte.

    EMOTION_ENGINE=ray python -m pipeline.shards

Two passes over the row groups of the data set, each by tasks that anyone may do again:

1. survey:   decisions -> counts by split and label, and the lines whose hash names the data, sorted
2. prepare:  images -> records, each with its place; sorted by place, cut where a shard begins; each shard written

Images are held by workers and their object stores alone, which spill to disk. The process that starts this has eight
bytes for each image, its place, and looks at the lines one by one. A worker has one shard in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from emotion_detection.artifacts import DATASET, DECISIONS, SHARDS, DatasetInfo, atomic_directory, write_record
from emotion_detection.data.census import Labels, Row, labels_in_use
from emotion_detection.data.sharding import (
    describe,
    pixels_of,
    places,
    shard_sizes,
    tensorflow_errors_as_os_errors,
    votes_of,
    write_shard,
)
from emotion_detection.data.shards import INFO_FILE, encode_record
from emotion_detection.distributed import survey
from emotion_detection.distributed.cluster import connected
from emotion_detection.distributed.survey import Job, Survey
from emotion_detection.errors import ArtifactError, EngineError
from emotion_detection.params import SPLITS, DataParams, Split

_BATCH = 256  # rows that a task holds at a time
_PARTIAL = ".partial"
_RECORDS = pa.schema([("place", pa.int64()), ("record", pa.large_binary())])
_FILES = pa.schema([("name", pa.string()), ("sha256", pa.string())])


@dataclass(frozen=True)
class Target:
    """What the shards are to be."""

    directory: Path
    sizes: dict[str, int]
    """Images by name of the shard, in the order of their places."""
    labels: Labels
    voted: bool

    @property
    def ends(self) -> list[int]:
        """The place after the last one of each shard that is not empty."""
        return sorted(set(accumulate(self.sizes.values())) - {0})

    def shard_at(self, place: int) -> tuple[str, int]:
        """Name and size of the shard that begins there."""
        starts = accumulate(self.sizes.values(), initial=0)
        found = [shard for shard, start in zip(self.sizes.items(), starts, strict=False) if start == place and shard[1]]
        if not found:
            raise EngineError(f"Ray Data: no shard begins at place {place}; nothing was changed, run again")
        return found[0]


def write_shards(
    data: DataParams, seed: int, dataset: Path = DATASET, decisions: Path = DECISIONS, directory: Path = SHARDS
) -> DatasetInfo:
    """As `data.sharding.write_shards`, by the workers of a cluster, which see the same files under the same paths.

    Raises:
        ArtifactError: as there.
        EngineError: there is no such cluster, or its workers died too often.
    """
    job = Job(data, dataset.absolute(), decisions.absolute())
    with connected():
        survey.settings()
        found = Survey(job)
        census = found.census()
        labels = labels_in_use(census, data.classes, decisions)
        census = found.with_votes(census, labels)
        with atomic_directory(directory.absolute()) as temporary, tensorflow_errors_as_os_errors():
            target = Target(temporary, shard_sizes(census, data.shards), labels, census.votes is not None)
            files = _written(job, _parts(found, places(census, seed)), target)
            info = describe(census, labels, data, files)
            write_record(temporary / INFO_FILE, info)
    return info


def _parts(found: Survey, order: dict[Split, NDArray[np.int64]]) -> list[dict[str, Any]]:
    """Each span in which something is kept, with the places of its images by split."""
    kept: Counter[tuple[int, str]] = Counter()
    for tally in found.tallies:
        kept[tally["start"], tally["split"]] += tally["line_count"]
    parts, taken = [], dict.fromkeys(SPLITS, 0)
    for span in found.spans:
        part: dict[str, Any] = {"start": span.start, "stop": span.stop}
        for split in SPLITS:
            count = kept[span.start, split]
            part[split] = order[split][taken[split] : taken[split] + count].tobytes()
            taken[split] += count
        if any(part[split] for split in SPLITS):
            parts.append(part)
    return parts


def _written(job: Job, parts: list[dict[str, Any]], target: Target) -> dict[str, str]:
    """Write all shards; their checksums by name."""
    survey.settings(len(parts) * len(target.sizes))
    records = survey.mapped(survey.dataset(parts), _records, job, target).sort("place", boundaries=target.ends)
    files = {row["name"]: row["sha256"] for row in survey.mapped(records, _shards, target).take_all()}
    for partial in target.directory.glob(f"*{_PARTIAL}"):
        partial.unlink()  # of a worker that died
    for name, size in target.sizes.items():
        if not size:
            files[name] = write_shard(target.directory / name, [])
    if missing := sorted(target.sizes.keys() - files):
        raise EngineError(f"Ray Data: {', '.join(missing)} was not written; nothing was changed, run again")
    return {name: files[name] for name in target.sizes}


def _records(part: pa.Table, job: Job, target: Target) -> Iterator[pa.Table]:
    in_turn = {split: iter(np.frombuffer(part[split][0].as_py(), np.int64).tolist()) for split in SPLITS}
    rows = job.rows(part, ["image", "votes"])
    while batch := list(islice(rows, _BATCH)):
        where = [next(in_turn[row["split"]]) for row in batch]
        yield pa.table([where, [_record(row, job, target) for row in batch]], schema=_RECORDS)


def _record(row: Row, job: Job, target: Target) -> bytes:
    label, labels = row["label"], target.labels
    votes = votes_of(row, labels) if target.voted else None
    return encode_record(
        pixels_of(row, job.data, job.dataset), labels.index(label), label, row["sha256"].encode(), votes
    )


def _shards(records: pa.Table, target: Target) -> pa.Table:
    """Write the shards whose records these are; done again, it writes the same."""
    done = []
    while len(records):
        start = records["place"][0].as_py()
        name, size = target.shard_at(start)
        shard, records = records.slice(0, size), records.slice(size)
        if not np.array_equal(shard["place"].to_numpy(), np.arange(start, start + size)):
            raise EngineError(f"Ray Data: records of {name} are missing; nothing was changed, run again")
        done.append({"name": name, "sha256": _write(target.directory / name, shard["record"])})
    return pa.Table.from_pylist(done, _FILES)


def _write(path: Path, records: pa.ChunkedArray) -> str:
    partial = path.with_name(f"{path.name}.{uuid4().hex}{_PARTIAL}")
    try:
        with tensorflow_errors_as_os_errors():
            sha256 = write_shard(partial, (record.as_py() for record in records))
        partial.replace(path)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be written: {error}; free space or rights, then run again") from None
    return sha256
