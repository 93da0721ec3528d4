"""Every Prometheus metric of the server, one set per application.

    curl -s 127.0.0.1:8000/metrics
    curl -s 127.0.0.1:8000/metrics -H 'Accept: application/openmetrics-text'     # with examples of latencies

Label values are known beforehand and stand at zero from the start: a rate over a series that appears with
its first event misses that event.

Several processes (PROMETHEUS_MULTIPROC_DIR is set) write to files, and each of them answers with the sum over all; they
keep no examples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Gauge, disable_created_metrics
from prometheus_client.multiprocess import MultiProcessCollector

from serving.face_metrics import FaceMetrics
from serving.histograms import STAGE_BUCKETS, Histogram
from serving.http_metrics import UNMATCHED, HttpMetrics, MetricsMiddleware
from serving.loading_metrics import LoadingMetrics
from serving.model import ServedModel
from serving.model_metrics import ModelMetrics, PredictionCounters
from serving.process_metrics import ProcessesCollector, collect_process, several_processes, show_runtime
from serving.stream_metrics import StreamMetrics

__all__ = ["UNMATCHED", "Metrics", "MetricsMiddleware", "PredictionCounters", "several_processes"]

BATCH_BUCKETS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256)

disable_created_metrics()  # type: ignore[no-untyped-call]  # nobody reads them, and they double the series


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
            collect_process(self.registry)
        show_runtime(self.registry)
        self.http = HttpMetrics(self.registry, routes or {}, reasons)
        self.latency = self.http.latency
        self._create_stage_metrics()
        self._create_queue_metrics()
        self._model = ModelMetrics(self.registry)
        self.feedback = self._model.feedback
        self.loading = LoadingMetrics(self.registry)
        self.faces = FaceMetrics(self.registry)
        self.streams = StreamMetrics(self.registry)

    def exposed(self) -> CollectorRegistry:
        """What `/metrics` shows: this process, or all together."""
        if not several_processes():
            return self.registry
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        registry.register(ProcessesCollector())
        return registry

    def show_model(self, model: ServedModel) -> None:
        """Tell which model answers from now on, and start its series at zero."""
        self._model.show(model)

    def prediction_counters(self, model: ServedModel) -> PredictionCounters:
        """Where the predictions of a model are counted."""
        return self._model.counters(model)

    def reject(self, reason: str) -> None:
        """Count an image, or a request, that got no prediction."""
        self.http.rejections[reason].inc()

    def _create_stage_metrics(self) -> None:
        stages = Histogram(
            "emotion_stage_duration_seconds",
            "Time that an image waits for a worker (queue), is decoded and cut there (decode) or by the event loop "
            "(at_once), of which it is searched for faces (faces), that a batch is in the model (inference), and that "
            "a heat map takes (heat)",
            ["stage"],
            buckets=STAGE_BUCKETS,
            registry=self.registry,
        )
        self.queue_seconds, self.decode_seconds = stages.labels("queue"), stages.labels("decode")
        self.at_once_seconds = stages.labels("at_once")
        self.face_seconds, self.inference_seconds = stages.labels("faces"), stages.labels("inference")
        self.heat_seconds = stages.labels("heat")
        self.batch_size = Histogram(
            "emotion_batch_size", "Faces in one run of the model", buckets=BATCH_BUCKETS, registry=self.registry
        )

    def _create_queue_metrics(self) -> None:
        gauge = partial(Gauge, multiprocess_mode="livesum", registry=self.registry)
        self.queue_length = gauge("emotion_queue_length", "Images that wait for a worker")
        self.queue_capacity = gauge("emotion_queue_capacity", "Images that may wait for a worker")
        self.worker_threads = gauge("emotion_worker_threads", "Threads that decode images and run the model")
