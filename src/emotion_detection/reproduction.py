"""Run the pipeline: `dvc repro`, before which several models can be trained at a time.

Small convolutions gain little from another core, so two trainings that have a core each end sooner together than one
after the other on both: `python -m benchmarks.side_by_side`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from emotion_detection.errors import EmotionError

DVC = (sys.executable, "-m", "dvc")
SHARED_GPU = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
"""Else the first training would take all memory of the GPU."""
KEPT = "the stage that failed says why above. What was finished is kept: the same command goes on from there"


def reproduce(arguments: Sequence[str] = ()) -> None:
    """Run `dvc repro` with these arguments.

    Raises:
        EmotionError: a stage failed.
    """
    sys.stdout.flush()
    status = subprocess.run([*DVC, "repro", *arguments], env=environment(), check=False).returncode
    if status:
        raise EmotionError(f"dvc repro ended with status {status}; {KEPT}")


def train_side_by_side(models: Sequence[str], jobs: int) -> None:
    """Make the shards, then train and evaluate so many models at a time, each on its share of the cores.

    Each has a `dvc repro` of its own, which DVC allows where outputs differ. What is up to date is not made again.

    Raises:
        EmotionError: a stage failed; the other models are finished first.
    """
    reproduce(["shards"])
    shares: SimpleQueue[set[int]] = SimpleQueue()
    for share in shares_of_cores(min(jobs, len(models))):
        shares.put(share)
    with ThreadPoolExecutor(shares.qsize(), initializer=lambda: pin(shares.get())) as pool:
        statuses = list(pool.map(train_and_evaluate, models))
    if failed := [model for model, status in zip(models, statuses, strict=True) if status]:
        raise EmotionError(f"{', '.join(failed)}: {KEPT}")


def shares_of_cores(jobs: int) -> list[set[int]]:
    """The cores that this process may use, divided; where there are fewer than jobs, each has all."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return [set(cores[len(cores) * job // jobs : len(cores) * (job + 1) // jobs]) or set(cores) for job in range(jobs)]


def pin(cores: set[int]) -> None:
    """Let this thread, and what it starts, use these cores only; not on macOS, which knows no such thing."""
    if cores:
        os.sched_setaffinity(0, cores)


def train_and_evaluate(model: str) -> int:
    """One model in a process of its own, whose lines are passed on; its exit status."""
    stages = [f"train@{model}", f"evaluate@{model}"]
    command = [*DVC, "--wait-for-lock", "repro", "--single-item", *stages]
    pipe, out = subprocess.PIPE, subprocess.STDOUT
    with subprocess.Popen(command, env=SHARED_GPU | environment(), stdout=pipe, stderr=out, text=True) as process:
        for line in process.stdout or ():
            if line.strip():
                print(line, end="", flush=True)
    return process.returncode


def environment() -> dict[str, str]:
    """This process's, with the interpreter's own directory first in PATH: stages are started as `python`."""
    path = (str(Path(sys.executable).parent), os.environ.get("PATH", ""))
    return {**os.environ, "PATH": os.pathsep.join(path)}
