"""How a model came here: polls of the registry, swaps, refusals."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

POLLS = ("unchanged", "swapped", "refused", "failed")
"""What a poll of the registry may end with."""
ABSENT = "absent"
"""Another one for a challenger: no version has its alias."""
FAILURES = ("registry", "bundle", "golden", "cache", "internal")
"""Why a model is not loaded: MLflow, checksums or graph, golden faces, disk, anything else."""


class LoadingMetrics:
    """Part of `metrics.Metrics`, and for the challenger of `ChallengerMetrics`; all series stand at zero at first."""

    def __init__(self, registry: CollectorRegistry, challenger: bool = False) -> None:
        """Args:
        challenger: whether it is the challenger that comes here, and not the model that answers.
        """
        model, asked = ("emotion_challenger",) * 2 if challenger else ("emotion_model", "emotion_registry")
        what, should = ("challenger", "challenge") if challenger else ("model that answers", "answer")
        self._since = Gauge(
            f"{model}_since_timestamp_seconds",
            f"When the {what} was loaded, seconds since 1970",
            multiprocess_mode="livemin",
            registry=registry,
        )
        self._up = Gauge(
            f"{asked}_up",
            f"Whether the last poll found out which model should {should}; 1 where no registry is asked",
            multiprocess_mode="livemin",
            registry=registry,
        )
        self._up.set(1)
        self._polled = Gauge(
            f"{asked}_last_poll_timestamp_seconds",
            "When a poll of the registry last ended, seconds since 1970; before the first, when the server started; 0 "
            "where no registry is asked",
            multiprocess_mode="livemin",
            registry=registry,
        )
        self._swaps = Counter(f"{model}_swaps", "Models that another one replaced while serving", registry=registry)
        polls = Counter(f"{asked}_polls", "Times the registry was asked", ["result"], registry=registry)
        self._polls = {result: polls.labels(result) for result in (*POLLS, *[ABSENT] * challenger)}
        failures = Counter(f"{model}_load_failures", "Models that could not be loaded", ["reason"], registry=registry)
        self._failures = {reason: failures.labels(reason) for reason in FAILURES}

    def loaded(self, swapped: bool) -> None:
        """Count a model that has been loaded."""
        self._since.set_to_current_time()
        self._swaps.inc(swapped)

    def follows(self) -> None:
        """A registry will be asked from now on."""
        self._polled.set_to_current_time()

    def poll_ended(self, result: str) -> None:
        """Count a poll; `result` is one of `POLLS`, or `ABSENT`."""
        self._polls[result].inc()
        self._up.set(result != "failed")
        self._polled.set_to_current_time()

    def failed(self, reason: str) -> None:
        """Count an attempt to load a model; `reason` is one of `FAILURES`."""
        self._failures[reason].inc()
