"""Histograms that count many values at a time: what is read is as if each had been counted at once."""

from __future__ import annotations

import threading

import numpy as np
import prometheus_client
from prometheus_client import CollectorRegistry

from serving.histograms import MANY, Histogram

BUCKETS = (0.1, 0.5, 1.0)


def series(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
    samples = [sample for metric in registry.collect() for sample in metric.samples]
    return {(sample.name, sample.labels.get("le", "")): sample.value for sample in samples}


def test_what_is_read_is_what_prometheus_client_counts() -> None:
    registries = CollectorRegistry(), CollectorRegistry()
    ours = Histogram("seconds", "Some", buckets=BUCKETS, registry=registries[0])
    theirs = prometheus_client.Histogram("seconds", "Some", buckets=BUCKETS, registry=registries[1])
    values = [0.0, 0.1, 0.5, 7.0, *np.random.default_rng(0).uniform(0, 2, MANY + 5).tolist()]
    for number, value in enumerate(values):
        ours.observe(value)
        theirs.observe(value)
        if number in (2, len(values) - 1):
            found, expected = map(series, registries)
            assert found.keys() == expected.keys()
            assert all(abs(found[key] - expected[key]) < 1e-9 for key in expected)


def test_no_more_than_so_many_wait() -> None:
    histogram = Histogram("seconds", "Some", buckets=BUCKETS, registry=None)
    for _ in range(3 * MANY - 1):
        histogram.observe(0.2)
    assert len(histogram._waiting._values) == MANY - 1


def test_several_threads_and_readers_lose_and_double_nothing() -> None:
    registry = CollectorRegistry()
    histogram = Histogram("seconds", "Some", ["kind"], buckets=BUCKETS, registry=registry).labels("face")
    count, ended = 20_000, threading.Event()

    def observe() -> None:
        for _ in range(count):
            histogram.observe(0.25)

    def read() -> None:
        while not ended.is_set():
            series(registry)

    readers = [threading.Thread(target=read) for _ in range(2)]
    writers = [threading.Thread(target=observe) for _ in range(3)]
    for thread in (*readers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    ended.set()
    for thread in readers:
        thread.join()
    assert series(registry)["seconds_count", ""] == 3 * count
    assert series(registry)["seconds_sum", ""] == 3 * count / 4
