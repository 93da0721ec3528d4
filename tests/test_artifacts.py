"""Parquet files that cannot be read are named, wherever the damage is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emotion_detection.artifacts import DATASET_SCHEMA, open_parquet, read_table
from emotion_detection.data.rows import images_at, images_of
from emotion_detection.errors import ArtifactError

HASH = hashlib.sha256(b"0").hexdigest()
READERS: dict[str, Callable[[Path], object]] = {
    "read_table": lambda path: read_table(path, DATASET_SCHEMA),
    "images_at": lambda path: images_at(path, [0]),
    "images_of": lambda path: images_of(path, [HASH]),
}


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    random, rows = np.random.default_rng(0), []
    for number in range(20):
        digest = hashlib.sha256(str(number).encode()).hexdigest()
        row = {"path": str(number), "split": "train", "label": "happy", "image": random.bytes(1000), "sha256": digest}
        rows.append({name: row.get(name) for name in DATASET_SCHEMA.names})
    pq.write_table(pa.Table.from_pylist(rows, DATASET_SCHEMA), tmp_path / "dataset.parquet")
    return tmp_path / "dataset.parquet"


def footer(path: Path) -> int:
    """Where it begins: its length stands before the last four bytes."""
    content = path.read_bytes()
    return len(content) - 8 - int.from_bytes(content[-8:-4], "little")


def spoil(path: Path, start: int, stop: int | None) -> None:
    """Overwrite bytes; negative places count from the end."""
    content = bytearray(path.read_bytes())
    content[start:stop] = b"\xff" * len(content[start:stop])
    path.write_bytes(content)


def test_whole_tables_and_single_columns_are_read(dataset: Path) -> None:
    assert len(read_table(dataset, DATASET_SCHEMA)) == 20
    assert read_table(dataset, DATASET_SCHEMA, ["path"]).column_names == ["path"]
    assert images_of(dataset, [HASH]) == {HASH: images_at(dataset, [0])[0]}


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_page_is_named(dataset: Path, name: str) -> None:
    spoil(dataset, 4, footer(dataset))
    open_parquet(dataset, DATASET_SCHEMA)
    with pytest.raises(ArtifactError, match=r"dataset\.parquet: damaged; remove it and run `dvc repro`"):
        READERS[name](dataset)


@pytest.mark.parametrize("damage", [(-60, -8), (-8, -4), (-4, None)])
def test_a_damaged_footer_is_named(dataset: Path, damage: tuple[int, int | None]) -> None:
    spoil(dataset, *damage)
    with pytest.raises(ArtifactError, match=r"dataset\.parquet: damaged; remove it"):
        open_parquet(dataset, DATASET_SCHEMA)


def test_a_missing_file_and_other_columns_are_named(dataset: Path) -> None:
    with pytest.raises(ArtifactError, match="expected \\['path', 'split'\\]"):
        read_table(dataset, pa.schema([DATASET_SCHEMA.field("path"), DATASET_SCHEMA.field("split")]))
    dataset.unlink()
    with pytest.raises(ArtifactError, match="missing; `dvc repro` makes it"):
        read_table(dataset, DATASET_SCHEMA)
