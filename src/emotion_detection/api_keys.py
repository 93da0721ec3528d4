"""API keys of the server: random, shown once, kept only as SHA-256.

    emotion keys new --name phone          prints the key, and the line for the file:
    phone sha256:4f0c... 2027-01-31        name, hash, and, if it is to end, the last day on which it is valid (UTC)

A key has 256 random bits: no list of likely keys can be tried against its hash, so neither a salt nor a slow hash
would add anything, and a hash costs the server half a microsecond.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from emotion_detection.errors import EmotionError

PREFIX = "emo_"
"""Begins every key, so that scanners for leaked secrets can be told about them."""
_LINE = re.compile(r"(?P<name>\S+)\s+sha256:(?P<digest>[0-9a-f]{64})(?:\s+(?P<last_day>\S+))?")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class ApiKeyError(EmotionError):
    """A file of API keys cannot be read, or a line of it is none."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key that is let in."""

    name: str
    digest: bytes
    """SHA-256 of the key, 32 bytes."""
    last_day: date | None = None

    def __str__(self) -> str:
        last_day = f" {self.last_day}" if self.last_day else ""
        return f"{self.name} sha256:{self.digest.hex()}{last_day}"

    @property
    def ends(self) -> float:
        """When it ceases to be valid, seconds since 1970."""
        if self.last_day is None:
            return float("inf")
        return datetime.combine(self.last_day + timedelta(days=1), time(), UTC).timestamp()


def hash_key(key: bytes) -> bytes:
    """SHA-256, 32 bytes."""
    return hashlib.sha256(key).digest()


def create_key(name: str, last_day: date | None = None) -> tuple[str, ApiKey]:
    """A new random key, and what is kept of it.

    Raises:
        ApiKeyError: the name has other characters than letters, digits, `.`, `_` and `-`, or more than 64.
    """
    key = PREFIX + secrets.token_urlsafe(32)
    return key, ApiKey(_checked_name(name), hash_key(key.encode()), last_day)


def parse_keys(text: str, where: str) -> list[ApiKey]:
    """Read lines as `create_key` makes them; empty ones and those that begin with `#` are left out.

    Args:
        where: what the text is called in messages.

    Raises:
        ApiKeyError: a line is none, or a name or key is there twice. No part of the line is in the message: it may be
            a key that somebody put there instead of its hash.
    """
    keys: list[ApiKey] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            keys.append(_parse_line(line.strip(), f"{where}, line {number}"))
    for field in ("name", "digest"):
        values = [getattr(key, field) for key in keys]
        if len(set(values)) < len(values):
            raise ApiKeyError(f"{where}: two lines have the same {'name' if field == 'name' else 'key'}")
    return keys


def _parse_line(line: str, where: str) -> ApiKey:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ApiKeyError(f"{where}: expected `NAME sha256:64 HEX DIGITS [LAST DAY]`, as `emotion keys new` prints it")
    try:
        last_day = date.fromisoformat(match["last_day"]) if match["last_day"] else None
    except ValueError:
        raise ApiKeyError(f"{where}: the last day is no date; write it as 2027-01-31") from None
    return ApiKey(_checked_name(match["name"], where), bytes.fromhex(match["digest"]), last_day)


def _checked_name(name: str, where: str = "name") -> str:
    if not _NAME.fullmatch(name):
        raise ApiKeyError(f"{where}: a key's name has 1 to 64 letters, digits, `.`, `_` or `-`")
    return name
