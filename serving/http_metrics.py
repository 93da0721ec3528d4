"""Prometheus metrics of HTTP; part of `metrics.Metrics`.

Buckets of the latency keep an example each, for who asks in OpenMetrics: the id of a request, under which the log has
it, and of its prediction, which `emotion trace` follows.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.headers import Header
from serving.histograms import Histogram
from serving.process_metrics import several_processes

LATENCY_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
"""Seconds."""
UNMATCHED = "unmatched"
"""`route` of requests to paths that do not exist: their number has no bound."""
EXAMPLE_SECONDS = 1.0
"""How long an example of a bucket stays before another one takes its place."""
MAX_EXAMPLE = 128
"""Characters of an example's labels, names included, by the specification of OpenMetrics."""


class HttpMetrics:
    """How long requests take, how many there are now, and which are refused."""

    def __init__(
        self, registry: CollectorRegistry, routes: Mapping[str, Iterable[int]], reasons: Iterable[str]
    ) -> None:
        """As `metrics.Metrics`."""
        self.latency = Histogram(
            "emotion_http_request_duration_seconds",
            "Time from the head of a request to the end of its answer, upload included",
            ["route", "status"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        for route, statuses in routes.items():
            for status in statuses:
                self.latency.labels(route, str(status))
        self.latency.labels(UNMATCHED, "404")
        self.in_flight = Level(
            Gauge(
                "emotion_http_requests_in_flight",
                "Requests being answered now",
                multiprocess_mode="livesum",
                registry=registry,
            )
        )
        rejected = Counter(
            "emotion_rejected", "Images and requests without a prediction", ["reason"], registry=registry
        )
        self.rejections = {reason: rejected.labels(reason) for reason in reasons}


class Level:
    """What a gauge shows; moved by one thread, the event loop's, and so without the lock of a gauge."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge, self._now, self._read = gauge, 0, not several_processes()
        if self._read:
            gauge.set_function(lambda: self._now)

    def move(self, by: int) -> None:
        """Up or down."""
        self._now += by
        if not self._read:  # what other processes show is in files
            self._gauge.set(self._now)


class MetricsMiddleware:
    """Measures every HTTP request, whatever becomes of it."""

    def __init__(self, app: ASGIApp, metrics: HttpMetrics) -> None:
        self.app, self._metrics = app, metrics
        self._series: dict[tuple[str, int], Examples] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        status = 500  # what the server answers where the application raises
        headers: Sequence[Header] = ()

        async def send_and_note(message: Message) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status, headers = message["status"], message.get("headers", ())
            await send(message)

        start = time.perf_counter()
        self._metrics.in_flight.move(1)
        try:
            await self.app(scope, receive, send_and_note)
        finally:
            self._metrics.in_flight.move(-1)
            route = getattr(scope.get("route"), "path", UNMATCHED)
            self._of(route, status).observe(start, scope, headers)

    def _of(self, route: str, status: int) -> Examples:
        series = self._series.get((route, status))
        if series is None:
            series = self._series[route, status] = Examples(self._metrics.latency.labels(route, str(status)))
        return series


class Examples:
    """One series of the latency, and when each of its buckets is to get another example."""

    def __init__(self, series: Histogram) -> None:
        self._series, self._due = series, [0.0] * (len(LATENCY_BUCKETS) + 1)

    def observe(self, start: float, scope: Scope, headers: Sequence[Header]) -> None:
        """Count a request that ends now.

        Args:
            start: when it came, as `time.perf_counter()`.
            headers: of its answer.
        """
        now = time.perf_counter()
        bucket = bisect_left(LATENCY_BUCKETS, now - start)
        if now < self._due[bucket]:
            return self._series.observe(now - start)
        self._due[bucket] = now + EXAMPLE_SECONDS
        return self._series.observe(now - start, example_of(scope, headers))


def example_of(scope: Scope, headers: Sequence[Header]) -> dict[str, str]:
    """What an answered request is known by."""
    request = {"request_id": scope["visit"].id} if "visit" in scope else {}
    prediction = next((value for name, value in headers if name == b"x-prediction-id"), b"").decode()
    both = request | ({"prediction_id": prediction} if prediction else {})
    fits = sum(map(len, [*both, *both.values()])) <= MAX_EXAMPLE
    return both if fits else request
