"""Every Prometheus metric of the server, one set per application.

    curl -s 127.0.0.1:8000/metrics

Label values are known beforehand and stand at zero from the start: a rate over a series that appears with
its first event misses that event.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.model import ServedModel

LATENCY_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
"""Seconds."""
CONFIDENCE_BUCKETS = tuple(tenth / 10 for tenth in range(1, 11))
MODEL_LABELS = ("name", "version", "run_id", "architecture", "commit", "data_hash", "bundle_sha256")
UNMATCHED = "unmatched"
"""`route` of requests to paths that do not exist: their number has no bound."""


class Metrics:
    """The metrics of one application, in a registry of their own."""

    def __init__(self, routes: Iterable[str] = (), reasons: Iterable[str] = ()) -> None:
        """Create all metrics.

        Args:
            routes: path templates that are answered.
            reasons: why `/detect` may reject a request.
        """
        self.registry = registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        self.latency = Histogram(
            "emotion_http_request_duration_seconds",
            "Time from the head of a request to the end of its answer, upload included",
            ["route", "status"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.in_flight = Gauge("emotion_http_requests_in_flight", "Requests being answered now", registry=registry)
        self.rejected = Counter("emotion_rejected", "Requests without a prediction", ["reason"], registry=registry)
        self.predictions = Counter(
            "emotion_predictions", "Predictions", ["emotion", "model_version"], registry=registry
        )
        self.confidence = Histogram(
            "emotion_prediction_confidence",
            "Probability of the predicted emotion",
            ["model_version"],
            buckets=CONFIDENCE_BUCKETS,
            registry=registry,
        )
        self.reference_share = Gauge(
            "emotion_reference_share",
            "Share in the training data, to measure drift against",
            ["emotion"],
            registry=registry,
        )
        self.model_info = Gauge("emotion_model_info", "1 for the model that answers", MODEL_LABELS, registry=registry)
        self.model_ready = Gauge("emotion_model_ready", "Whether a model is loaded", registry=registry)
        self.load_failures = Counter(
            "emotion_model_load_failures", "Attempts to load a model that failed", registry=registry
        )
        for route in routes:
            self.latency.labels(route, "200")
        for reason in reasons:
            self.rejected.labels(reason)

    def show_model(self, model: ServedModel) -> None:
        """Tell which model answers from now on, and start its series at zero."""
        info = model.bundle.info
        for emotion in model.labels:
            self.predictions.labels(emotion, model.version)
        self.confidence.labels(model.version)
        self.reference_share.clear()
        for emotion, share in info.reference_shares.items():
            self.reference_share.labels(emotion).set(share)
        values = (model.name, model.version, model.run_id, info.architecture, info.lineage.commit)
        self.model_info.clear()
        self.model_info.labels(*(value or "" for value in values), info.lineage.data_hash, model.digest).set(1)
        self.model_ready.set(1)

    def count_prediction(self, model: ServedModel, emotion: str, confidence: float) -> None:
        self.predictions.labels(emotion, model.version).inc()
        self.confidence.labels(model.version).observe(confidence)


class MetricsMiddleware:
    """Measures every HTTP request, whatever becomes of it."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        status = "500"  # what the server answers where the application raises

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        start = time.perf_counter()
        with self.metrics.in_flight.track_inprogress():
            try:
                await self.app(scope, receive, send_and_note)
            finally:
                route = getattr(scope.get("route"), "path", UNMATCHED)
                self.metrics.latency.labels(route, status).observe(time.perf_counter() - start)
