"""Why a retraining was not started; all of them are told to Alertmanager, which tries again.

EmotionError
  SettingsError       an environment variable or option has a wrong name or value
  TargetError         the target did not start a retraining
    Unclear             it may have, or not: nobody answered in time
"""

from __future__ import annotations

from emotion_detection.errors import EmotionError

REASONS = ("network", "server", "rate-limited", "unauthorized", "forbidden", "not-found", "refused", "command", "busy")
"""`TargetError.reason`, and label of the metric."""


class SettingsError(EmotionError):
    """An environment variable or option has a wrong name or value."""


class TargetError(EmotionError):
    """The target did not start a retraining."""

    def __init__(self, reason: str, message: str, pause: float = 0.0) -> None:
        """Args:
        reason: one of `REASONS`.
        pause: seconds for which the target is not asked again.
        """
        super().__init__(message)
        self.reason, self.pause = reason, pause


class Unclear(TargetError):
    """The target may have started a retraining, or not; it is asked before it is told again."""
