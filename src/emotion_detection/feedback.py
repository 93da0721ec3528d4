"""What people said of answers, and, where the operator wants it, the faces: one sqlite file that processes share.

    store = FeedbackStore(Path(".cache/feedback"), read_seal("KEY"))
    store.add(judgement, png)          Added.NEW; a second word on the same face is Added.SAME or Added.OTHER
    for judgement, png in store.faces(): ...
    store.delete(prediction_id), store.purge()

Each row says itself when its face and then the row are to go, so that whoever opens the file can see to it, with the
server's settings or without. What is deleted is overwritten with zeros (`secure_delete`), and the file shrinks.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import astuple, dataclass
from enum import Enum
from pathlib import Path

from emotion_detection.errors import FeedbackError
from emotion_detection.seal import KEY_VARIABLE, Seal

FILE = "feedback.db"
DIRECTORY = Path(".cache/feedback")
MAX_BYTES = 256_000_000
PATIENCE = 10.0
"""Seconds to wait for another process that writes."""
_SPARE_PAGES, _AT_A_TIME = 16, 16
"""When room is made: pages for the indices, and how many of the oldest rows go."""
_COLUMNS = "prediction_id, face, version, predicted, label, given_at, forget_at, keep_until"
_TABLE = """
    PRAGMA auto_vacuum = FULL; PRAGMA secure_delete = ON;
    CREATE TABLE IF NOT EXISTS feedback (
        prediction_id TEXT NOT NULL, face INTEGER NOT NULL, version TEXT NOT NULL, predicted TEXT NOT NULL,
        label TEXT NOT NULL, given_at REAL NOT NULL, forget_at REAL NOT NULL, keep_until REAL,
        sealed INTEGER NOT NULL, image BLOB, UNIQUE (prediction_id, face));
    CREATE INDEX IF NOT EXISTS kept ON feedback (keep_until);
    CREATE INDEX IF NOT EXISTS forgotten ON feedback (forget_at);
