"""What `data.source`, `data.votes` and `data.feedback` hold now, in one small file that DVC can depend on.

    update_fingerprint(SOURCE, params.data, params.seed)

DVC cannot depend on "a path, or the word synthetic, or kaggle:owner/name", so a stage that always runs writes
data/source.json, and ingest depends on that. It runs before every `dvc repro`, so it must cost next to nothing:
heavy imports stand where they are needed, and each file is hashed once.
"""

# ruff: noqa: PLC0415

from __future__ import annotations

import hashlib
import json
import sqlite3
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from os import stat_result
from pathlib import Path
from typing import Any, TypeVar

from emotion_detection.artifacts import FileFingerprint, Record, SourceFingerprint, read_record, write_record
from emotion_detection.data.sources import SYNTHETIC, find_path, format_of, is_kaggle
from emotion_detection.data.sources.directory import walk
from emotion_detection.data.sources.layout import text_of
from emotion_detection.errors import ArtifactError, SourceError
from emotion_detection.params import DataParams

STATE = Path(".cache/fingerprint")
T = TypeVar("T")
RecordType = TypeVar("RecordType", bound=Record)


def update_fingerprint(path: Path, data: DataParams, seed: int) -> SourceFingerprint:
    """Write the fingerprint of `data.source`, `data.votes` and `data.feedback` to `path`, unless it is there already.

    Where one of them is not on this machine, but `path` describes it (a clone that pulled only the artifacts), that
    stays, with a warning: the pipeline can still be reproduced from what DVC keeps.

    Raises:
        SourceError: one of them is missing and never was described, or it is unreadable.
        ArtifactError: `path` cannot be written.
    """
    known = _known(path, SourceFingerprint)
    same_source = known if known and known.source == data.source else None
    same_votes = known.votes if known and known.votes and known.votes.file == data.votes else None
    found = _recorded(same_source, lambda: fingerprint(data, seed), _is_here(data.source), path)
    votes = _recorded_file(same_votes, data.votes, "data.votes", path) if data.votes else None
    feedback = _recorded_feedback(known, data.feedback, path) if data.feedback else None
    found = found.model_copy(update={"votes": votes, "feedback": feedback})
    if found != known:
        write_record(path, found)
    return found


def fingerprint(data: DataParams, seed: int) -> SourceFingerprint:
    """Digest of what decides the images of a source.

    That is the content of files (MD5, as DVC has it), the version of a data set on Kaggle, or the parameters of the
    synthetic one.

    Raises:
        SourceError: the source is missing or unreadable, or Kaggle cannot be asked.
    """
    if data.source == SYNTHETIC:
        return _synthetic(data, seed)
    if is_kaggle(data.source):
        from emotion_detection.data.sources.kaggle import current_version

        version = f"version {current_version(data.source)}"
        return SourceFingerprint(source=data.source, kind="kaggle", digest=version, files=0, size=0)
    return _local(data.source, find_path(data.source))


def update_file_fingerprint(path: Path, file: str, key: str) -> FileFingerprint:
    """As `update_fingerprint`, for a single file that the parameter `key` names, or none where it is empty."""
    known = _known(path, FileFingerprint)
    same = known if known and known.file == file else None
    found = _recorded_file(same, file, key, path) if file else FileFingerprint(file="", digest="")
    if found != known:
        write_record(path, found)
    return found


