"""The webhook's own metrics; all series stand at zero from the start.

curl -s 127.0.0.1:9095/metrics
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

from monitoring.retrain.errors import REASONS

DECISIONS = ("ignored", "duplicate", "cooling-down", "in-progress", "paused", "dispatched", "failed")
"""What may become of a notification."""
REJECTIONS = ("unauthorized", "unsupported-body", "too-large", "invalid", "incomplete")
"""Why a notification is not even looked at."""
ENDS = ("succeeded", "failed", "interrupted", "unknown")
"""How a command may end; unknown: a webhook that was restarted did not see it."""


class Metrics:
    """The metrics of one webhook, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        counter, gauge = partial(Counter, registry=self.registry), partial(Gauge, registry=self.registry)
        self.received = counter("emotion_retrain_notifications", "Notifications of Alertmanager that were understood")
        decisions = counter("emotion_retrain_decisions", "What became of them", ["decision"])
        self._decisions = {decision: decisions.labels(decision) for decision in DECISIONS}
        rejections = counter("emotion_retrain_rejected", "Requests that were not understood", ["reason"])
        self._rejections = {reason: rejections.labels(reason) for reason in REJECTIONS}
        failures = counter("emotion_retrain_failures", "Retrainings that could not be started", ["reason"])
        self._failures = {reason: failures.labels(reason) for reason in REASONS}
        ends = counter("emotion_retrain_commands_ended", "Commands that have ended", ["result"])
        self._ends = {result: ends.labels(result) for result in ENDS}
        self._running = gauge("emotion_retrain_commands_running", "Commands that run now")
        self._last = gauge("emotion_retrain_last_dispatch_timestamp_seconds", "When, seconds since 1970; 0: never")
        self._left = gauge("emotion_retrain_cooldown_seconds", "For so long there will be no other retraining")

    def watch(self, last: Callable[[], float], left: Callable[[], float], running: Callable[[], float]) -> None:
        """Have the gauges asked for at every scrape: last dispatch, cooldown that is left, commands that run."""
        self._last.set_function(last)
        self._left.set_function(left)
        self._running.set_function(running)

    def decide(self, decision: str) -> None:
        """Count a decision, one of `DECISIONS`."""
        self._decisions[decision].inc()

    def reject(self, reason: str) -> None:
        """Count a request, by one of `REJECTIONS`."""
        self._rejections[reason].inc()

    def fail(self, reason: str) -> None:
        """Count an attempt, by one of `REASONS`."""
        self._failures[reason].inc()

    def end(self, result: str) -> None:
        """Count a command, by one of `ENDS`."""
        self._ends[result].inc()
