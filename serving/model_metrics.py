"""Prometheus metrics of the model that answers, of its answers, and of what they are compared with; part of `Metrics`.

The reference is that of the bundle: shares of its predictions, and of bins of the features in `reference.EDGES`. The
rules in monitoring/prometheus/rules compare it with what the server counts in histograms with the same edges.
"""

from __future__ import annotations

import logging
from collections import Counter as Tally
from functools import partial
from itertools import pairwise
from math import inf
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.utils import floatToGoString

from emotion_detection.bundle import BundleInfo
from emotion_detection.reference import EDGES, Reference, entropy_bits
from serving.feedback_metrics import FeedbackMetrics
from serving.histograms import Histogram, Waiting
from serving.model import ServedModel
from serving.process_metrics import several_processes

log = logging.getLogger(__name__)
MODEL_LABELS = ("name", "version", "run_id", "architecture", "commit", "data_hash", "bundle_sha256", "precision")
LEAST_SHARE = 1e-6
"""Of a class, for the population stability index: what is never expected would be infinitely far off."""


class Prediction(NamedTuple):
    """What a model said of a face."""

    counters: PredictionCounters
    best: int
    """Index of the predicted emotion."""
    probabilities: list[float]


class PredictionCounters:
    """What a prediction of one model counts in; its series are found once, and stand at zero from then on."""

    def __init__(self, metrics: ModelMetrics, model: ServedModel) -> None:
        self._waiting = metrics.waiting
        self._emotions = [metrics.predictions.labels(emotion, model.version) for emotion in model.labels]
        self._confidence = metrics.confidence.labels(model.version)
        self._entropy = metrics.entropy.labels(model.version)

    def count(self, best: int, row: list[float]) -> None:
        """Args:
        best: index of the predicted emotion.
        row: probabilities of all.
        """
        self._waiting.add(Prediction(self, best, row))

    def count_all(self, predictions: list[Prediction]) -> None:
        """Count what waited."""
        for best, count in Tally(prediction.best for prediction in predictions).items():
            self._emotions[best].inc(count)
        rows = [prediction.probabilities for prediction in predictions]
        self._confidence.observe_all([min(max(row), 1.0) for row in rows])  # rounding may put one just above
        self._entropy.observe_all(entropy_bits(rows).tolist())


class ModelMetrics:
    """All series of a model stand at zero from when it is shown."""

    def __init__(self, registry: CollectorRegistry) -> None:
        gauge = partial(Gauge, registry=registry)
        histogram = partial(Histogram, labelnames=["model_version"], registry=registry)
        self.waiting = Waiting(self._count_all, registry)
        recent = partial(gauge, multiprocess_mode="livemostrecent")
        self.predictions = Counter(
            "emotion_predictions", "Predictions", ["emotion", "model_version"], registry=registry
        )
        self.confidence = histogram(
            "emotion_prediction_confidence", "Probability of the predicted emotion", buckets=EDGES["confidence"]
        )
        self.entropy = histogram(
            "emotion_prediction_entropy", "Entropy of the probabilities of a face, bits", buckets=EDGES["entropy"]
        )
        self._share = recent(
            "emotion_reference_share",
            "Share of a class among the predictions on the validation split, to measure drift against; in the training "
            "data where the bundle does not know it",
            ["emotion", "model_version"],
        )
        self._bin_share = recent(
            "emotion_reference_bin_share",
            "Share of a bin (above, upper] of a feature: of training faces, or of answers on the validation split",
            ["feature", "above", "upper", "model_version"],
        )
        self._accuracy = recent("emotion_reference_accuracy", "On the validation split", ["model_version"])
        self._mean_confidence = recent(
            "emotion_reference_confidence", "Mean confidence on the validation split", ["model_version"]
        )
        self._info = gauge(
            "emotion_model_info", "1 for the model that answers", MODEL_LABELS, multiprocess_mode="livemax"
        )
        self._bytes = gauge("emotion_model_bytes", "Size of the graph that answers", multiprocess_mode="livemax")
        self._created = gauge(
            "emotion_model_created_timestamp_seconds",
            "When the version that answers was registered, seconds since 1970; 0 where that is not known",
            multiprocess_mode="livemin",
        )
        self._ready = gauge("emotion_model_ready", "Whether a model is loaded", multiprocess_mode="livemin")
        self.feedback = FeedbackMetrics(registry)

    def show(self, model: ServedModel) -> None:
        """Tell which model answers from now on."""
        self.counters(model)
        for gauge in (self._share, self._bin_share, self._accuracy, self._mean_confidence, self._info):
            forget(gauge)
        self._show_reference(model.bundle.info, model.version)
        self._info.labels(*label_values(model)).set(1)
        self._bytes.set(model.engine.graph.stat().st_size)
        self._created.set(model.created or 0)
        self._ready.set(1)

    def counters(self, model: ServedModel) -> PredictionCounters:
        """Where the predictions of a model are counted; from then on people can judge them."""
        self.feedback.add(model)
        return PredictionCounters(self, model)

    def _count_all(self, predictions: list[Prediction]) -> None:
        by_model: dict[PredictionCounters, list[Prediction]] = {}
        for prediction in predictions:
            by_model.setdefault(prediction.counters, []).append(prediction)
        for counters, found in by_model.items():
            counters.count_all(found)

    def _show_reference(self, info: BundleInfo, version: str) -> None:
        reference = info.reference
        shares = reference.predicted_shares() if reference else info.reference_shares
        for emotion, share in shares.items():
            self._share.labels(emotion, version).set(max(share, LEAST_SHARE))
        if reference:
            self._accuracy.labels(version).set(reference.accuracy)
            self._mean_confidence.labels(version).set(reference.mean_confidence)
            self._show_bins(reference, version)

    def _show_bins(self, reference: Reference, version: str) -> None:
        for feature, edges in EDGES.items():
            found = reference.histogram(feature)
            if found.edges != edges:
                log.warning("%s: the bundle counts it in other bins than the server: no drift of it", feature)
                continue
            ends = [_written(edge) for edge in (-inf, *edges, inf)]
            for (above, upper), share in zip(pairwise(ends), found.shares(), strict=True):
                self._bin_share.labels(feature, above, upper, version).set(share)


def label_values(model: ServedModel) -> tuple[str, ...]:
    """What `MODEL_LABELS` are of a model."""
    info = model.bundle.info
    values = (model.name, model.version, model.run_id, info.architecture, info.lineage.commit)
    return (*(value or "" for value in values), info.lineage.data_hash, model.digest, model.precision)


def forget(gauge: Gauge) -> None:
    """Take all series of a gauge away."""
    if not several_processes():
        return gauge.clear()
    for metric in gauge.collect():  # what they write to their files stays: a series that is over shows 0
        for sample in metric.samples:
            gauge.labels(**sample.labels).set(0)
    return None


def _written(edge: float) -> str:
    """As the label `le` of a histogram."""
    return str(floatToGoString(edge))  # type: ignore[no-untyped-call]
