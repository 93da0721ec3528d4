"""A real Ray cluster on this machine: a head that does no work, and two nodes with a worker each."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import psutil
import pytest

STORE = 100 * 2**20  # bytes of shared memory for each node
SETTINGS = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": uuid.uuid4().hex,  # otherwise Ray writes one into the home directory
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_raylet_start_wait_time_s": "120",  # on a machine that does other things as well
}
os.environ |= {name: os.environ.get(name, value) for name, value in SETTINGS.items()}  # Ray reads them when imported


@pytest.fixture(scope="package")
def ray_cluster() -> Iterator[str]:
    """The cluster's address; this process is connected to it."""
    with pytest.MonkeyPatch.context() as patch:
        import ray
        from ray.cluster_utils import Cluster

        node = {"object_store_memory": STORE, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **node})
        try:
            for _ in range(2):
                cluster.add_node(num_cpus=1, **node)
            ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
            patch.setenv("RAY_ADDRESS", cluster.address)
            yield cluster.address
        finally:
            ray.shutdown()
            cluster.shutdown()


def kill_worker(title: str, work: Future[Any], when: Callable[[], bool] = lambda: True) -> None:
    """SIGKILL for a process of Ray that does `title`, as soon as `when` holds."""
    victim = soon(lambda: next(processes(title), None), work)
    soon(when, work)
    victim.kill()


def processes(title: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or [""]
        if words[0].startswith("ray::") and title in words[0]:
            yield process


def soon(look: Callable[[], Any], work: Future[Any]) -> Any:
    """What `look` gives once it is true, while `work` goes on."""
    end = time.monotonic() + 120
    while time.monotonic() < end and not work.done():
        if found := look():
            return found
        time.sleep(0.01)
    raise AssertionError(f"too late: {work.result()}" if work.done() else "never")
