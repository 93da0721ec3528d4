"""The settings that say what becomes of people's word on an answer; part of `settings.Settings`."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, CliImplicitFlag, CliSuppress, SettingsConfigDict

from emotion_detection.errors import FeedbackError
from emotion_detection.feedback import DIRECTORY, FeedbackStore
from emotion_detection.seal import read_seal


class FeedbackSettings(BaseSettings):
    """Whether people may judge answers, and whether their faces are then kept."""

    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    feedback: Literal["off", "count", "keep"] = "count"
    """What `POST /feedback` does: `count` how often answers are right, and store no image; `keep` the face as well, so
    that the next model can learn from it (docs/privacy.md); `off`: there is no such path."""
    feedback_directory: Path = DIRECTORY
    """Where feedback is kept, in a file that several processes share."""
    feedback_hours: float = Field(1.0, gt=0, le=24 * 366)
    """How long after an answer it may be judged; with `keep`, its faces wait in memory for that, and no longer."""
    feedback_days: float = Field(30.0, gt=0)
    """How long a face is kept; then it is deleted, with what was said of it."""
    feedback_encrypt: CliImplicitFlag[bool] = True
    """Encrypt the faces that are kept; that takes EMOTION_FEEDBACK_KEY."""
    feedback_megabytes: float = Field(256.0, ge=1)
    """Largest size of the file; where it would be exceeded, the oldest feedback is deleted."""
    feedback_waiting_megabytes: float = Field(32.0, ge=0)
    """Memory for the faces of the last answers, which nobody has judged yet; with `keep` only."""
    feedback_key: CliSuppress[SecretStr | None] = None
    """Key of `emotion feedback key`, from the environment only; old ones after a comma, so that they still decrypt."""
    feedback_secret: CliSuppress[SecretStr] = Field(
        default_factory=lambda: SecretStr(secrets.token_urlsafe(32)), min_length=16
    )
    """What prediction ids are signed with, from the environment only, the same for all servers behind one address; by
    default another one after each start, so that answers from before it can no longer be judged."""

    @model_validator(mode="after")
    def _faces_are_encrypted_or_said_not_to_be(self) -> FeedbackSettings:
        try:
            seal = read_seal(self.feedback_keys)
        except FeedbackError as error:
            raise ValueError(str(error)) from None
        if self.feedback == "keep" and self.feedback_encrypt and seal is None:
            raise ValueError(
                "feedback keep encrypts faces, and there is no key: put one of `emotion feedback key` into "
                "EMOTION_FEEDBACK_KEY, or say with EMOTION_FEEDBACK_ENCRYPT=false that they may lie there as they are"
            )
        return self

    @property
    def feedback_keys(self) -> str:
        """`feedback_key` as text, empty without."""
        return self.feedback_key.get_secret_value() if self.feedback_key else ""

    def open_feedback(self) -> FeedbackStore:
        """The file of the feedback."""
        seal = read_seal(self.feedback_keys) if self.feedback_encrypt else None
        return FeedbackStore(self.feedback_directory, seal, round(1e6 * self.feedback_megabytes))
