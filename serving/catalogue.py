"""The songs that `/recommend` chooses from: a CSV file that its user edits.

    title,artist,emotion,distance
    "Gnossienne No. 1",Erik Satie,sad,0.2

    read_catalogue(Path("songs.csv"))          -> {"sad": (Song(...), ...)}

One line for each emotion that a song goes with. `distance` says how far its mood is from the emotion: 0 hits it, and
every 1 more makes the song e times as rare. The file of that name beside this module is the one that is taken by
default: pieces in the public domain.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emotion_detection.errors import EmotionError

SHIPPED = Path(__file__).with_name("catalogue.csv")
MAX_SONGS = 10_000

Catalogue = Mapping[str, tuple["Song", ...]]
"""Songs by emotion."""


class CatalogueError(EmotionError):
    """The catalogue is missing, or a line of it is wrong."""


@dataclass(frozen=True, slots=True)
class Song:
    """One line of the catalogue."""

    number: int
    """Counted over all emotions, from 0."""
    title: str
    artist: str
    distance: float

    @property
    def weight(self) -> float:
        """exp(-distance): how often it is chosen, by comparison."""
        return math.exp(-self.distance)


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    title: str = Field(min_length=1, max_length=300)
    artist: str = Field(min_length=1, max_length=300)
    emotion: str = Field(min_length=1, max_length=100)
    distance: float = Field(ge=0, le=100)


_FIELDS = tuple(_Row.model_fields)


def read_catalogue(path: Path) -> Catalogue:
    """Read and check a catalogue.

    Raises:
        CatalogueError: the file cannot be read, or has a wrong line; it names file, line and field.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _catalogue(path, file)
    except OSError as error:
        raise CatalogueError(f"{path}: {error.strerror}; `catalogue` names a CSV file: {','.join(_FIELDS)}") from None
    except UnicodeDecodeError as error:
        raise CatalogueError(f"{path}: {error.reason} at byte {error.start}; save it as UTF-8") from None


def _catalogue(path: Path, file: TextIO) -> Catalogue:
    songs: dict[str, list[Song]] = defaultdict(list)
    seen: dict[tuple[str, str, str], int] = {}
    for line, row in _rows(path, file):
        first = seen.setdefault((row.title, row.artist, row.emotion), line)
        if first != line:
            raise CatalogueError(f"{path}, line {line}: the same song and emotion as line {first}; remove one of them")
        if len(seen) > MAX_SONGS:
            raise CatalogueError(f"{path}, line {line}: more than {MAX_SONGS} songs")
        songs[row.emotion].append(Song(len(seen) - 1, row.title, row.artist, row.distance))
    if not songs:
        raise CatalogueError(f"{path}: no songs; a line is {','.join(_FIELDS)}")
    return {emotion: tuple(listed) for emotion, listed in songs.items()}


def _rows(path: Path, file: TextIO) -> Iterator[tuple[int, _Row]]:
    """Line number and content of every row."""
    reader = csv.DictReader(file, restkey="", strict=True)
    try:
        if sorted(reader.fieldnames or ()) != sorted(_FIELDS):
            found = ",".join(reader.fieldnames or ()) or "nothing"
            raise CatalogueError(f"{path}, line 1: found {found}; expected the fields {','.join(_FIELDS)}")
        for row in reader:
            yield reader.line_num, _row(f"{path}, line {reader.line_num}", row)
    except csv.Error as error:
        raise CatalogueError(f"{path}, line {reader.reader.line_num}: {error}; quote fields that have commas") from None


def _row(where: str, row: dict[str, str]) -> _Row:
    if "" in row:
        raise CatalogueError(f"{where}: more than {len(_FIELDS)} fields; quote those that have commas")
    try:
        return _Row.model_validate(row)
    except ValidationError as error:
        item = error.errors()[0]
        found = "nothing" if item["input"] is None else repr(item["input"])
        raise CatalogueError(f"{where}, field {item['loc'][0]}: found {found}; {item['msg']}") from None
