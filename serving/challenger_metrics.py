"""Prometheus metrics of the challenger, of its shadow and its canary.

    emotion_challenger_*    which version it is, and how it came here, as `emotion_model_*`, `emotion_registry_*`
    emotion_shadow_*        what it answers to faces that the champion has answered
    emotion_canary_*        requests that it has answered itself; its predictions are counted by `model_metrics`

All series stand at zero from the start; those of a version, or of a pair of versions, from when it is loaded.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge

from emotion_detection.reference import EDGES
from serving.histograms import STAGE_BUCKETS, Histogram
from serving.loading_metrics import LoadingMetrics
from serving.model import ServedModel
from serving.model_metrics import MODEL_LABELS, forget, label_values

RESULTS = ("scored", "queue-full", "no-challenger", "other-input", "error")
"""What becomes of a face that was drawn for the shadow: all but the first are dropped."""
STAGES = ("queue", "inference")
OUTCOMES = ("answered", "failed")
"""What becomes of a request that the challenger is to answer; where it failed, the champion answered."""


class ChallengerMetrics:
    """Which version challenges; what `watcher.Watcher` shows it on."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.loading = LoadingMetrics(registry, challenger=True)
        gauge = partial(Gauge, registry=registry)
        self._info = gauge(
            "emotion_challenger_info", "1 for the version that challenges", MODEL_LABELS, multiprocess_mode="livemax"
        )
        self._ready = gauge("emotion_challenger_ready", "Whether a challenger is loaded", multiprocess_mode="livemin")

    def show_model(self, model: ServedModel | None) -> None:
        """Tell which version challenges from now on; none: none does."""
        forget(self._info)
        if model is not None:
            self._info.labels(*label_values(model)).set(1)
        self._ready.set(model is not None)


class Pair:
    """Where the answers of a challenger are counted beside those of a champion."""

    def __init__(self, metrics: ShadowMetrics, champion: ServedModel, challenger: ServedModel) -> None:
        self.models = champion, challenger
        versions = champion.version, challenger.version
        self._classes = [
            [metrics.predictions.labels(one, other, *versions) for other in challenger.labels]
            for one in champion.labels
        ]
        self._confidence = metrics.confidence.labels(challenger.version)
        self.queue_seconds, self.inference_seconds = (
            metrics.stages.labels(stage, challenger.version) for stage in STAGES
        )

    def count(self, champion: NDArray[np.float32], challenger: NDArray[np.float32]) -> None:
        """Count what both answered to the same faces: float32 (n, K) and (n, L)."""
        for one, other, confidence in zip(
            champion.argmax(axis=1), challenger.argmax(axis=1), challenger.max(axis=1).tolist(), strict=True
        ):
            self._classes[one][other].inc()
            self._confidence.observe(min(confidence, 1.0))


class ShadowMetrics:
    """What the challenger would have answered."""

    def __init__(self, registry: CollectorRegistry, share: float, capacity: int) -> None:
        """Args:
        share: of the images that the challenger is shown.
        capacity: faces that may wait.
        """
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry)
        self.predictions = counter(
            "emotion_shadow_predictions",
            "Faces that both have judged, by what the champion answered and what the challenger would have",
            ["champion_emotion", "challenger_emotion", "champion_version", "challenger_version"],
        )
        self.confidence = histogram(
            "emotion_shadow_confidence",
            "Probability of the emotion that the challenger would have answered",
            ["challenger_version"],
            buckets=EDGES["confidence"],
        )
        self.stages = histogram(
            "emotion_shadow_stage_duration_seconds",
            "Time that an image waits for the challenger (queue), and that the challenger takes (inference); both are "
            "longer where the champion has work",
            ["stage", "challenger_version"],
            buckets=STAGE_BUCKETS,
        )
        self.cpu_seconds = counter("emotion_shadow_cpu_seconds", "Processor time that judging unseen has taken")
        faces = counter("emotion_shadow_faces", "Faces drawn for the challenger, by what became of them", ["result"])
        self._faces = {result: faces.labels(result) for result in RESULTS}
        self.queue_length = gauge(
            "emotion_shadow_queue_length", "Faces that wait for the challenger", multiprocess_mode="livesum"
        )
        gauge(
            "emotion_shadow_queue_capacity", "Faces that may wait for the challenger", multiprocess_mode="livesum"
        ).set(capacity)
        gauge("emotion_shadow_share", "Share of the images that are drawn", multiprocess_mode="livemax").set(share)

    def count(self, result: str, faces: int) -> None:
        """Count faces that were drawn; `result` is one of `RESULTS`."""
        self._faces[result].inc(faces)


class CanaryMetrics:
    """What the challenger answers."""

    def __init__(self, registry: CollectorRegistry, share: float) -> None:
        """Args:
        share: of the callers that it answers.
        """
        gauge = partial(Gauge, multiprocess_mode="livemax", registry=registry)
        self._requests = Counter(
            "emotion_canary_requests",
            "Requests for the challenger: answered by it, or failed and answered by the champion",
            ["result", "model_version"],
            registry=registry,
        )
        self._off = gauge(
            "emotion_canary_switched_off",
            "Whether the challenger answers nobody any more, since it failed too often; 0 with the next version",
        )
        gauge("emotion_canary_share", "Share of the callers that the challenger answers").set(share)

    def show_model(self, model: ServedModel | None) -> None:
        """Start the series of a version at zero; it has not failed yet."""
        self._off.set(0)
        if model is not None:
            for result in OUTCOMES:
                self._requests.labels(result, model.version)

    def count(self, model: ServedModel, failed: bool) -> None:
        """Count a request."""
        self._requests.labels(OUTCOMES[failed], model.version).inc()

    def switch_off(self) -> None:
        """It has failed too often."""
        self._off.set(1)
