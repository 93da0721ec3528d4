"""What a target is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from monitoring.retrain.payload import Alert

End = Literal["succeeded", "failed", "interrupted", "unknown"]
Ended = Callable[[str, End, str], None]
"""Is told of an end: incident, how, and what a person should know."""


@dataclass(frozen=True)
class Order:
    """A retraining."""

    incident: str
    """Its name: the same whenever the same alerts ask for it."""
    alerts: list[Alert]
    """Why; at least one, the oldest first."""
    group: str = ""
    """Alertmanager's key of their group."""
    source: str = ""
    """URL of that Alertmanager."""


class Target(Protocol):
    """Retrains, or has it done."""

    name: str
    running: bool
    """Whether it tells of the end of what it was sent."""

    def attach(self, running: Sequence[str], ended: Ended) -> None:
        """Begin.

        Args:
            running: incidents whose end was not seen before the last webhook ended.
            ended: to be called in another thread than `send`.
        """

    def describe(self) -> str:
        """What `send` does, in a line."""

    def send(self, order: Order) -> None:
        """Start a retraining.

        Raises:
            TargetError: it did not start; Unclear: nobody knows.
        """

    def arrived(self, incident: str, since: float, /) -> bool:
        """Whether it was started; only asked where `send` was unclear.

        Raises:
            TargetError: that cannot be found out.
        """

    def close(self) -> None:
        """End what should not go on without the webhook."""


class DryRun:
    """Only says what another target would do."""

    running = False

    def __init__(self, real: Target) -> None:
        self._real, self.name = real, "dry-run"

    def attach(self, running: Sequence[str], ended: Ended) -> None:
        """Nothing ever runs."""

    def describe(self) -> str:
        return f"would {self._real.describe()}"

    def send(self, order: Order) -> None:
        """Nothing."""

    def arrived(self, _incident: str, _since: float, /) -> bool:
        """Nothing ever does."""
        return False

    def close(self) -> None:
        """Nothing to end."""
