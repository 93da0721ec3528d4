"""Values that are counted many at a time, and a histogram of such: one by one, that is what metrics cost a request."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

import numpy as np
import prometheus_client
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar, Sample

from serving.process_metrics import several_processes

STAGE_BUCKETS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
"""Seconds, of a part of the work on a request."""
MANY = 1_000
"""Values that wait to be counted, at most."""
FEW = 8
"""Values for which NumPy takes longer than Python."""
Value = TypeVar("Value")


class Waiting(Collector, Generic[Value]):
    """Values that are counted many at a time: once somebody looks, at the latest."""

    def __init__(self, count: Callable[[list[Value]], object], registry: CollectorRegistry | None = None) -> None:
        """Args:
        count: counts them, in the thread of who looks, or of who brings one too many.
        registry: whose readers look; what `count` changes must be registered there later than this.
        """
        self._count, self._values = count, deque[Value]()
        self._at_once = several_processes()  # another one would not see what waits here
        if registry:
            registry.register(self)

    def add(self, value: Value) -> None:
        """Have one more counted."""
        if self._at_once:
            self._count([value])
            return
        self._values.append(value)
        if len(self._values) >= MANY:
            self.count_all()

    def count_all(self) -> None:
        """Count what waits."""
        taken: list[Value] = []
        with suppress(IndexError):  # safe to do in several threads at once: each value is taken by one
            while True:
                taken.append(self._values.popleft())
        if taken:
            self._count(taken)

    def collect(self) -> Iterable[Metric]:
        """Of its own it has nothing to show."""
        self.count_all()
        return ()


class Histogram(prometheus_client.Histogram):
    """As `prometheus_client.Histogram`; what it has is counted once somebody looks, at the latest."""

    def _metric_init(self) -> None:
        super()._metric_init()
        self._waiting = Waiting(self.observe_all)

    def observe(self, amount: float, exemplar: Mapping[str, str] | None = None) -> None:
        """Count a value, and keep `exemplar`, labels of at most 128 characters, as an example of its bucket."""
        if exemplar:
            self._buckets[bisect_left(self._upper_bounds, amount)].set_exemplar(Exemplar(dict(exemplar), amount))
        self._waiting.add(amount)

    def observe_all(self, amounts: Sequence[float]) -> None:
        """Count many values at once."""
        bounds = self._upper_bounds
        many = len(amounts) > FEW
        buckets = np.searchsorted(bounds, amounts).tolist() if many else [bisect_left(bounds, each) for each in amounts]
        for bucket, count in Counter(buckets).items():
            self._buckets[bucket].inc(count)
        self._sum.inc(sum(amounts))

    def _child_samples(self) -> Iterable[Sample]:
        self._waiting.count_all()
        return super()._child_samples()
