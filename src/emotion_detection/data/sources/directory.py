"""Images in a directory tree, `train|val|test/<class>/*` or `<class>/*`, in the order of their paths."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from emotion_detection.data.sources.base import Sample
from emotion_detection.data.sources.layout import Member, check_size, is_hidden, named_splits, read_layout, text_of
from emotion_detection.errors import SourceError

Found = tuple[str, os.stat_result]


class DirectorySource:
    """A directory; symbolic links are followed.

    Raises:
        SourceError: as `read_layout` and `walk`, or a file vanished or cannot be read.
    """

    kind = "directory"

    def __init__(self, root: Path) -> None:
        files, folders = walk(root)
        self._root = root
        self._entries = read_layout([Member(path, status.st_size) for path, status in files], folders, str(root))
        self.named_splits = named_splits(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Sample]:
        for entry in self._entries:
            yield Sample(text_of(entry.path), text_of(entry.label), self._read(entry.path), entry.split)

    def _read(self, path: str) -> bytes:
        with _readable():
            data = (self._root / path).read_bytes()
        check_size(len(data), path, str(self._root))
        return data


def walk(root: Path) -> tuple[list[Found], list[str]]:
    """All files with their status, sorted, and all folders, both relative to `root`, with "/"; no hidden ones.

    Raises:
        SourceError: something is unreadable, is neither file nor folder, or a link leads back to its own parent.
    """
    with _readable():
        found = sorted(_visit(str(root), "", (_identity(root.stat()),)), key=lambda item: item[0])
    files = [item for item in found if S_ISREG(item[1].st_mode)]
    return files, [path for path, status in found if S_ISDIR(status.st_mode)]


def _visit(folder: str, inside: str, parents: tuple[tuple[int, int], ...]) -> Iterator[Found]:
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not is_hidden(entry.name)]
    for entry in visible:
        path, status = f"{inside}{entry.name}", entry.stat()
        if S_ISDIR(status.st_mode):
            if _identity(status) in parents:
                raise SourceError(f"{entry.path}: a link that leads back to a folder above it; remove it")
            yield from _visit(entry.path, f"{path}/", (*parents, _identity(status)))
        elif not S_ISREG(status.st_mode):
            raise SourceError(f"{entry.path}: neither a file nor a folder; remove it")
        yield path, status


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SourceError(f"{error.filename}: {error.strerror}; make it readable, or remove it") from None


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
