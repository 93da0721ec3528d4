"""Names of predictions that tell by themselves which model answered, when, and what: nothing is stored for it.

    7-2c26b46b-01932c07-209f-7b5e-8d3c-5a0c9f1e7b42      version 7 of the registry, whose bundle's digest starts so
    bundle-2c26b46b-01932c07-209f-...                    a server that was started from a bundle directory
    7-2c26b46b-01932c07-...-5a0c9f1e7b42-0300-9f86d081884c7d65      it saw class 3 in one face and class 0 in another

    PredictionIds("7-2c26b46b", secret).of([3, 0])       -> str
    parse_id(text)                                       -> PredictionId, which `emotion trace` follows
    is_marked(text, secret)                              whether that server gave this name

What stands in the middle is a UUID of version 7 (RFC 9562): milliseconds since 1970, then random bits. The mark at the
end is keyed BLAKE2s (RFC 7693) over all before it: 64 bits, so that nobody can claim answers that were never given.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2s, sha256
from hmac import compare_digest
from random import getrandbits

DIGEST_LENGTH = 8
"""Characters of the bundle's digest: version numbers repeat from one registry to the next."""
MOST_FACES, MOST_CLASSES = 32, 256
"""Faces that a name tells of, the first ones; and classes that it can tell apart."""
_MARK_BYTES = 8
_END = 250_000_000_000_000
"""Milliseconds since 1970, in the year 9892: what comes later is no time at which anybody answered."""
_UUID7 = "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_SEEN = rf"-(?P<faces>(?:[0-9a-f]{{2}}){{1,{MOST_FACES}}})-[0-9a-f]{{{2 * _MARK_BYTES}}}"
_ID = re.compile(rf"(?P<version>\d+|bundle)-(?P<digest>[0-9a-f]{{{DIGEST_LENGTH}}})-(?P<uuid>{_UUID7})(?:{_SEEN})?")


@dataclass(frozen=True)
class PredictionId:
    """What the name of a prediction says."""

    version: str | None
    """In the registry; none where the server was started from a directory."""
    digest: str
    """Start of the digest of the bundle that answered."""
    answered_at: datetime
    """To the millisecond, UTC."""
    predicted: tuple[int, ...] = ()
    """Class seen in each face, largest face first; none where the name does not tell."""

    @property
    def prefix(self) -> str:
        """As `id_prefix` gave it."""
        return f"{self.version or 'bundle'}-{self.digest}"


class PredictionIds:
    """Names the predictions of one model."""

    def __init__(self, prefix: str, secret: bytes | None = None) -> None:
        """Args:
        prefix: as `id_prefix` gives it.
        secret: for the mark, as `mark_key` gives it; none: names tell nothing of what was seen.
        """
        self._prefix, self._secret = prefix, secret

    def of(self, predicted: Sequence[int]) -> str:
        """A name that was never given before.

        Args:
            predicted: class of each face, below `MOST_CLASSES`; what comes after `MOST_FACES` is left out.
        """
        name = new_id(self._prefix)
        if self._secret is None or not predicted:
            return name
        told = f"{name}-{bytes(predicted[:MOST_FACES]).hex()}"
        return f"{told}-{_mark(told, self._secret)}"


def mark_key(secret: str) -> bytes:
    """The key of the marks, 32 bytes, out of a secret of any length."""
    return sha256(b"prediction ids " + secret.encode()).digest()


def is_marked(name: str, secret: bytes) -> bool:
    """Whether a name in its normal form was given with this secret."""
    told, _, mark = name.rpartition("-")
    return compare_digest(mark.encode(), _mark(told, secret).encode())


def normal_form(text: str) -> str:
    """A copied name as it was given."""
    return text.strip().lower()


def id_prefix(version: str, digest: str) -> str:
    """What all names of a model's predictions start with.

    Args:
        version: number in the registry; anything else stands for a bundle directory.
        digest: `BundleInfo.digest`.
    """
    return f"{version if version.isdecimal() else 'bundle'}-{digest[:DIGEST_LENGTH]}"


def new_id(prefix: str) -> str:
    """A name that was never given before, without what was seen; not a secret."""
    milliseconds, bits = time.time_ns() // 1_000_000, getrandbits(74)
    uuid = milliseconds << 80 | 7 << 76 | bits >> 62 << 64 | 0b10 << 62 | bits & (1 << 62) - 1
    digits = uuid.to_bytes(16).hex()
    return f"{prefix}-{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def parse_id(text: str) -> PredictionId | None:
    """Read a name; none where it is not the name of a prediction. Its mark is not looked at."""
    found = _ID.fullmatch(normal_form(text))
    if found is None:
        return None
    milliseconds = int(found["uuid"].replace("-", "")[:12], 16)
    if milliseconds >= _END:
        return None
    version = found["version"] if found["version"].isdecimal() else None
    answered_at = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return PredictionId(version, found["digest"], answered_at, tuple(bytes.fromhex(found["faces"] or "")))


def _mark(told: str, secret: bytes) -> str:
    return blake2s(told.encode(), digest_size=_MARK_BYTES, key=secret).hexdigest()
