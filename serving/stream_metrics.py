"""Prometheus metrics of `/stream`; part of `metrics.Metrics`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class StreamMetrics:
    """How many clients stream, and what they send in vain."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.open = Gauge(
            "emotion_streams_open", "Open WebSockets of /stream", multiprocess_mode="livesum", registry=registry
        )
        self.dropped = Counter(
            "emotion_stream_frames_dropped", "Frames that a newer one overtook before their turn", registry=registry
        )