"""


class Added(Enum):
    """What became of a word on a face."""

    NEW = "new"
    SAME = "same"
    """It had been said before."""
    OTHER = "other"
    """Something else had been said before, and stays."""


@dataclass(frozen=True)
class Judgement:
    """What somebody said of one face of an answer. Times are seconds since 1970."""

    prediction_id: str
    face: int
    """0 is the largest."""
    version: str
    """Of the model that answered."""
    predicted: str
    label: str
    """What it is; empty once it has been deleted."""
    given_at: float
    forget_at: float
    """From when nobody needs to know any more that it was judged."""
    keep_until: float | None = None
    """Until when its face is kept; none: no face is."""


class FeedbackStore:
    """Opens the file for each operation: threads and processes may use it as they like.

    Where it cannot be used, every operation raises FeedbackError.
    """

    def __init__(self, directory: Path, seal: Seal | None = None, max_bytes: int = MAX_BYTES) -> None:
        """Args:
        directory: made, for its owner alone, with the first write.
        seal: with which faces are encrypted; none: they are not.
        max_bytes: size of the file; where it would be exceeded the oldest rows go.
        """
        self.file = store_file(directory)
        self._seal, self._max_bytes = seal, max_bytes

    def create(self) -> None:
        """Make the file, if it is not there yet."""
        with self._writing():
            pass

    def add(self, judgement: Judgement, image: bytes | None = None) -> Added:
        """Write down the first word on a face.

        Args:
            image: PNG of the face, where it is to be kept; `judgement.keep_until` says for how long.
        """
        sealed = self._seal.encrypt(image) if image and self._seal else image
        with self._writing() as db:
            self._make_room(db, len(sealed or b""))
            values = (*astuple(judgement), sealed is not image, sealed)
            insert = f"INSERT OR IGNORE INTO feedback ({_COLUMNS}, sealed, image) VALUES (?,?,?,?,?,?,?,?,?,?)"  # noqa: S608
            if db.execute(insert, values).rowcount:
                return Added.NEW
            where = "SELECT label FROM feedback WHERE prediction_id = ? AND face = ?"
            [said] = db.execute(where, (judgement.prediction_id, judgement.face)).fetchone()
            return Added.SAME if said == judgement.label else Added.OTHER

    def delete(self, prediction_id: str | None = None) -> int:
        """Delete what was said of an answer, and its faces; none: of all answers.

        That it was judged is remembered until `forget_at`, so that it is not counted twice.

        Returns:
            Number of faces whose judgement was deleted.
        """
        if not self.file.exists():
            return 0
        emptied = "UPDATE feedback SET image = NULL, keep_until = NULL, label = '', predicted = '' WHERE label != ''"
        with self._writing() as db:
            if prediction_id is None:
                return db.execute(emptied).rowcount
            return db.execute(f"{emptied} AND prediction_id = ?", (prediction_id,)).rowcount

    def purge(self, longest: float | None = None) -> int:
        """Delete all whose time is over.

        Args:
            longest: seconds that faces may be kept now, where they were to be kept for longer.

        Returns:
            Number of faces that are no longer kept.
        """
        if not self.file.exists():
            return 0
        now = time.time()
        gone = "UPDATE feedback SET image = NULL, keep_until = NULL WHERE keep_until <= ?"
        with self._writing() as db:
            if longest is not None:
                shorter = "UPDATE feedback SET keep_until = given_at + :most WHERE keep_until > given_at + :most"
                db.execute(shorter, {"most": longest})
            count = db.execute(gone, (now,)).rowcount
            db.execute("DELETE FROM feedback WHERE keep_until IS NULL AND forget_at <= ?", (now,))
        return count

    def judgements(self) -> list[Judgement]:
        """What is known and not deleted, oldest first."""
        with self._reading() as db:
            found = db.execute(f"SELECT {_COLUMNS} FROM feedback WHERE label != '' ORDER BY rowid")  # noqa: S608
            return [Judgement(*row) for row in found]

    def faces(self) -> Iterator[tuple[Judgement, bytes]]:
        """All kept faces with their PNG, in the order of prediction id and face.

        Raises:
            FeedbackError: one is encrypted, and its key is not given.
        """
        with self._reading() as db:
            ask = f"SELECT sealed, image, {_COLUMNS} FROM feedback {_KEPT} ORDER BY prediction_id, face"  # noqa: S608
            for sealed, image, *row in db.execute(ask, (time.time(),)):
                judgement = Judgement(*row)
                yield judgement, self._opened(image, judgement) if sealed else image

    def kept(self) -> tuple[int, str]:
        """Number of kept faces, and a digest that changes whenever `faces` would give something else."""
        digest, count = hashlib.sha256(), 0
        with self._reading() as db:
            ask = f"SELECT prediction_id, face, label FROM feedback {_KEPT} ORDER BY prediction_id, face"  # noqa: S608
            for row in db.execute(ask, (time.time(),)):
                digest.update(repr(row).encode())
                count += 1
        return count, digest.hexdigest()

    def size(self) -> tuple[int, int]:
        """Number of kept faces, and bytes of the file; zeros where there is none."""
        if not self.file.exists():
            return 0, 0
        with self._reading() as db:
            [count] = db.execute("SELECT count(*) FROM feedback WHERE keep_until IS NOT NULL").fetchone()
        return count, self.file.stat().st_size

    def _opened(self, image: bytes, judgement: Judgement) -> bytes:
        found = self._seal.decrypt(image) if self._seal else None
        if found is not None:
            return found
        raise FeedbackError(
            f"{self.file}: the face of {judgement.prediction_id} is encrypted with another key than {KEY_VARIABLE} "
            "has; name the key that the server had then, old ones after the new one with commas between them"
        )

    def _make_room(self, db: sqlite3.Connection, size: int) -> None:
        def pages(name: str) -> int:
            return int(db.execute(f"PRAGMA {name}").fetchone()[0])

        page = pages("page_size")
        most = self._max_bytes // page - size // page - _SPARE_PAGES
        oldest = "DELETE FROM feedback WHERE rowid IN (SELECT rowid FROM feedback ORDER BY rowid LIMIT ?)"
        while pages("page_count") - pages("freelist_count") > most:
            if db.execute(oldest, (_AT_A_TIME,)).rowcount == 0:
                return

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._usable():
            if not self.file.exists():
                self._create_empty()
            with closing(sqlite3.connect(self.file, timeout=PATIENCE, isolation_level="IMMEDIATE")) as db:
                db.executescript(_TABLE)
                db.execute("BEGIN IMMEDIATE")
                with db:
                    yield db

    def _create_empty(self) -> None:
        # For its owner alone; one that is there only sqlite opens: closing it ends the locks of other threads.
        self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, path = tempfile.mkstemp(dir=self.file.parent)
        os.close(descriptor)
        with suppress(FileExistsError):
            os.link(path, self.file)
        Path(path).unlink()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        if not self.file.is_file():
            raise FeedbackError(f"{self.file}: no feedback is there; a server writes it with the first that it gets")
        with (
            self._usable(),
            closing(sqlite3.connect(f"{self.file.absolute().as_uri()}?mode=ro", timeout=PATIENCE, uri=True)) as db,
        ):
            yield db

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise FeedbackError(f"{self.file}: {error}; make it writable, or name another directory") from None


_KEPT = "WHERE keep_until > ?"


def store_file(path: Path) -> Path:
    """The file of a store, which may be named itself or by its directory."""
    path = path.expanduser()
    return path if path.suffix == ".db" else path / FILE
