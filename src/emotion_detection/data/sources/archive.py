"""Images in a zip or tar of a directory tree, read in place: nothing is unpacked to disk.

A zip is read in the order of its paths, a tar in its own order, since it can only be read from front to end.
"""

from __future__ import annotations

import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path
from typing import IO

from emotion_detection.data.sources.base import Sample
from emotion_detection.data.sources.layout import (
    MAX_BYTES,
    Entry,
    Member,
    check_size,
    is_hidden,
    named_splits,
    read_layout,
    text_of,
)
from emotion_detection.errors import SourceError

_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, LZMAError, EOFError, OSError, NotImplementedError)


class ZipSource:
    """A zip archive.

    Raises:
        SourceError: as `read_layout`; the archive is damaged or encrypted, holds links, or a member leads out of it.
    """

    kind = "archive"

    def __init__(self, path: Path) -> None:
        self._path = path
        infos = sorted(_zip_members(path), key=lambda item: item[0])
        files = [Member(name, info.file_size) for name, info in infos if not info.is_dir()]
        self._entries = read_layout(files, [name for name, info in infos if info.is_dir()], str(path))
        self._infos = dict(infos)
        self.named_splits = named_splits(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Sample]:
        with readable(self._path), zipfile.ZipFile(self._path) as archive:
            for entry in self._entries:
                with archive.open(self._infos[entry.path]) as file:
                    yield _sample(entry, file, self._path)


class TarSource:
    """A tar archive, plain or compressed with gzip, bzip2 or xz.

    Raises:
        SourceError: as `ZipSource`.
    """

    kind = "archive"

    def __init__(self, path: Path) -> None:
        self._path = path
        files: list[Member] = []
        folders: list[str] = []
        for name, info, _ in _tar_members(path):
            if info.isdir():
                folders.append(name)
            else:
                files.append(Member(name, info.size))
        self._entries = {entry.path: entry for entry in read_layout(files, folders, str(path))}
        self.named_splits = named_splits(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Sample]:
        for name, info, archive in _tar_members(self._path):
            file = archive.extractfile(info) if name in self._entries else None
            if file:
                yield _sample(self._entries[name], file, self._path)


class _StrictTarInfo(tarfile.TarInfo):
    """Refuses a broken header, where `tarfile` would take it for the end of the archive."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> _StrictTarInfo:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the proper end
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error} at byte {archive.offset}") from None


def _tar_members(path: Path) -> Iterator[tuple[str, tarfile.TarInfo, tarfile.TarFile]]:
    with readable(path), tarfile.open(path, tarinfo=_StrictTarInfo) as archive:
        while info := archive.next():
            archive.members.clear()  # type: ignore[attr-defined]  # it would keep every header
            name = member_path(info.name, path)
            if not name or is_hidden(name):
                continue
            if not info.isfile() and not info.isdir():
                raise SourceError(f"{path}: {name} is a link or device; pack it with --dereference --hard-dereference")
            yield name, info, archive


def _zip_members(path: Path) -> Iterator[tuple[str, zipfile.ZipInfo]]:
    with readable(path), zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = member_path(info.filename.replace("\\", "/"), path)  # as old Windows programs write it
            if name and not is_hidden(name):
                _check_zip_member(name, info, path)
                yield name, info


def _check_zip_member(name: str, info: zipfile.ZipInfo, path: Path) -> None:
    if info.flag_bits & 0x1:
        raise SourceError(f"{path}: {name} is encrypted; pack it without a password")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise SourceError(f"{path}: {name} is a symbolic link; pack the files themselves")


def _sample(entry: Entry, file: IO[bytes], source: Path) -> Sample:
    with readable(source):
        data = file.read(MAX_BYTES + 1)  # the announced size may lie
    check_size(len(data), entry.path, str(source))
    return Sample(text_of(entry.path), text_of(entry.label), data, entry.split)


def member_path(name: str, source: Path) -> str:
    """Path of a member in normal form; empty for the top itself.

    Raises:
        SourceError: it is absolute or leads upwards.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or name[1:3] == ":/":
        raise SourceError(f"{source}: member {name!r} leads out of the archive; pack it with relative paths")
    return "/".join(parts)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what reading an archive may raise into a SourceError."""
    try:
        yield
    except _BROKEN as error:
        reason = str(error) or type(error).__name__
        raise SourceError(
            f"{path}: damaged, truncated or of an unknown kind ({reason}); fetch or pack it again"
        ) from None
