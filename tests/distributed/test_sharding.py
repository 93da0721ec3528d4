"""Shards made by the workers of a Ray cluster are those that one process makes."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emotion_detection.artifacts import DATASET_SCHEMA, DECISIONS_SCHEMA, DatasetInfo
from emotion_detection.data import sharding
from emotion_detection.distributed import survey
from emotion_detection.engine import chosen
from emotion_detection.errors import ArtifactError
from emotion_detection.params import DataParams
from emotion_detection.preprocess import encode_png
from tests.distributed.conftest import kill_worker

pytestmark = pytest.mark.xdist_group("ray")
COUNTS = {"train": 1500, "val": 40, "test": 3}
LABELS = ("angry", "happy", "sad")
DATA = DataParams(image_size=16, channels=1, shards=5)


def row(number: int, split: str, voted: bool) -> dict[str, Any]:
    random = np.random.default_rng(number)
    image = encode_png(random.integers(0, 256, (40, 44, 3), dtype=np.uint8))
    votes = {"angry": 1.0, "happy": float(number % 5), "sad": 0.0, "no face": 1.0} if voted and number % 3 else None
    return {
        "path": f"{split}/{number}.png",
        "split": split,
        "label": LABELS[number % 3],
        "image": image,
        "sha256": hashlib.sha256(image).hexdigest(),
        "width": 44,
        "height": 40,
        "mode": "RGB",
        "format": "PNG",
        "votes": list(votes.items()) if votes else None,
        "keep": number % 10 != 7,
        "reason": None,
        "defects": [],
    }


def write(directory: Path, voted: bool = False, counts: dict[str, int] = COUNTS) -> tuple[Path, Path]:
    """A data set with its splits mixed, in row groups whose ends are not those of the decisions."""
    directory.mkdir(exist_ok=True)
    splits = np.random.default_rng(0).permutation([split for split, count in counts.items() for _ in range(count)])
    rows = [row(number, str(split), voted) for number, split in enumerate(splits)]
    files = directory / "dataset.parquet", directory / "decisions.parquet"
    for file, schema, size in zip(files, (DATASET_SCHEMA, DECISIONS_SCHEMA), (50, 128), strict=True):
        content = [{name: one[name] for name in schema.names} for one in rows]
        pq.write_table(pa.Table.from_pylist(content, schema), file, row_group_size=size)
    return files


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def on_ray(*arguments: Any) -> DatasetInfo:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMOTION_ENGINE", "ray")
        return chosen(sharding.write_shards)(*arguments)


def test_the_same_files_though_a_worker_is_killed(ray_cluster: str, tmp_path: Path) -> None:
    assert ray_cluster
    files = write(tmp_path)
    local = sharding.write_shards(DATA, 3, *files, tmp_path / "local")
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(on_ray, DATA, 3, *files, tmp_path / "ray")
        kill_worker("_records", made)
        assert made.result() == local
    assert content(tmp_path / "ray") == content(tmp_path / "local")
    assert len(content(tmp_path / "ray")) == 3 * DATA.shards + 1


def test_the_same_files_with_votes_and_as_if_there_were_very_many(
    ray_cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ray_cluster
    monkeypatch.setattr(survey, "MOST_PIECES", 0)
    files = write(tmp_path, voted=True, counts={"train": 120, "val": 20, "test": 3})
    local = sharding.write_shards(DATA, 0, *files, tmp_path / "local")
    assert on_ray(DATA, 0, *files, tmp_path / "ray") == local
    assert local.votes is not None
    assert content(tmp_path / "ray") == content(tmp_path / "local")


def test_what_is_wrong_is_said_as_by_one_process(ray_cluster: str, tmp_path: Path) -> None:
    assert ray_cluster
    files = write(tmp_path, counts={"train": 60, "val": 20, "test": 3})
    rows = pq.read_table(files[0]).to_pylist()
    rows[4]["image"] = b"no image"
    pq.write_table(pa.Table.from_pylist(rows, DATASET_SCHEMA), files[0], row_group_size=50)
    with pytest.raises(ArtifactError) as said:
        sharding.write_shards(DATA, 0, *files, tmp_path / "shards")
    with pytest.raises(ArtifactError) as heard:
        on_ray(DATA, 0, *files, tmp_path / "shards")
    assert str(heard.value) == str(said.value)
    pq.write_table(pq.read_table(files[0]).slice(1), files[0])
    with pytest.raises(ArtifactError, match="differ in length"):
        on_ray(DATA, 0, *files, tmp_path / "shards")
    assert not (tmp_path / "shards").exists()
