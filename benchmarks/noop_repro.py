"""How long `dvc repro` takes when there is nothing to do, against `dvc status` of the same tree.

    python -m benchmarks.noop_repro [--rounds 5]

Run it after `make run`. The rounds are interleaved, the figures are medians. Each round also asserts that the only
stage that ran is `fingerprint`, and that it did not import TensorFlow.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import time
from typing import Annotated

import typer


def timed(*command: str) -> tuple[float, str]:
    """Seconds and output of one command; Python processes under it report their imports on standard error."""
    environment = os.environ | {"PYTHONPROFILEIMPORTTIME": "1"}
    start = time.perf_counter()
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return time.perf_counter() - start, result.stdout + result.stderr


def main(rounds: Annotated[int, typer.Option(min=1)] = 5) -> None:
    """Print the medians and their ratio."""
    repro, status = [], []
    for _ in range(rounds):
        seconds, output = timed("dvc", "repro")
        stages = re.findall(r"^Running stage '([^']+)'", output, re.M)
        if stages != ["fingerprint"]:
            raise typer.BadParameter(f"not a no-op: {stages} ran; run `dvc repro` first")
        if re.search(r"\| +tensorflow$", output, re.M):
            raise typer.BadParameter("TensorFlow was imported")
        repro.append(seconds)
        status.append(timed("dvc", "status")[0])
    print(f"dvc repro, nothing to do  {statistics.median(repro):.2f} s (TensorFlow not imported)")
    print(f"dvc status                {statistics.median(status):.2f} s")
    print(f"ratio                     {statistics.median(repro) / statistics.median(status):.2f}")


if __name__ == "__main__":
    typer.run(main)
