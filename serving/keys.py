"""The API keys that are let in; their file is read again when it changes, so that keys come and go without a restart.

keys = Keys(Path("keys.txt"))
keys.find(b"emo_...")        -> ApiKey, or none
"""

from __future__ import annotations

import logging
import time
from hmac import compare_digest
from pathlib import Path

from emotion_detection.api_keys import ApiKey, ApiKeyError, hash_key, parse_keys

log = logging.getLogger(__name__)
INTERVAL = 1.0
"""Seconds between two looks at the file."""


class Keys:
    """Keys from the file and from the environment. Belongs to one event loop."""

    def __init__(self, file: Path | None, given: str = "") -> None:
        """Args:
            file: a line for each key.
            given: more of them, with commas for line ends.

        Raises:
            ApiKeyError: a line is no key, or there is none at all.
        """
        self._file = file
        self._given = parse_keys(given.replace(",", "\n"), "EMOTION_API_KEYS")
        self._stamp = _stamp(self._file)
        self._accept(self._read())
        self._next_look = time.monotonic() + INTERVAL
        if not self._keys:
            raise ApiKeyError(f"{self._file or 'EMOTION_API_KEYS'} has no key; `emotion keys new` makes one")

    def find(self, presented: bytes) -> ApiKey | None:
        """The key that somebody shows, if it is one of ours and still valid.

        The hash is compared with every key's, each in constant time. What was found once is found by its hash from
        then on: only good keys are remembered, so nobody can fill the memory.
        """
        now = time.monotonic()
        if now > self._next_look:
            self._look(now)
        digest = hash_key(presented)
        key = self._found.get(digest) or self._search(digest)
        return key if key is not None and time.time() < key.ends else None

    def _search(self, digest: bytes) -> ApiKey | None:
        found = None
        for key in self._keys:
            if compare_digest(key.digest, digest):
                found = self._found[digest] = key
        return found

    def _look(self, now: float) -> None:
        self._next_look = now + INTERVAL
        stamp = _stamp(self._file)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._accept(self._read())
        except ApiKeyError as error:
            log.error("the API keys stay as they were: %s", error)
        else:
            log.info("%d API keys are let in now", len(self._keys))

    def _read(self) -> list[ApiKey]:
        if self._file is None:
            return []
        try:
            return parse_keys(self._file.read_text(), str(self._file))
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a text file"
            raise ApiKeyError(f"{self._file}: cannot be read ({reason}); `emotion keys new` makes its lines") from None

    def _accept(self, keys: list[ApiKey]) -> None:
        self._keys = [*keys, *self._given]
        self._found: dict[bytes, ApiKey] = {}


def _stamp(file: Path | None) -> tuple[int, int, int] | None:
    """Changes with the file; none where there is none."""
    try:
        status = file.stat() if file is not None else None
    except OSError:
        return None
    return status and (status.st_mtime_ns, status.st_size, status.st_ino)
