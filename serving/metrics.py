"""Every Prometheus metric of the server, one set per application.

    curl -s 127.0.0.1:8000/metrics

Label values are known beforehand and stand at zero from the start: a rate over a series that appears with
its first event misses that event.

Several processes (PROMETHEUS_MULTIPROC_DIR is set) write to files, and each of them answers with the sum over all.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from functools import partial

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.face_metrics import FaceMetrics
from serving.loading_metrics import LoadingMetrics
from serving.model import ServedModel
from serving.stream_metrics import StreamMetrics

LATENCY_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
"""Seconds."""
STAGE_BUCKETS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
"""Seconds."""
BATCH_BUCKETS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256)
CONFIDENCE_BUCKETS = tuple(tenth / 10 for tenth in range(1, 11))
MODEL_LABELS = ("name", "version", "run_id", "architecture", "commit", "data_hash", "bundle_sha256", "precision")
UNMATCHED = "unmatched"
"""`route` of requests to paths that do not exist: their number has no bound."""


def several_processes() -> bool:
    """Whether this is one of several processes that add up their metrics."""
    return "PROMETHEUS_MULTIPROC_DIR" in os.environ


class PredictionCounters:
    """What a prediction of one model counts in; its series are found once, and stand at zero from then on."""

    def __init__(self, metrics: Metrics, model: ServedModel) -> None:
        self._emotions = [metrics.predictions.labels(emotion, model.version) for emotion in model.labels]
        self._confidence = metrics.confidence.labels(model.version)

    def count(self, best: int, confidence: float) -> None:
        """Args:
        best: index of the predicted emotion.
        confidence: its probability.
        """
        self._emotions[best].inc()
        self._confidence.observe(confidence)


class Metrics:
    """The metrics of one application, in a registry of their own."""

    def __init__(self, routes: Mapping[str, Iterable[int]] | None = None, reasons: Iterable[str] = ()) -> None:
        """Create all metrics.

        Args:
            routes: path templates that are answered, with the statuses that they are documented to answer with.
            reasons: why `/detect` may reject an image.
        """
        self.registry = CollectorRegistry()
        if not several_processes():
            for collector in (ProcessCollector, PlatformCollector, GCCollector):
                collector(registry=self.registry)
        self._create_http_metrics()
        self._create_stage_metrics()
        self._create_model_metrics()
        self.loading = LoadingMetrics(self.registry)
        self.faces = FaceMetrics(self.registry)
        self.streams = StreamMetrics(self.registry)
        for route, statuses in (routes or {}).items():
            for status in statuses:
                self.latency.labels(route, str(status))
        self.latency.labels(UNMATCHED, "404")
        self._rejections = {reason: self.rejected.labels(reason) for reason in reasons}

    def exposed(self) -> CollectorRegistry:
        """What `/metrics` shows: this process, or all together."""
        if not several_processes():
            return self.registry
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return registry

    def show_model(self, model: ServedModel) -> None:
        """Tell which model answers from now on, and start its series at zero."""
        info = model.bundle.info
        self.prediction_counters(model)
        _forget(self.reference_share)
        for emotion, share in info.reference_shares.items():
            self.reference_share.labels(emotion).set(share)
        values = (model.name, model.version, model.run_id, info.architecture, info.lineage.commit)
        files = (info.lineage.data_hash, model.digest, model.precision)
        _forget(self.model_info)
        self.model_info.labels(*(value or "" for value in values), *files).set(1)
        self.model_ready.set(1)

    def prediction_counters(self, model: ServedModel) -> PredictionCounters:
        """Where the predictions of a model are counted."""
        return PredictionCounters(self, model)

    def reject(self, reason: str) -> None:
        """Count an image, or a request, that got no prediction."""
        self._rejections[reason].inc()

    def _create_http_metrics(self) -> None:
        gauge, counter = partial(Gauge, registry=self.registry), partial(Counter, registry=self.registry)
        self.latency = Histogram(
            "emotion_http_request_duration_seconds",
            "Time from the head of a request to the end of its answer, upload included",
            ["route", "status"],
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.in_flight = gauge(
            "emotion_http_requests_in_flight", "Requests being answered now", multiprocess_mode="livesum"
        )
        self.rejected = counter("emotion_rejected", "Images and requests without a prediction", ["reason"])

    def _create_stage_metrics(self) -> None:
        stages = Histogram(
            "emotion_stage_duration_seconds",
            "Time that an image waits for a worker (queue), is decoded and cut (decode), of which it is searched for "
            "faces (faces), that a batch is in the model (inference), and that a heat map takes (heat)",
            ["stage"],
            buckets=STAGE_BUCKETS,
            registry=self.registry,
        )
        self.queue_seconds, self.decode_seconds = stages.labels("queue"), stages.labels("decode")
        self.face_seconds, self.inference_seconds = stages.labels("faces"), stages.labels("inference")
        self.heat_seconds = stages.labels("heat")
        self.queue_length = Gauge(
            "emotion_queue_length",
            "Images that wait for a worker",
            multiprocess_mode="livesum",
            registry=self.registry,
        )
        self.batch_size = Histogram(
            "emotion_batch_size", "Faces in one run of the model", buckets=BATCH_BUCKETS, registry=self.registry
        )

    def _create_model_metrics(self) -> None:
        gauge = partial(Gauge, registry=self.registry)
        self.predictions = Counter(
            "emotion_predictions", "Predictions", ["emotion", "model_version"], registry=self.registry
        )
        self.confidence = Histogram(
            "emotion_prediction_confidence",
            "Probability of the predicted emotion",
            ["model_version"],
            buckets=CONFIDENCE_BUCKETS,
            registry=self.registry,
        )
        self.reference_share = gauge(
            "emotion_reference_share",
            "Share in the training data, to measure drift against",
            ["emotion"],
            multiprocess_mode="livemostrecent",
        )
        self.model_info = gauge(
            "emotion_model_info", "1 for the model that answers", MODEL_LABELS, multiprocess_mode="livemax"
        )
        self.model_ready = gauge("emotion_model_ready", "Whether a model is loaded", multiprocess_mode="livemin")


def _forget(gauge: Gauge) -> None:
    if not several_processes():
        return gauge.clear()
    for metric in gauge.collect():  # what they write to their files stays: a series that is over shows 0
        for sample in metric.samples:
            gauge.labels(**sample.labels).set(0)
    return None


class MetricsMiddleware:
    """Measures every HTTP request, whatever becomes of it."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self._metrics = app, metrics
        self._series: dict[tuple[str, int], Histogram] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        status = 500  # what the server answers where the application raises

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        start = time.perf_counter()
        self._metrics.in_flight.inc()
        try:
            await self.app(scope, receive, send_and_note)
        finally:
            self._metrics.in_flight.dec()
            route = getattr(scope.get("route"), "path", UNMATCHED)
            self._of(route, status).observe(time.perf_counter() - start)

    def _of(self, route: str, status: int) -> Histogram:
        series = self._series.get((route, status))
        if series is None:
            series = self._series[route, status] = self._metrics.latency.labels(route, str(status))
        return series
