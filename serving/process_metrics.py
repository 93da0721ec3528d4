"""Prometheus metrics of the process, or of several together, and of ONNX Runtime; part of `metrics.Metrics`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from functools import partial
from operator import add
from pathlib import Path

import onnxruntime as ort
from prometheus_client import CollectorRegistry, Gauge, GCCollector, Metric, PlatformCollector, ProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
_COMBINED: dict[str, Callable[[float, float], float]] = {"process_start_time_seconds": min, "process_max_fds": min}
"""How figures of several processes become one; others are added."""


def several_processes() -> bool:
    """Whether this is one of several processes that add up their metrics."""
    return DIRECTORY in os.environ


def collect_process(registry: CollectorRegistry) -> None:
    """Register memory, CPU, files and garbage of this process."""
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)


def show_runtime(registry: CollectorRegistry) -> None:
    """Tell which ONNX Runtime computes."""
    info = Gauge(
        "emotion_onnxruntime_info",
        "1 for the version that computes",
        ["version", "device"],
        multiprocess_mode="livemax",
        registry=registry,
    )
    info.labels(ort.__version__, ort.get_device()).set(1)


class ProcessesCollector(Collector):
    """Memory, CPU and files of all processes that write metrics to the directory, added up."""

    def collect(self) -> Iterable[Metric]:
        found: dict[str, Metric] = {}
        for pid in sorted(_writers()):
            for metric in ProcessCollector(pid=partial(str, pid), registry=None).collect():
                known = found.setdefault(metric.name, metric)
                if known is not metric:
                    known.samples = [_combined(known, metric)]
        return found.values()


def _combined(first: Metric, second: Metric) -> Sample:
    [one], [other] = first.samples, second.samples
    combine: Callable[[float, float], float] = _COMBINED.get(first.name, add)
    return Sample(one.name, one.labels, combine(one.value, other.value))


def _writers() -> set[str]:
    """Ids of the processes that live; those of the dead are taken off by `processes.py`."""
    names = [file.name for file in Path(os.environ[DIRECTORY]).glob("gauge_live*_*.db")]
    return {found[1] for name in names if (found := re.search(r"_(\d+)\.db$", name))}
