"""Encryption of the faces that are kept: Fernet, which is AES-128 in CBC mode with HMAC-SHA256.

    seal = read_seal("NEW_KEY,OLD_KEY")        # or seal_of_environment()
    seal.encrypt(png); seal.decrypt(token)

`emotion feedback key` makes a key. The first one encrypts, all of them decrypt.
"""

from __future__ import annotations

import os

from emotion_detection.errors import FeedbackError

KEY_VARIABLE = "EMOTION_FEEDBACK_KEY"


class Seal:
    """Some keys."""

    def __init__(self, keys: list[str]) -> None:
        """Raises:
        FeedbackError: one is no key; it is not in the message.
        """
        from cryptography.fernet import Fernet, MultiFernet  # noqa: PLC0415  (who keeps no faces needs none of it)

        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys])
        except ValueError:
            text = "expected keys as `emotion feedback key` makes them, 44 characters, with commas between them"
            raise FeedbackError(f"{KEY_VARIABLE}: {text}") from None

    def encrypt(self, data: bytes) -> bytes:
        return self._fernet.encrypt(data)

    def decrypt(self, token: bytes) -> bytes | None:
        """What was encrypted; none where that was with another key."""
        from cryptography.fernet import InvalidToken  # noqa: PLC0415

        try:
            return self._fernet.decrypt(token)
        except InvalidToken:
            return None


def read_seal(keys: str) -> Seal | None:
    """The keys in a text, with commas between them; none where there is none.

    Raises:
        FeedbackError: one is no key.
    """
    given = [key.strip() for key in keys.split(",") if key.strip()]
    return Seal(given) if given else None


def seal_of_environment() -> Seal | None:
    """As `read_seal`, of the variable that the server reads as well."""
    return read_seal(os.environ.get(KEY_VARIABLE, ""))
