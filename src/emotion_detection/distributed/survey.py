"""What is kept of a large data set, found out by the workers of a Ray cluster: counts, and the hash that names it.

    survey = Survey(Job(params.data, dataset, decisions))
    census = survey.census()

The lines that decide the hash are sorted by the workers; this process looks at them one by one.
"""

from __future__ import annotations

import logging
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa

from emotion_detection.artifacts import DATASET_SCHEMA, DECISIONS_SCHEMA, open_parquet
from emotion_detection.data.census import (
    Census,
    Labels,
    Row,
    check_categories,
    counting_votes,
    digest,
    kept_rows,
    line_of,
    voted_line_of,
)
from emotion_detection.errors import ArtifactError
from emotion_detection.params import SPLITS, DataParams

MOST_TASKS = 10_000
"""Row groups are small; of a large data set one task does several."""
MOST_PIECES = 1_000_000
_SEPARATOR = "\0"
_TALLIED = ["start", "split", "label", "categories"]
_LINES = pa.schema(
    [("start", pa.int64()), *((name, pa.string()) for name in ("split", "label", "line", "voted", "categories"))]
)


@dataclass(frozen=True)
class Job:
    """What all tasks know."""

    data: DataParams
    dataset: Path
    decisions: Path

    def rows(self, part: pa.Table, columns: list[str]) -> Iterator[Row]:
        """Kept images of one part, as `kept_rows` gives them."""
        start, stop = (part[name][0].as_py() for name in ("start", "stop"))
        return kept_rows(self.dataset, self.decisions, columns, range(start, stop))


class Survey:
    """A line for each kept image, which stays with the workers; how many there are by span, split, label and votes."""

    def __init__(self, job: Job) -> None:
        """Look at all decisions; errors as `kept_rows`."""
        self.job, self.spans = job, spans(job)
        parts = [{"start": span.start, "stop": span.stop} for span in self.spans]
        self._lines = mapped(dataset(parts), _lines, job).materialize()
        self.tallies: list[dict[str, Any]] = mapped(self._lines, _tally).take_all()

    def census(self) -> Census:
        """What is kept, yet without votes.

        Raises:
            ArtifactError: there is a split that there is not.
        """
        counts: Counter[tuple[str, str]] = Counter()
        for tally in self.tallies:
            counts[tally["split"], tally["label"]] += tally["line_count"]
        if unknown := sorted({split for split, _ in counts}.difference(SPLITS)):
            raise ArtifactError(f"{self.job.decisions}: split {unknown[0]!r}, expected one of {SPLITS}")
        return Census(counts, digest(self._sorted("line") if counts else []))

    def with_votes(self, census: Census, labels: Labels) -> Census:
        """As `data.census.with_votes`."""
        voted: Counter[str] = Counter()
        for tally in self.tallies:
            if tally["categories"] is not None:
                check_categories(tally["categories"].split(_SEPARATOR), labels, self.job.dataset)
                voted[tally["split"]] += tally["line_count"]
        return counting_votes(census, voted, self._sorted("voted")) if voted else census

    def _sorted(self, column: str) -> Iterator[str]:
        ordered = mapped(self._lines, _column, column).sort("line")
        for batch in ordered.iter_batches(batch_size=None, batch_format="pyarrow"):
            yield from batch["line"].to_pylist()


def spans(job: Job) -> list[range]:
    """Rows of the data set for each task: whole row groups."""
    metadata = open_parquet(job.dataset, DATASET_SCHEMA).metadata
    if open_parquet(job.decisions, DECISIONS_SCHEMA).metadata.num_rows != metadata.num_rows:
        raise ArtifactError(
            f"{job.decisions}: not made from this {job.dataset}; run `dvc repro`: the two differ in length"
        )
    ends = list(accumulate(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)))
    step = math.ceil(len(ends) / MOST_TASKS) or 1
    ends = [*ends[step - 1 : -1 : step], *ends[-1:]]
    return [range(start, end) for start, end in pairwise([0, *ends])]


def _lines(part: pa.Table, job: Job) -> pa.Table:
    rows = [
        {
            "start": part["start"][0].as_py(),
            "split": row["split"],
            "label": row["label"],
            "line": line_of(row),
            "voted": voted_line_of(row) if row["votes"] else None,
            "categories": _SEPARATOR.join(sorted(dict(row["votes"]))) if row["votes"] else None,
        }
        for row in job.rows(part, ["votes"])
    ]
    return pa.Table.from_pylist(rows, _LINES)


def _tally(lines: pa.Table) -> pa.Table:
    return lines.group_by(_TALLIED).aggregate([("line", "count")])


def _column(lines: pa.Table, column: str) -> pa.Table:
    return pa.table({"line": lines[column].drop_null()})


def settings(pieces: int = 0) -> None:
    """How Ray Data works from now on: in the order of the data set, and by tasks alone.

    What a dead worker held is then made again from what it was made of; shuffles by actors lose it.

    Args:
        pieces: in which a sort cuts its blocks: the number of blocks times that of ranges. Many of them are merged on
            the way (F. S. Luan et al., "Exoshuffle", 2023), or there would be an object for each.
    """
    from ray.data import DataContext  # noqa: PLC0415  an extra

    logging.getLogger("ray.data").setLevel(logging.WARNING)
    context = DataContext.get_current()
    context.enable_progress_bars = sys.stderr.isatty()
    context.execution_options.preserve_order = True
    context.shuffle_strategy = "sort_shuffle_push_based" if pieces > MOST_PIECES else "sort_shuffle_pull_based"


def dataset(items: list[dict[str, Any]]) -> Any:
    """A data set of Ray Data with a block for each item."""
    from ray import data  # noqa: PLC0415  an extra

    return data.from_items(items, override_num_blocks=max(1, len(items)))


def mapped(blocks: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    """Block by block, as Arrow tables."""
    return blocks.map_batches(function, batch_size=None, batch_format="pyarrow", fn_args=arguments)
