"""How the model came here: polls of the registry, swaps, refusals."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

POLLS = ("unchanged", "swapped", "refused", "failed")
"""What a poll of the registry may end with."""
FAILURES = ("registry", "bundle", "golden", "cache", "internal")
"""Why a model is not loaded: MLflow, checksums or graph, golden faces, disk, anything else."""


class LoadingMetrics:
    """Part of `metrics.Metrics`; all series stand at zero from the start."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._since = Gauge(
            "emotion_model_since_timestamp_seconds",
            "When the model that answers was loaded, seconds since 1970",
            multiprocess_mode="livemin",
            registry=registry,
        )
        self._up = Gauge(
            "emotion_registry_up",
            "Whether the last poll found out which model should answer; 1 where no registry is asked",
            multiprocess_mode="livemin",
            registry=registry,
        )
        self._up.set(1)
        self._polled = Gauge(
            "emotion_registry_last_poll_timestamp_seconds",
            "When a poll of the registry last ended, seconds since 1970; before the first, when the server started; 0 "
            "where no registry is asked",
            multiprocess_mode="livemin",
            registry=registry,
        )
        self._swaps = Counter(
            "emotion_model_swaps", "Models that another one replaced while serving", registry=registry
        )
        polls = Counter("emotion_registry_polls", "Times the registry was asked", ["result"], registry=registry)
        self._polls = {result: polls.labels(result) for result in POLLS}
        failures = Counter(
            "emotion_model_load_failures", "Models that could not be loaded", ["reason"], registry=registry
        )
        self._failures = {reason: failures.labels(reason) for reason in FAILURES}

    def loaded(self, swapped: bool) -> None:
        """Count a model that answers from now on."""
        self._since.set_to_current_time()
        self._swaps.inc(swapped)

    def follows(self) -> None:
        """A registry will be asked from now on."""
        self._polled.set_to_current_time()

    def poll_ended(self, result: str) -> None:
        """Count a poll; `result` is one of `POLLS`."""
        self._polls[result].inc()
        self._up.set(result != "failed")
        self._polled.set_to_current_time()

    def failed(self, reason: str) -> None:
        """Count an attempt to load a model; `reason` is one of `FAILURES`."""
        self._failures[reason].inc()
