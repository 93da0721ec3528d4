"""What has been asked of the target and what came of it, in an sqlite file: no end of the process loses it.

A dispatch goes through these states, each step a transaction of its own:

    (none) --claim--> sending --sent--> done, or running where the target tells of an end
                      sending --release--> (none)     it surely did not arrive: the next notification starts afresh
                      sending --unclear--> sending    perhaps it arrived: whoever comes after `lease` must look
    running --ended--> done
            --release--> (none)                       it was interrupted
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Verdict = Literal["claimed", "unclear", "in-progress", "duplicate", "cooling-down", "paused"]
KEEP = 90 * 86_400.0
"""Seconds after which a dispatch is forgotten; Alertmanager has long stopped to repeat it."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS dispatches (
  incident TEXT PRIMARY KEY, state TEXT NOT NULL, claimed REAL NOT NULL, lease REAL NOT NULL, sent REAL
) STRICT;
CREATE TABLE IF NOT EXISTS alerts (
  key TEXT PRIMARY KEY, incident TEXT NOT NULL REFERENCES dispatches ON DELETE CASCADE
) STRICT;
CREATE TABLE IF NOT EXISTS pauses (target TEXT PRIMARY KEY, until REAL NOT NULL) STRICT;
"""


@dataclass(frozen=True)
class Claim:
    """What is to be done about some alerts."""

    verdict: Verdict
    """claimed: send it; unclear: look whether `incident` has arrived, note it, and claim again; otherwise leave it."""
    incident: str = ""
    wait: float = 0.0
    """Seconds until it is worth asking again."""
    since: float = 0.0
    """When it was claimed, seconds since 1970."""


class Store:
    """The file. Threads and processes may share it."""

    def __init__(self, path: Path) -> None:
        """Open or make it.

        Raises:
            sqlite3.Error: it cannot be.
        """
        self._path = path
        with closing(self._connect()) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.executescript(_SCHEMA)

    def claim(self, keys: Sequence[str], now: float, cooldown: float, lease: float) -> Claim:
        """Decide who sends what, at most one at a time.

        Args:
            keys: of alerts, at least one.
            now: seconds since 1970.
            cooldown: seconds after a dispatch in which there is no other.
            lease: seconds for which a claim is nobody else's.
        """
        with self._transaction() as rows:
            rows.execute("DELETE FROM dispatches WHERE state = 'done' AND claimed < ?", (now - KEEP,))
            return (
                _claim_open(rows, now, lease)
                or _known(rows, keys)
                or _waiting(rows, now, cooldown)
                or _claim_new(rows, keys, now, lease)
            )

    def sent(self, incident: str, when: float, running: bool) -> None:
        """Note that the target has it.

        Args:
            when: seconds since 1970; the cooldown starts here.
            running: the target will tell of its end.
        """
        state = "running" if running else "done"
        self._update("UPDATE dispatches SET state = ?, sent = ? WHERE incident = ?", state, when, incident)

    def unclear(self, incident: str, until: float) -> None:
        """Note that the target may have it; from `until` on one can look."""
        self._update("UPDATE dispatches SET lease = ? WHERE incident = ?", until, incident)

    def release(self, incident: str) -> None:
        """Forget a dispatch that did not come about."""
        self._update("DELETE FROM dispatches WHERE incident = ?", incident)

    def ended(self, incident: str, succeeded: bool) -> None:
        """Note the end of a command. Where it failed its alerts may ask for another one, after the cooldown."""
        self._update("UPDATE dispatches SET state = 'done' WHERE incident = ?", incident)
        if not succeeded:
            self._update("DELETE FROM alerts WHERE incident = ?", incident)

    def pause(self, until: float) -> None:
        """Leave the target alone until then, seconds since 1970."""
        self._update("INSERT OR REPLACE INTO pauses VALUES ('', ?)", until)

    def running(self) -> list[str]:
        """Dispatches whose end is not known."""
        with closing(self._connect()) as connection:
            return [row[0] for row in connection.execute("SELECT incident FROM dispatches WHERE state = 'running'")]

    def last_sent(self) -> float:
        """When something was sent last, seconds since 1970; 0: never."""
        with closing(self._connect()) as connection:
            return _last_sent(connection)

    def _update(self, statement: str, *values: object) -> None:
        with self._transaction() as rows:
            rows.execute(statement, values)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with closing(self._connect()) as connection:
            connection.execute("BEGIN IMMEDIATE")  # nobody else reads, decides and writes at the same time
            with connection:
                yield connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=10, isolation_level=None)
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA synchronous=FULL")  # what is noted survives a power cut, too
        return connection


def _claim_open(rows: sqlite3.Connection, now: float, lease: float) -> Claim | None:
    row = rows.execute("SELECT incident, claimed, lease FROM dispatches WHERE state = 'sending'").fetchone()
    if row is None:
        return None
    incident, claimed, until = row
    if until > now:
        return Claim("in-progress", incident, wait=until - now)
    rows.execute("UPDATE dispatches SET lease = ? WHERE incident = ?", (now + lease, incident))
    return Claim("unclear", incident, since=claimed)


def _claim_new(rows: sqlite3.Connection, keys: Sequence[str], now: float, lease: float) -> Claim:
    incident = hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()[:16]
    rows.execute("INSERT OR REPLACE INTO dispatches VALUES (?, 'sending', ?, ?, NULL)", (incident, now, now + lease))
    rows.executemany("INSERT OR REPLACE INTO alerts VALUES (?, ?)", [(key, incident) for key in keys])
    return Claim("claimed", incident, since=now)


def _known(rows: sqlite3.Connection, keys: Sequence[str]) -> Claim | None:
    marks = ",".join("?" * len(keys))
    found = dict(rows.execute(f"SELECT key, incident FROM alerts WHERE key IN ({marks})", keys).fetchall())  # noqa: S608
    return Claim("duplicate", found[keys[0]]) if len(found) == len(set(keys)) else None


def _waiting(rows: sqlite3.Connection, now: float, cooldown: float) -> Claim | None:
    left = _last_sent(rows) + cooldown - now
    if left > 0:
        return Claim("cooling-down", "", wait=left)
    (until,) = rows.execute("SELECT coalesce(max(until), 0) FROM pauses").fetchone()
    return Claim("paused", "", wait=until - now) if until > now else None


def _last_sent(rows: sqlite3.Connection) -> float:
    (sent,) = rows.execute("SELECT coalesce(max(sent), 0) FROM dispatches").fetchone()
    return float(sent)