def file_fingerprint(file: str, key: str) -> FileFingerprint:
    """Digest of the file that the parameter `key` names.

    Raises:
        SourceError: it is missing or unreadable.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise SourceError(f"{key}: {file}: no such file; name one that is there, or set it to '' for none")
    [digest] = file_hashes([(str(path.absolute()), path.stat())])
    return FileFingerprint(file=file, digest=digest)


def feedback_fingerprint(path: str) -> FileFingerprint:
    """Digest of the faces that a store of feedback keeps; what else changes in its file does not matter.

    Raises:
        SourceError: it is missing or no such store.
    """
    from emotion_detection.data.sources.feedback import FeedbackSource

    return FileFingerprint(file=path, digest=FeedbackSource(Path(path)).digest)


def _known(path: Path, kind: type[RecordType]) -> RecordType | None:
    try:
        return read_record(path, kind)
    except ArtifactError:
        return None


def _recorded_file(known: FileFingerprint | None, file: str, key: str, path: Path) -> FileFingerprint:
    return _recorded(known, lambda: file_fingerprint(file, key), Path(file).expanduser().exists(), path)


def _recorded_feedback(known: SourceFingerprint | None, feedback: str, path: Path) -> FileFingerprint:
    same = known.feedback if known and known.feedback and known.feedback.file == feedback else None
    return _recorded(same, lambda: feedback_fingerprint(feedback), Path(feedback).expanduser().exists(), path)


def _recorded(known: T | None, look: Callable[[], T], here: bool, path: Path) -> T:
    """What is found now, or what `path` has of something that is not on this machine."""
    try:
        return look()
    except SourceError as error:
        if known is None or here:
            raise
        print(f"warning: {error}; going on with the data recorded in {path}", file=sys.stderr)
        return known


def _is_here(source: str) -> bool:
    return source == SYNTHETIC or Path(source).expanduser().exists()


def _synthetic(data: DataParams, seed: int) -> SourceFingerprint:
    decisive = {"synthetic": data.synthetic.model_dump(), "split": data.split.model_dump(), "seed": seed}
    digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
    return SourceFingerprint(source=data.source, kind=SYNTHETIC, digest=digest, files=data.synthetic.count, size=0)


def _local(source: str, path: Path) -> SourceFingerprint:
    found = format_of(path)
    if found == "directory":
        files, _ = walk(path)
        root = path.absolute()
        hashes = file_hashes((f"{root}/{name}", status) for name, status in files)
        lines = "".join(f"{md5} {name}\n" for md5, (name, _) in zip(hashes, files, strict=True))
        digest = hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()
        size = sum(status.st_size for _, status in files)
        return SourceFingerprint(source=source, kind=found, digest=digest, files=len(files), size=size)
    if found == "feedback":
        from emotion_detection.data.sources.feedback import FeedbackSource

        faces = FeedbackSource(path)  # the size of its file says nothing of them
        return SourceFingerprint(source=source, kind=found, digest=faces.digest, files=len(faces), size=0)
    [digest] = file_hashes([(str(path.absolute()), path.stat())])
    kind = "fer_csv" if found == "fer_csv" else "archive"
    return SourceFingerprint(source=source, kind=kind, digest=digest, files=1, size=path.stat().st_size)


def file_hashes(files: Iterable[tuple[str, stat_result]], algorithm: str = "md5") -> list[str]:
    """Digest of each file, in order; those whose size, time and inode are as before are not read again.

    DVC's class for this is used with a folder of our own. Its instance in `dvc.repo.Repo` would cost half a second more
    to import, and needs a DVC repository, while a fingerprint does not.
    """
    from dvc_data.hashfile.hash import hash_file
    from dvc_data.hashfile.state import State
    from dvc_objects.fs.local import localfs

    infos: dict[str, dict[str, Any]] = {  # a database takes text only, and a file name may be any bytes
        text_of(path): {"name": path, "type": "file", "ino": at.st_ino, "mtime": at.st_mtime, "size": at.st_size}
        for path, at in files
    }
    try:
        with closing(State(str(Path.cwd()), str(STATE.absolute()))) as state:
            hashes: dict[str, Any] = {
                key: found for key, _, found in state.get_many(infos, localfs, infos) if _is(found, algorithm)
            }
            missing = [(key, info) for key, info in infos.items() if key not in hashes]
            fresh = [
                (key, hash_file(info["name"], localfs, algorithm, info=info)[1], info) for key, info in _shown(missing)
            ]
            state.save_many(fresh, localfs)
    except sqlite3.Error as error:
        raise ArtifactError(f"{STATE}: {error}; remove it, it is only a cache") from None
    except OSError as error:
        raise SourceError(f"{error.filename or STATE}: {error.strerror}; make it readable") from None
    hashes |= {key: found for key, found, _ in fresh}
    return [str(hashes[key].value) for key in infos]


def _is(found: Any, algorithm: str) -> bool:
    return found is not None and found.name == algorithm


def _shown(files: Sequence[T]) -> Iterable[T]:
    if len(files) < 2:
        return files
    from rich.console import Console
    from rich.progress import track

    return track(files, "fingerprint", console=Console(stderr=True))
