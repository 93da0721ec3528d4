"""A histogram whose values are counted many at a time: one by one, that is most of what metrics cost a request."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import prometheus_client
from prometheus_client.samples import Exemplar, Sample

from serving.process_metrics import several_processes

STAGE_BUCKETS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
"""Seconds, of a part of the work on a request."""
MANY = 1_000
"""Values that wait to be counted, at most."""


class Histogram(prometheus_client.Histogram):
    """As `prometheus_client.Histogram`; what it has is counted once somebody looks, at the latest."""

    def _metric_init(self) -> None:
        super()._metric_init()
        self._waiting: deque[float] = deque()
        self._at_once = several_processes()  # another one would not see what waits here

    def observe(self, amount: float, exemplar: Mapping[str, str] | None = None) -> None:
        """Count a value, and keep `exemplar`, labels of at most 128 characters, as an example of its bucket."""
        if exemplar:
            self._bucket(amount).set_exemplar(Exemplar(dict(exemplar), amount))
        if self._at_once:
            self._sum.inc(amount)
            self._bucket(amount).inc(1)
            return
        self._waiting.append(amount)
        if len(self._waiting) >= MANY:
            self._count_all()

    def _bucket(self, amount: float) -> Any:
        return self._buckets[bisect_left(self._upper_bounds, amount)]

    def _count_all(self) -> None:
        taken: list[float] = []
        with suppress(IndexError):  # safe to do in several threads at once: each value is taken by one
            while True:
                taken.append(self._waiting.popleft())
        self._sum.inc(sum(taken))
        buckets, counts = np.unique(np.searchsorted(self._upper_bounds, taken), return_counts=True)
        for bucket, count in zip(buckets.tolist(), counts.tolist(), strict=True):
            self._buckets[bucket].inc(count)

    def _child_samples(self) -> Iterable[Sample]:
        self._count_all()
        return super()._child_samples()
