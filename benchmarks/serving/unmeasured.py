"""`python -m serving` with metrics that count nothing, to see what they cost: see metrics_cost.py."""

from __future__ import annotations

import runpy

import prometheus_client

from serving import http_metrics, model_metrics
from serving.face_metrics import FaceMetrics
from serving.histograms import Histogram


def nothing(*_: object) -> None:
    """In place of a count."""


async def passed_on(self: http_metrics.MetricsMiddleware, *request: object) -> None:
    """In place of a measured request."""
    await self.app(*request)  # type: ignore[arg-type]


def main() -> None:
    """Take the counting out, then serve."""
    for kind in (prometheus_client.Counter, prometheus_client.Gauge):
        kind.inc = nothing  # type: ignore[method-assign]
    prometheus_client.Gauge.dec = nothing  # type: ignore[method-assign]
    Histogram.observe = nothing  # type: ignore[method-assign]
    FaceMetrics.observe = nothing  # type: ignore[method-assign]
    FaceMetrics.observe_crops = nothing  # type: ignore[method-assign]
    model_metrics.PredictionCounters.count = nothing  # type: ignore[method-assign]
    http_metrics.MetricsMiddleware.__call__ = passed_on  # type: ignore[method-assign]
    runpy.run_module("serving", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
