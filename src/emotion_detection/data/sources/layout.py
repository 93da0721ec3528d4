"""From the paths of a tree to labelled entries: `<split>/<class>/*` or `<class>/*`, under any common top folder.

    read_layout([Member("train/happy/Training_1.jpg", 1523)], folders=["train", "train/happy"], source="faces.zip")

Directories and archives share these rules. Split folders are known by the names that people give them; the file
prefixes of FER2013 decide whatever the folder says. What is left out is said on standard error.
"""

from __future__ import annotations

import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from emotion_detection.errors import SourceError
from emotion_detection.params import Split

MAX_BYTES = 64 * 2**20
SPLIT_FOLDERS: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "publictest"), "val"),
    **dict.fromkeys(("test", "testing", "privatetest"), "test"),
}
SPLIT_PREFIXES: dict[str, Split] = {"Training_": "train", "PublicTest_": "val", "PrivateTest_": "test"}
EXPECTED = "expected <split>/<class>/* with splits such as train, val, test, or <class>/*"
_SIDE_FILES = {".txt", ".md", ".csv", ".json", ".xml", ".db", ".ini"}
_SYSTEM_NAMES = {"__MACOSX", "Thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class Member:
    """A file of a tree, not read yet."""

    path: str
    """Relative to the top of the tree, with "/"."""
    size: int
    """Bytes, as announced."""


@dataclass(frozen=True)
class Entry:
    """An image of a tree: what its path tells."""

    path: str
    label: str
    split: Split | None


def read_layout(members: Iterable[Member], folders: Collection[str], source: str) -> list[Entry]:
    """Find label and split of every image.

    Args:
        members: all files but hidden ones.
        folders: all folders, so that an empty class is noticed.
        source: name for messages.

    Returns:
        Entries in the order of `members`. Either all name a split, or none does.

    Raises:
        SourceError: no class folder, an empty one, images outside of the class folders, classes that differ only in
            case or spaces, one path twice, a file above `MAX_BYTES`.
    """
    images: list[Member] = []
    others: list[str] = []
    for member in members:
        if PurePosixPath(member.path).suffix.lower() in _SIDE_FILES:
            others.append(member.path)
        else:
            images.append(member)
    _check_files(images, source)
    paths = [image.path for image in images]
    filled, beside = _ancestors(paths), _ancestors(others)
    top = _common_top(paths, filled | (set(folders) - beside))
    has_splits = _has_splits(paths, top, source)
    entries = [_entry(path, top, has_splits, source) for path in paths]
    _check_folders((set(folders) | beside) - filled, top, has_splits, source)
    _check_labels(entries, source)
    _report_side_files(others, source)
    return _complete_splits(entries)


def named_splits(entries: Iterable[Entry]) -> frozenset[Split]:
    """The splits that the entries name."""
    return frozenset(entry.split for entry in entries if entry.split)


def is_hidden(path: str) -> bool:
    """Whether a path is, or lies in, something that the operating system put there."""
    return any(part.startswith(".") or part in _SYSTEM_NAMES for part in path.split("/"))


def check_size(size: int, path: str, source: str) -> None:
    """Refuse a file that no image of a face needs, before it fills the memory."""
    if size > MAX_BYTES:
        raise SourceError(f"{source}: {path}: {size} bytes; at most {MAX_BYTES} are read per image; remove it")


def text_of(name: str) -> str:
    """A file name as text that can be stored: bytes that are not UTF-8 become escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _ancestors(paths: Iterable[str]) -> set[str]:
    folders = {path.rpartition("/")[0] for path in paths}
    return {
        "/".join(parts[:depth]) for parts in (f.split("/") for f in folders) for depth in range(1, len(parts) + 1)
    } - {""}


def _check_files(images: Sequence[Member], source: str) -> None:
    for path, copies in Counter(image.path for image in images).items():
        if copies > 1:
            raise SourceError(f"{source}: holds {path} {copies} times; keep one of them")
    for image in images:
        check_size(image.size, image.path, source)


def _common_top(paths: Iterable[str], folders: Iterable[str]) -> str:
    """The folder that wraps the whole tree, as in an archive made of one folder, with "/" at its end; often none."""
    direct = {path.rpartition("/")[0] for path in paths}
    below: dict[str, list[str]] = defaultdict(list)
    for folder in folders:
        below[folder[: folder.rfind("/") + 1]].append(folder)
    top = ""
    while len(below[top]) == 1 and below[top][0] not in direct and not _split_of(below[top][0][len(top) :]):
        top = f"{below[top][0]}/"
    return top


def _has_splits(paths: Iterable[str], top: str, source: str) -> bool:
    names = {inside.partition("/")[0] for path in paths if "/" in (inside := path[len(top) :])}
    if not names:
        raise SourceError(f"{source}: no class folders with images found; {EXPECTED}")
    splits = {name for name in names if _split_of(name)}
    if splits and splits != names:
        beside = ", ".join(sorted(names - splits))
        raise SourceError(f"{source}: {beside} stands beside the splits {', '.join(sorted(splits))}; {EXPECTED}")
    return bool(splits)


def _split_of(folder: str) -> Split | None:
    return SPLIT_FOLDERS.get(folder.casefold())


def _entry(path: str, top: str, has_splits: bool, source: str) -> Entry:
    *folders, name = path[len(top) :].split("/")
    surplus = len(folders) - 1 - has_splits
    if surplus:
        place = "outside of the class folders" if surplus < 0 else "in a folder inside a class folder"
        raise SourceError(f"{source}: {path} lies {place}; {EXPECTED}")
    by_name = next((split for prefix, split in SPLIT_PREFIXES.items() if name.startswith(prefix)), None)
    return Entry(path, folders[-1], by_name or (_split_of(folders[0]) if has_splits else None))


def _check_folders(empty: Iterable[str], top: str, has_splits: bool, source: str) -> None:
    for folder in sorted(folder for folder in empty if folder.startswith(top)):
        parts = folder[len(top) :].split("/")
        foreign = has_splits and not _split_of(parts[0])
        if len(parts) <= 1 + has_splits and not foreign:
            raise SourceError(f"{source}: folder {folder} holds no image; add some or remove it")


def _check_labels(entries: Iterable[Entry], source: str) -> None:
    spellings: dict[str, Entry] = {}
    for entry in entries:
        key = unicodedata.normalize("NFC", entry.label).strip().casefold()
        first = spellings.setdefault(key, entry)
        if first.label != entry.label:
            raise SourceError(
                f"{source}: classes {first.label!r} ({first.path}) and {entry.label!r} ({entry.path}) differ only in "
                "case or spaces; rename one of the folders"
            )


def _report_side_files(others: Sequence[str], source: str) -> None:
    if others:
        shown = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
        print(f"warning: {source}: left out {len(others)} file(s) that are no images: {shown}", file=sys.stderr)


def _complete_splits(entries: list[Entry]) -> list[Entry]:
    # Images that someone added beside FER2013's own, without its prefixes, are there to be trained on.
    if not named_splits(entries):
        return entries
    return [Entry(entry.path, entry.label, entry.split or "train") for entry in entries]
