"""Where images come from: one module per kind of source, chosen by `data.source` in params.yaml.

    source = open_source(params.data, params.seed)
    len(source), source.named_splits
    for sample in source: ...

A path is told apart by what it holds, never by its suffix. Modules are imported where they are used, since the
fingerprint stage runs every time and needs but little of this.
"""

# ruff: noqa: PLC0415

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Literal

from emotion_detection.data.sources.base import Sample, Source
from emotion_detection.data.sources.layout import EXPECTED, is_hidden
from emotion_detection.errors import SourceError
from emotion_detection.params import DataParams

__all__ = ["SYNTHETIC", "Sample", "Source", "find_path", "format_of", "is_kaggle", "open_source"]

SYNTHETIC = "synthetic"
Format = Literal["directory", "zip", "tar", "fer_csv", "feedback"]
_SQLITE = b"SQLite format 3\0"


def open_source(data: DataParams, seed: int) -> Source:
    """Open `data.source`.

    Args:
        seed: for the synthetic source.

    Returns:
        Its samples have votes where `data.votes` names a file; after them come the faces of `data.feedback`.

    Raises:
        SourceError: it is missing, unreadable or not laid out as expected, or the file of votes or feedback is.
    """
    if not data.feedback:
        return _voted(data, seed)
    from emotion_detection.data.sources.feedback import FeedbackSource, WithFeedback

    return WithFeedback(_voted(data, seed), FeedbackSource(Path(data.feedback)))


def _voted(data: DataParams, seed: int) -> Source:
    if not data.votes:
        return _open(data, seed)
    from emotion_detection.data.sources.crowd import VotedSource, read_votes

    return VotedSource(_open(data, seed), read_votes(data.votes))


def _open(data: DataParams, seed: int) -> Source:
    if data.source == SYNTHETIC:
        from emotion_detection.data.sources.synthetic import SyntheticSource

        return SyntheticSource(data.synthetic, data.split, seed)
    if not is_kaggle(data.source):
        return _open_path(find_path(data.source))
    from emotion_detection.data.sources.kaggle import download

    source = _open_path(_only_file(download(data.source)))
    source.kind = "kaggle"
    return source


def is_kaggle(source: str) -> bool:
    """Whether `data.source` names a data set on Kaggle."""
    return source.startswith("kaggle:")


def find_path(source: str) -> Path:
    """The path that `data.source` names; of a folder with a single file, such as a csv, that file.

    Raises:
        SourceError: there is nothing.
    """
    path = Path(source).expanduser()
    if not path.exists():
        raise SourceError(
            f"data.source: {source}: no such file or directory; expected {SYNTHETIC}, a directory, zip, tar or FER2013 "
            "csv, or kaggle:owner/name"
        )
    return _only_file(path)


def format_of(path: Path) -> Format:
    """What a path holds, by its content.

    Raises:
        SourceError: nothing that is read here, or unreadable.
    """
    if path.is_dir():
        return "directory"
    try:
        found = _file_format(path)
    except (OSError, EOFError) as error:
        raise SourceError(f"{path}: damaged or unreadable: {error}; fetch it again") from None
    if not found:
        raise SourceError(
            f"{path}: is neither a directory nor a zip, tar (plain, gzip, bzip2, xz) or FER2013 csv with columns "
            f"emotion and pixels, nor feedback of a server, or is damaged; inside {EXPECTED}"
        )
    return found


def _file_format(path: Path) -> Format | None:
    with path.open("rb") as file:
        first_line = file.readline(4096)
    if first_line.startswith(b"PK"):
        return "zip"
    if first_line.startswith(_SQLITE):
        return "feedback"
    columns = first_line.decode("utf-8-sig", "replace").split(",")
    if {"emotion", "pixels"} <= {column.strip().strip('"') for column in columns}:
        return "fer_csv"
    return "tar" if tarfile.is_tarfile(path) else None


def _open_path(path: Path) -> Source:
    match format_of(path):
        case "directory":
            from emotion_detection.data.sources.directory import DirectorySource

            return DirectorySource(path)
        case "zip":
            from emotion_detection.data.sources.archive import ZipSource

            return ZipSource(path)
        case "tar":
            from emotion_detection.data.sources.archive import TarSource

            return TarSource(path)
        case "fer_csv":
            from emotion_detection.data.sources.fer_csv import FerCsvSource

            return FerCsvSource(path)
        case "feedback":
            from emotion_detection.data.sources.feedback import FeedbackSource

            return FeedbackSource(path)


def _only_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = [inner for inner in path.iterdir() if not is_hidden(inner.name)]
    data = [inner for inner in found if inner.suffix.lower() not in (".md", ".txt", ".db-journal")]
    return data[0] if len(data) == 1 and data[0].is_file() else path
