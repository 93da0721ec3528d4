"""The Ray cluster that does the work: reached, looked at, left again.

    with connected() as cluster:
        cluster.ray.get(task.remote())

RAY_ADDRESS, Ray's own variable, says where it is; without it a cluster that runs on this machine is used, or one is
started for as long as the work takes. Workers see the project's directory under the same path as this process, so
that what is handed out are paths and not files.
"""

from __future__ import annotations

import importlib
import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from emotion_detection import errors
from emotion_detection.errors import EmotionError, EngineError

ADDRESS = "RAY_ADDRESS"
RETRIES = 8
"""How often work is done again whose worker has died."""
_CONNECT_SECONDS = 5
_OURS = re.compile(r"emotion_detection\.errors\.(\w+): (.+)")


@dataclass(frozen=True)
class Cluster:
    """A cluster that answers."""

    ray: ModuleType
    nodes: tuple[dict[str, Any], ...]
    """Those that can be given work, as `ray.nodes` describes them."""

    @property
    def gpus(self) -> int:
        return int(sum(node["Resources"].get("GPU", 0) for node in self.nodes))

    @property
    def workers(self) -> int:
        """How many trainings go on at once, or share one: a GPU for each; without GPUs a node for each."""
        return self.gpus or len(self.nodes)

    @property
    def machines(self) -> int:
        return len({node["NodeManagerHostname"] for node in self.nodes})


@contextmanager
def connected() -> Iterator[Cluster]:
    """The cluster; errors of its workers come through as if this process had done the work.

    Raises:
        EngineError: Ray is not installed, nobody answers, no node can be given work, or a worker died too often.
    """
    ray = imported()
    mine = not ray.is_initialized()
    if mine:
        connect(ray)
    try:
        yield Cluster(ray, _nodes(ray))
    except (ray.exceptions.RayError, ray.train.TrainingFailedError) as error:
        raise of_worker(error) from error
    finally:
        if mine:
            ray.shutdown()


def imported() -> ModuleType:
    """Ray, which tells nobody that it is used.

    Raises:
        EngineError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        for name in ("ray", "ray.train"):
            importlib.import_module(name)
    except ImportError as error:
        raise EngineError(f"EMOTION_ENGINE=ray: Ray is not installed ({error}); `make ray` does that") from None
    return sys.modules["ray"]


def of_worker(error: Exception) -> EmotionError:
    """What a worker raised, as this process would have raised it."""
    found = _OURS.search(str(error))
    if not found:
        return EngineError(f"Ray: {str(error).strip()}")
    kind = getattr(errors, found[1], EngineError)
    return kind(found[2]) if issubclass(kind, EmotionError) else EngineError(found[2])


def connect(ray: ModuleType) -> None:
    """Join the cluster at RAY_ADDRESS, or one of this machine; an EngineError where that fails."""
    address = os.environ.get(ADDRESS)
    try:
        if address and (host_port := re.fullmatch(r"([^/]+):(\d+)", address)):
            socket.create_connection((host_port[1].strip("[]"), int(host_port[2])), _CONNECT_SECONDS).close()
        ray.init(logging_level="ERROR", log_to_driver=False)
    except (OSError, ConnectionError, RuntimeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        where = f"{ADDRESS}={address}" if address else "Ray on this machine"
        raise EngineError(
            f"{where}: {reason}; expected HOST:PORT of a cluster, which `ray start --head` starts, and which this "
            "machine is part of (`ray start --address=HOST:PORT`)"
        ) from error


def _nodes(ray: ModuleType) -> tuple[dict[str, Any], ...]:
    nodes = tuple(node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1)
    if not nodes:
        raise EngineError("Ray: no node of the cluster has a CPU to give; see `ray status`")
    return nodes
