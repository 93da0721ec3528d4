"""Which process runs a trial, and whether it is still there.

A process that is killed leaves a trial that runs for ever. On this machine it is known by its process; on others
by its heartbeat, which Optuna looks after.
"""

from __future__ import annotations

import os
import platform
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from optuna.trial import FrozenTrial

OWNER = "owner"
NEWBORN = 5
"""Seconds after which a trial that nobody has said to be his is given up; should he live, he takes another one."""


@dataclass
class Watch:
    """Trials that run without having said for whom, and since when this process has seen them."""

    seen: dict[int, float] = field(default_factory=dict)

    def abandoned(self, trial: FrozenTrial) -> bool:
        """Whether the process that runs a trial is gone, as far as this machine can tell."""
        owner = trial.user_attrs.get(OWNER)
        if owner:
            return owner["machine"] == machine() and not _is_other_process(owner)
        now = time.monotonic()
        return now - self.seen.setdefault(trial.number, now) > NEWBORN


def owner() -> dict[str, Any]:
    """This process, as the database remembers it."""
    return {"machine": machine(), "pid": os.getpid(), "started": psutil.Process().create_time()}


def machine() -> str:
    """This machine since its start; of a container its own processes."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return f"{platform.node()} {uuid.getnode()}"


def _is_other_process(owner: Mapping[str, Any]) -> bool:
    if owner["pid"] == os.getpid():
        return False  # between two trials this one runs none
    try:
        process = psutil.Process(owner["pid"])
        return abs(process.create_time() - owner["started"]) < 2 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
