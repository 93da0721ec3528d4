"""From a notification to at most one call of the target.

outcome = coordinator.handle(notification)      # outcome.status is what Alertmanager is answered

Alertmanager is the queue: after a status of 500 or more it asks again within seconds, and otherwise when the alert's
`repeat_interval` is over. So nothing is tried twice here, and nothing waits here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from emotion_detection.errors import EmotionError
from monitoring.retrain.audit import Audit
from monitoring.retrain.errors import TargetError, Unclear
from monitoring.retrain.metrics import Metrics
from monitoring.retrain.order import End, Order, Target
from monitoring.retrain.payload import Alert, Notification
from monitoring.retrain.store import Claim, Store


@dataclass(frozen=True)
class Outcome:
    """What became of a notification."""

    status: int
    """Of the answer."""
    decision: str
    """One of `metrics.DECISIONS`."""
    why: str
    incident: str = ""
    wait: float = 0.0
    """Seconds until asking again helps."""


class Timing(NamedTuple):
    """Seconds."""

    cooldown: float
    """Between two dispatches."""
    settle: float
    """After which a dispatch that may have arrived can be looked for."""
    lease: float
    """For which a dispatch belongs to who sends it."""


class Coordinator:
    """Belongs to one process; several may share a store."""

    def __init__(self, store: Store, target: Target, audit: Audit, metrics: Metrics, timing: Timing) -> None:
        """Take up what the last process has left."""
        self._store, self._target, self._audit, self._metrics = store, target, audit, metrics
        self._timing, self._one_at_a_time = timing, threading.Lock()
        metrics.watch(store.last_sent, self._cooldown_left, lambda: len(store.running()))
        target.attach(store.running(), self.ended)

    def handle(self, notification: Notification) -> Outcome:
        """Decide, act, and note both."""
        self._metrics.received.inc()
        alerts = notification.wanted()
        with self._one_at_a_time:  # the second of two Alertmanagers waits, and finds it done
            outcome = self._decide(alerts, notification) if alerts else _nothing_wanted(notification)
        self._metrics.decide(outcome.decision)
        more = {"receiver": notification.receiver[:200], "group": notification.group_key[:500]}
        shown = alerts or notification.alerts
        self._audit.write(outcome.decision, outcome.why, outcome.incident, shown, status=outcome.status, **more)
        return outcome

    def ended(self, incident: str, result: End, detail: str) -> None:
        """Note how a command ended that the target was sent."""
        with self._one_at_a_time:  # not before it is noted that it was sent
            if result == "interrupted":
                self._store.release(incident)
            else:
                self._store.ended(incident, succeeded=result != "failed")
        self._metrics.end(result)
        self._audit.write(result, detail, incident)

    def close(self) -> None:
        """End what should not go on without the webhook."""
        self._target.close()

    def _decide(self, alerts: Sequence[Alert], notification: Notification) -> Outcome:
        claim = self._claim(alerts)
        if claim.verdict == "unclear":
            try:
                self._clear(claim)
            except EmotionError as error:
                return self._unclear(claim.incident, error, 0.0)
            claim = self._claim(alerts)
        if claim.verdict != "claimed":
            return _left_alone(claim)
        return self._send(Order(claim.incident, list(alerts), notification.group_key, notification.external_url))

    def _claim(self, alerts: Sequence[Alert]) -> Claim:
        return self._store.claim(
            [alert.key for alert in alerts], time.time(), self._timing.cooldown, self._timing.lease
        )

    def _clear(self, claim: Claim) -> None:
        """Find out about a dispatch whose sender died, or got no answer."""
        if self._target.arrived(claim.incident, claim.since):
            self._store.sent(claim.incident, claim.since, self._target.running)
            self._audit.write("found", "it had been started before", claim.incident)
        else:
            self._store.release(claim.incident)

    def _send(self, order: Order) -> Outcome:
        try:
            self._target.send(order)
        except Unclear as error:
            return self._unclear(order.incident, error, self._timing.settle)
        except EmotionError as error:
            self._store.release(order.incident)
            return self._failed(order.incident, error)
        self._store.sent(order.incident, time.time(), self._target.running)
        return Outcome(202, "dispatched", self._target.describe(), order.incident)

    def _unclear(self, incident: str, error: EmotionError, settle: float) -> Outcome:
        outcome = self._failed(incident, error)
        self._store.unclear(incident, time.time() + max(settle, outcome.wait))
        return outcome

    def _failed(self, incident: str, error: EmotionError) -> Outcome:
        reason, pause = (error.reason, error.pause) if isinstance(error, TargetError) else ("unauthorized", 0.0)
        self._metrics.fail(reason)
        if pause:
            self._store.pause(time.time() + pause)
        return Outcome(503, "failed", f"{reason}: {error}", incident, pause)

    def _cooldown_left(self) -> float:
        return max(0.0, self._store.last_sent() + self._timing.cooldown - time.time())


def _nothing_wanted(notification: Notification) -> Outcome:
    what = "resolved" if notification.status == "resolved" else "without the label action=retrain"
    return Outcome(200, "ignored", f"no alert asks for a retraining: {what}")


def _left_alone(claim: Claim) -> Outcome:
    wait = f"{claim.wait:.0f} s"
    match claim.verdict:
        case "duplicate":
            return Outcome(200, "duplicate", "these alerts have had their retraining", claim.incident)
        case "cooling-down":
            return Outcome(200, "cooling-down", f"the last retraining is too recent; {wait} are left", wait=claim.wait)
        case "paused":
            return Outcome(503, "paused", f"the target wants to be left alone for {wait}", wait=claim.wait)
    return Outcome(503, "in-progress", f"is being sent, or unclear; known in {wait}", claim.incident, claim.wait)
