"""Images of any source with the votes of several people, from the file `data.votes`.

    source = VotedSource(source, read_votes("fer2013new.csv"))

Two forms of csv (plain or gzip) are read. FER+'s own `fer2013new.csv` has one row for each row of fer2013.csv, in its
order. Any other file has a column `path` (inside the source, or the file name alone), `sha256` or `md5`, and a column
of counts for each emotion: `happiness`, `fp_happiness`, or `votes_NAME` for names of your own. Rows are numbered from
1, which is the header.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import sys
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from emotion_detection.data.sources.base import Sample, Source
from emotion_detection.data.sources.fer_csv import USAGES
from emotion_detection.data.votes import NO_FACE, UNKNOWN
from emotion_detection.errors import SourceError
from emotion_detection.labels import listed, plain
from emotion_detection.params import Split

PREFIXES = ("votes_", "vote_", "fp_")
EMOTIONS = ("angry", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise")
NO_FACE_NAMES = ("nf", "no face", "no_face", "noface", "not a face", "not_a_face", NO_FACE)
KEYS = ("path", "sha256", "md5")
FERPLUS = {"usage", "image name"}
_UNREADABLE = (OSError, EOFError, zlib.error, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError)

Counts = NDArray[np.float64]


@dataclass(frozen=True)
class VoteTable:
    """The votes of one file."""

    name: str
    categories: tuple[str, ...]
    """What could be voted for, as `labels.plain` writes it, "no face" and "unknown" among them."""
    rows: int
    """With votes."""
    by_key: Mapping[str, Mapping[str, Counts]]
    """For `path`, `name`, `sha256` and `md5`, as far as the file has them: the counts, (categories,), by value."""
    splits: Mapping[str, Split] = field(default_factory=dict)
    """By file name; of FER+ alone."""

    def of(self, sample: Sample) -> dict[str, float] | None:
        """The votes for one image.

        Raises:
            SourceError: the file says that it stands in another split.
        """
        name = PurePosixPath(sample.path).name
        if sample.split not in (None, self.splits.get(name, sample.split)):
            raise SourceError(
                f"{self.name}: Usage of {sample.path} is that of {self.splits[name]}, but data.source has it in "
                f"{sample.split}; both files must have the same rows in the same order"
            )
        for key, counts in self.by_key.items():
            if (found := counts.get(_value(key, sample))) is not None:
                return dict(zip(self.categories, found.tolist(), strict=True))
        return None


class VotedSource:
    """A source whose samples have votes, as far as there are some for them.

    Iterating to the end raises SourceError where two images have the same file name, which has votes, or where
    hardly any image has votes and hardly any votes an image.
    """

    def __init__(self, source: Source, votes: VoteTable) -> None:
        self._source, self._votes = source, votes
        self.kind, self.named_splits = source.kind, source.named_splits

    def __len__(self) -> int:
        return len(self._source)

    def __iter__(self) -> Iterator[Sample]:
        without: list[str] = []
        names: dict[str, str] = {}
        for sample in self._source:
            found = self._votes.of(sample)
            if found is None:
                without.append(sample.path)
            elif "name" in self._votes.by_key:
                self._check_name(sample.path, names)
            yield replace(sample, votes=found)
        self._check_share(without)

    def _check_name(self, path: str, seen: dict[str, str]) -> None:
        other = seen.setdefault(PurePosixPath(path).name, path)
        if other != path:
            raise SourceError(
                f"{self._votes.name}: names files alone, but {other} and {path} are called the same; give the path "
                "inside the source, sha256 or md5"
            )

    def _check_share(self, without: list[str]) -> None:
        images, found = len(self), len(self) - len(without)
        if 2 * found >= images:
            return
        keys = "; ".join(f"{key} such as {next(iter(values), 'none')}" for key, values in self._votes.by_key.items())
        text = (
            f"{self._votes.name}: has votes for {found:,} of {images:,} images, but none for {listed(without, 3)}; "
            f"its rows are known by {keys}"
        )
        if 2 * found < self._votes.rows or not found:
            raise SourceError(f"data.votes: {text}; give the path inside the source, sha256 or md5 of each image")
        print(f"warning: {text}", file=sys.stderr)


def read_votes(file: str) -> VoteTable:
    """Read the file that `data.votes` names.

    Raises:
        SourceError: it is missing or no csv, has no column for the image or for votes, names an image twice, or has
            a count that is no number or below zero; the message names row and column.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise SourceError(f"data.votes: {file}: no such file; expected a csv or csv.gz with votes, or '' for none")
    table = _table(path)
    columns = _vote_columns(table, path)
    counts = _counts(table, columns, path)
    voted = np.flatnonzero(counts.sum(axis=1) > 0)
    if set(table) >= FERPLUS:
        by_key, splits = {"name": _ferplus_names(table, counts, path)}, _ferplus_splits(table, path)
    else:
        by_key, splits = _by_key(table, counts, voted, path), {}
    return VoteTable(str(path), tuple(columns.values()), len(voted), by_key, splits)


