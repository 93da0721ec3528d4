"""`python -m pipeline.shards`, as DVC runs it."""

from __future__ import annotations

import hashlib
import resource
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emotion_detection.artifacts import DATASET, DATASET_SCHEMA, DECISIONS, DECISIONS_SCHEMA, SHARDS
from emotion_detection.data.shards import load_arrays, verify_shards
from emotion_detection.preprocess import encode_png

ROOT = Path(__file__).parents[2]
PARAMS = """
data: {classes: [happy, angry], image_size: 24, channels: 1, shards: 2}
models: {lenet: {architecture: lenet}}
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with 12 images, of which 11 are kept."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(12):
        image = encode_png(rng.integers(0, 256, (32, 32, 1), dtype=np.uint8))
        rows.append(
            {
                "path": f"{number}.png",
                "split": ("train", "train", "val", "val", "test", "test")[number % 6],
                "label": ("happy", "angry")[number % 2],
                "image": image,
                "sha256": hashlib.sha256(image).hexdigest(),
                "keep": number != 11,
                "reason": "duplicate" if number == 11 else None,
                "defects": [],
            }
        )
    monkeypatch.delitem(sys.modules, "pipeline.shards", raising=False)  # runpy warns of what was imported before
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "params.yaml").write_text(PARAMS)
    pq.write_table(pa.Table.from_pylist(rows, DATASET_SCHEMA), tmp_path / DATASET)
    pq.write_table(pa.Table.from_pylist(rows, DECISIONS_SCHEMA), tmp_path / DECISIONS)
    return tmp_path


def test_the_stage_writes_shards_and_prints_the_counts(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_module("pipeline.shards", run_name="__main__")
    info = verify_shards(directory / SHARDS)
    assert info.labels == ("happy", "angry")
    assert info.counts["test"] == {"happy": 2, "angry": 1}
    assert load_arrays(directory / SHARDS, "train").images.shape == (4, 24, 24, 1)
    lines = [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines() if "│" in line
    ]
    assert lines == [
        ["happy", "2", "2", "2", "6"],
        ["angry", "2", "2", "1", "5"],
        ["total", "4", "4", "3", "11"],
    ]


def test_what_is_missing_is_said_in_one_line(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / DECISIONS).unlink()
    with pytest.raises(SystemExit, match="1"):
        runpy.run_module("pipeline.shards", run_name="__main__")
    assert capsys.readouterr().err == f"error: {DECISIONS}: missing; `dvc repro` makes it, `dvc pull` fetches it\n"


def test_a_full_disk_is_said_in_one_line(directory: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    result = subprocess.run(
        [sys.executable, "-m", "pipeline.shards"],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},  # or half a .pyc stays
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr == (
        "error: data/shards: cannot be written: File too large; free space or rights, then run again\n"
    )
    assert sorted(path.name for path in (directory / "data").iterdir()) == ["dataset.parquet", "decisions.parquet"]
