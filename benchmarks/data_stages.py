"""Time, images per second and peak memory of each stage between the source and the shards.

    python -m benchmarks.data_stages [data.source=PATH]      # default: that of params.yaml

Every stage runs in a process of its own, as under `dvc repro`, in a folder that is removed afterwards. The first
row but one is what a `dvc repro` costs that finds the source as it was.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq
import typer
from rich import print
from rich.table import Table

from emotion_detection.artifacts import DATASET
from emotion_detection.data.sources import SYNTHETIC, is_kaggle
from emotion_detection.params import load_params

ROOT = Path(__file__).parents[1]
PARAMS = "data: {{source: '{}'}}\nmodels: {{none: {{architecture: none}}}}\n"


def run(stage: str, folder: str) -> tuple[float, float]:
    """Seconds and peak MiB of one stage."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
    start = time.perf_counter()
    null = subprocess.DEVNULL
    process = subprocess.Popen([sys.executable, "-m", f"pipeline.{stage}"], cwd=folder, env=environment, stdout=null)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise typer.Exit(1)
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def main(source: str) -> None:
    table = Table("stage", "seconds", "images/s", "peak MiB", title=f"From {source} to shards")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "params.yaml").write_text(PARAMS.format(source), encoding="utf-8")
        for name, stage in (("fingerprint", "fingerprint"), ("fingerprint, nothing new", "fingerprint")):
            seconds, memory = run(stage, folder)
            table.add_row(name, f"{seconds:.1f}", "", f"{memory:,.0f}")
        total, peak, images = 0.0, 0.0, 0
        for stage in ("ingest", "validate", "shards"):
            seconds, memory = run(stage, folder)
            images = images or pq.read_metadata(folder / DATASET).num_rows
            table.add_row(stage, f"{seconds:.1f}", f"{images / seconds:,.0f}", f"{memory:,.0f}")
            if stage != "validate":
                total, peak = total + seconds, max(peak, memory)
    table.add_row("ingest + shards", f"{total:.1f}", f"{images / total:,.0f}", f"{peak:,.0f}")
    print(table)


if __name__ == "__main__":
    given = [word.removeprefix("data.source=") for word in sys.argv[1:]]
    name = given[0] if given else load_params().data.source
    main(name if name == SYNTHETIC or is_kaggle(name) else str(Path(name).absolute()))