def _table(path: Path) -> pd.DataFrame:
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
        table = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except _UNREADABLE as error:
        raise SourceError(f"{path}: cannot be read: {error}; save it as UTF-8 csv, plain or with gzip") from None
    return table.rename(columns=lambda name: str(name).strip().lower())


def _vote_columns(table: pd.DataFrame, path: Path) -> dict[str, str]:
    """What each column of votes stands for."""
    names = [str(name) for name in table.columns]
    found = {name: category for name in names if (category := _category(name))}
    if not set(found.values()) - {NO_FACE, UNKNOWN}:
        raise SourceError(
            f"{path}: has columns {listed(names)}, and none with votes; expected one for each class, such as "
            "happiness, fp_happiness or votes_happiness"
        )
    for column, category in found.items():
        twin = next(other for other, same in found.items() if same == category)
        if twin != column:
            raise SourceError(f"{path}: columns {twin} and {column} both stand for {category}; keep one of them")
    return found


def _category(column: str) -> str | None:
    prefix = next((prefix for prefix in PREFIXES if column.startswith(prefix)), "")
    name = plain(column.removeprefix(prefix))
    if name in NO_FACE_NAMES:
        return NO_FACE
    return name if prefix or name in (*EMOTIONS, UNKNOWN) else None


def _counts(table: pd.DataFrame, columns: Mapping[str, str], path: Path) -> Counts:
    """Counts (rows, categories); zeros where a row is blank."""
    text = table[list(columns)].apply(lambda column: column.str.strip())
    blank = (text == "").all(axis=1).to_numpy()
    values: Counts = text.apply(pd.to_numeric, errors="coerce").to_numpy(np.float64, copy=True)
    values[blank] = 0
    wrong = ~((values >= 0) & np.isfinite(values))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise SourceError(
            f"{path}: row {row + 2}, column {text.columns[column]}: found {text.iat[row, column]!r}, expected a number "
            "of votes from 0 up; repair the row, or leave all its votes empty"
        )
    return values


def _by_key(table: pd.DataFrame, counts: Counts, voted: NDArray[np.intp], path: Path) -> dict[str, dict[str, Counts]]:
    columns = [str(name) for name in table.columns]
    keys = [key for key in KEYS if key in columns]
    if not keys:
        raise SourceError(
            f"{path}: has columns {listed(columns)}, and none that names the image; expected {', '.join(KEYS)}, or "
            "FER+'s Usage and Image name"
        )
    found: dict[str, dict[str, Counts]] = {}
    for key in keys:
        values = table[key].str.strip()
        if key == "path":
            _check_unique(values, path)
            name = "path" if values.str.contains("/").any() else "name"
            found[name] = {values[row]: counts[row] for row in voted}
        else:  # the votes for equal files are votes for the same picture
            found[key] = {}
            for row in voted:
                value = values[row].lower()
                found[key][value] = found[key].get(value, 0) + counts[row]
    return found


def _check_unique(values: pd.Series, path: Path) -> None:
    twice = values[values.duplicated() & (values != "")]
    if len(twice):
        first = int(np.flatnonzero(values == twice.iloc[0])[0])
        rows = f"rows {first + 2} and {twice.index[0] + 2}"
        raise SourceError(f"{path}: {rows} both have the path {twice.iloc[0]}; keep one of them")


def _ferplus_names(table: pd.DataFrame, counts: Counts, path: Path) -> dict[str, Counts]:
    """By the name that a row of fer2013.csv has here (`fer_csv`), and by that of FER+, which leaves some empty."""
    for row, name in enumerate(table["image name"].str.strip()):
        if name not in ("", f"fer{row:07d}.png"):
            raise SourceError(
                f"{path}: row {row + 2}: found Image name {name}, expected fer{row:07d}.png; FER+'s file must have all "
                "its rows in their order, which is that of fer2013.csv"
            )
    rows = [(row, votes) for row, votes in enumerate(counts) if votes.sum() > 0]
    return {f"row-{row + 2:06d}.png": votes for row, votes in rows} | {
        f"fer{row:07d}.png": votes for row, votes in rows
    }


def _ferplus_splits(table: pd.DataFrame, path: Path) -> dict[str, Split]:
    usages = table["usage"].str.strip()
    for row, usage in enumerate(usages):
        if usage not in USAGES:
            raise SourceError(f"{path}: row {row + 2}: found Usage {usage!r}, expected {', '.join(USAGES)}")
    return {f"row-{row + 2:06d}.png": USAGES[usage] for row, usage in enumerate(usages)}


def _value(key: str, sample: Sample) -> str:
    if key == "name":
        return PurePosixPath(sample.path).name
    return sample.path if key == "path" else hashlib.new(key, sample.data, usedforsecurity=False).hexdigest()
