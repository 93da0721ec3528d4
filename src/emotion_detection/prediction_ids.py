"""Names of predictions that tell by themselves which model answered, and when: nothing is stored for it.

    7-2c26b46b-01932c07-209f-7b5e-8d3c-5a0c9f1e7b42      version 7 of the registry, whose bundle's digest starts so
    bundle-2c26b46b-01932c07-209f-...                    a server that was started from a bundle directory

    new_id("7-2c26b46b")           -> str
    parse_id(text)                 -> PredictionId, which `emotion trace` follows

The rest is a UUID of version 7 (RFC 9562): milliseconds since 1970, then random bits.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from random import getrandbits

DIGEST_LENGTH = 8
"""Characters of the bundle's digest: version numbers repeat from one registry to the next."""
_UUID7 = "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_ID = re.compile(rf"(?P<version>\d+|bundle)-(?P<digest>[0-9a-f]{{{DIGEST_LENGTH}}})-(?P<uuid>{_UUID7})")


@dataclass(frozen=True)
class PredictionId:
    """What the name of a prediction says."""

    version: str | None
    """In the registry; none where the server was started from a directory."""
    digest: str
    """Start of the digest of the bundle that answered."""
    answered_at: datetime
    """To the millisecond, UTC."""


def id_prefix(version: str, digest: str) -> str:
    """What all names of a model's predictions start with.

    Args:
        version: number in the registry; anything else stands for a bundle directory.
        digest: `BundleInfo.digest`.
    """
    return f"{version if version.isdecimal() else 'bundle'}-{digest[:DIGEST_LENGTH]}"


def new_id(prefix: str) -> str:
    """A name that was never given before; not a secret."""
    milliseconds, bits = time.time_ns() // 1_000_000, getrandbits(74)
    return (
        f"{prefix}-{milliseconds >> 16:08x}-{milliseconds & 0xFFFF:04x}-7{bits >> 62:03x}"
        f"-{0x8000 | (bits >> 48 & 0x3FFF):04x}-{bits & 0xFFFFFFFFFFFF:012x}"
    )


def parse_id(text: str) -> PredictionId | None:
    """Read a name; none where it is not the name of a prediction."""
    found = _ID.fullmatch(text.strip().lower())
    if found is None:
        return None
    milliseconds = int(found["uuid"].replace("-", "")[:12], 16)
    version = found["version"] if found["version"].isdecimal() else None
    return PredictionId(version, found["digest"], datetime.fromtimestamp(milliseconds / 1000, UTC))
