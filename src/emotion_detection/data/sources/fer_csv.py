"""FER2013 as published: a csv of emotion (0 to 6), pixels (grey values in words) and Usage.

    emotion,pixels,Usage
    0,70 80 82 72 ...,Training

Each row becomes a lossless grey PNG. Usage may be missing, as in the competition's train.csv; other columns are
passed over.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import numpy as np

from emotion_detection.data.sources.base import Sample
from emotion_detection.data.sources.layout import MAX_BYTES
from emotion_detection.errors import SourceError
from emotion_detection.params import Split
from emotion_detection.preprocess import encode_png

LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
USAGES: dict[str, Split] = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
Row = tuple[int, dict[str, str]]


class FerCsvSource:
    """A FER2013 csv, read row by row; rows are numbered from 1, which is the header.

    Raises:
        SourceError: a column is missing, or a row is short, long, of an unknown emotion or Usage, or holds anything
            but grey values; the message names the row.
    """

    kind = "fer_csv"

    def __init__(self, path: Path) -> None:
        self._path = path
        splits = [self._split(row) for row in _rows(path)]
        if not splits:
            raise SourceError(f"{path}: has a header but no rows; expected one image per row")
        self._count = len(splits)
        self.named_splits = frozenset(split for split in splits if split)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Sample]:
        side = 0
        for number, row in _rows(self._path):
            values = self._values(number, row["pixels"])
            side = side or self._side(number, len(values))
            if len(values) != side * side:
                raise self._error(number, f"{len(values)} pixels", f"{side * side} as in the first row")
            png = encode_png(np.frombuffer(values, np.uint8).reshape(side, side, 1))
            yield Sample(f"row-{number:06d}.png", self._label(number, row["emotion"]), png, self._split((number, row)))

    def _error(self, number: int, found: str, expected: str) -> SourceError:
        return SourceError(f"{self._path}: row {number}: found {found}, expected {expected}; repair or remove the row")

    def _split(self, numbered: Row) -> Split | None:
        number, row = numbered
        if "Usage" not in row:
            return None
        if row["Usage"] not in USAGES:
            raise self._error(number, f"Usage {row['Usage']!r}", ", ".join(USAGES))
        return USAGES[row["Usage"]]

    def _label(self, number: int, emotion: str) -> str:
        if emotion not in {str(index) for index in range(len(LABELS))}:
            raise self._error(number, f"emotion {emotion!r}", f"0 to {len(LABELS) - 1}")
        return LABELS[int(emotion)]

    def _side(self, number: int, pixels: int) -> int:
        side = math.isqrt(pixels)
        if side == 0 or side * side != pixels:
            raise self._error(number, f"{pixels} pixels", "a square number, such as 48 x 48 = 2304")
        return side

    def _values(self, number: int, pixels: str) -> bytes:
        words = pixels.split()
        try:
            return bytes(map(int, words))
        except ValueError:
            position, word = next((i, word) for i, word in enumerate(words, 1) if not _is_grey(word))
            raise self._error(number, f"{word!r} as pixel {position}", "whole numbers from 0 to 255") from None


def _is_grey(word: str) -> bool:
    try:
        return 0 <= int(word) <= 255
    except ValueError:
        return False


def _rows(path: Path) -> Iterator[Row]:
    csv.field_size_limit(MAX_BYTES)  # the default ends at 180 x 180 pixels
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _parsed(path, file)
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: cannot be read: {error}; save it as UTF-8 csv") from None


def _parsed(path: Path, file: TextIO) -> Iterator[Row]:
    lines = csv.reader(file, skipinitialspace=True)
    header = [name.strip() for name in next(lines)]
    for number, cells in enumerate((line for line in lines if line), 2):
        if len(cells) != len(header):
            raise SourceError(
                f"{path}: row {number}: found {len(cells)} columns, expected {len(header)} ({', '.join(header)}); "
                "repair or remove the row"
            )
        yield number, dict(zip(header, cells, strict=True))
