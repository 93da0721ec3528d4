from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from emotion_detection.artifacts import (
    DATASET,
    DATASET_SCHEMA,
    DECISIONS,
    SHARDS,
    VALIDATION_DOCS,
    VALIDATION_JSON,
    read_record,
)
from emotion_detection.data.report import ValidationReport
from emotion_detection.data.sharding import write_shards
from emotion_detection.data.shards import load_arrays
from emotion_detection.params import DataParams
from pipeline import validate

ROOT = Path(__file__).parents[2]
USAGE = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}


def face(seed: int, side: int = 48) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6), dtype=np.uint8)
    return cv2.imencode(".jpg", cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC))[1].tobytes()


def write_dataset(images: Iterable[tuple[str, str, bytes]], **header: object) -> None:
    """Write data/dataset.parquet from (path, split, bytes); the label is the folder of the path."""
    columns: dict[str, list[object]] = {name: [] for name in DATASET_SCHEMA.names}
    for path, split, data in images:
        row = {"path": path, "split": split, "label": path.split("/")[-2], "image": data}
        row |= {
            "sha256": hashlib.sha256(data).hexdigest(),
            "width": 48,
            "height": 48,
            "mode": "L",
            "format": "JPEG",
            "votes": None,
        }
        for name, value in (row | header).items():
            columns[name].append(value)
    DATASET.parent.mkdir()
    pq.write_table(pa.table(columns, schema=DATASET_SCHEMA), DATASET, row_group_size=1000)


def write_params(**sections: object) -> None:
    with Path("params.yaml").open("w") as file:
        YAML().dump({"models": {"lenet": {"architecture": "lenet"}}, **sections}, file)


def run_stage() -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
    command = [sys.executable, "-m", "pipeline.validate"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def good_faces() -> list[tuple[str, str, bytes]]:
    return [
        (f"{split}/{label}/{number}.jpg", split, face(100 * number + 10 * ("train", "val", "test").index(split) + kind))
        for split in ("train", "val", "test")
        for kind, label in enumerate(("happy", "sad"))
        for number in range(1, 6)
    ]


def test_planted_defects_are_dropped_with_their_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    faces = good_faces()
    black = cv2.imencode(".jpg", np.zeros((48, 48), np.uint8))[1].tobytes()
    planted = {
        "train/happy/copy.jpg": ("train", faces[0][2], "duplicate"),
        "test/happy/leak.jpg": ("test", faces[1][2], "leaked"),
        "val/sad/text.jpg": ("val", b"no image", "unreadable"),
        "train/sad/black.jpg": ("train", black, "constant"),
        "train/happy/both.jpg": ("train", face(7), "conflicting_labels"),
        "train/sad/both.jpg": ("train", face(7), "conflicting_labels"),
        "train/angry/other.jpg": ("train", face(8), "class"),
    }
    write_dataset([*faces, *((path, split, data) for path, (split, data, _) in planted.items())])
    write_params(data={"classes": ["happy", "sad"]})
    validate.main()
    decisions = pq.read_table(DECISIONS).to_pylist()
    assert [row["path"] for row in decisions] == [*(path for path, _, _ in faces), *planted]
    assert {row["path"]: row["reason"] for row in decisions if not row["keep"]} == {
        path: reason for path, (_, _, reason) in planted.items()
    }
    report = read_record(VALIDATION_JSON, ValidationReport)
    assert (report.images, report.kept) == (37, 30)
    assert {finding.severity for finding in report.findings} == {"warning"}
    assert (VALIDATION_DOCS / "index.html").exists()
    assert "30 of 37 images kept" in capsys.readouterr().out


def test_a_critical_failure_names_the_images_and_writes_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_dataset([*good_faces(), *((f"test/sad/broken{n}.jpg", "test", face(n)[:-50]) for n in range(20))])
    write_params()
    result = run_stage()
    assert result.returncode == 1
    assert result.stderr.count("error: ") == 1
    assert "Traceback" not in result.stderr
    assert "unreadable: 20 of 50 images (40.00%)" in result.stderr
    assert "test/sad/broken0.jpg: JPEG data cannot be decoded" in result.stderr
    assert result.stderr.count("broken") == 10
    assert "raise validation.unreadable.critical_above in params.yaml" in result.stderr
    assert str(VALIDATION_DOCS) in result.stderr
    assert read_record(VALIDATION_JSON, ValidationReport).findings[0].severity == "critical"
    assert pq.read_metadata(DECISIONS).num_rows == 50
    assert "broken0.jpg" in (VALIDATION_DOCS / "index.html").read_text()


def test_real_data_fer2013_has_every_known_defect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = Path(os.environ.get("REAL_DATA_DIR", "")) / "fer2013.zip"
    if not archive.is_file():
        pytest.skip("needs fer2013.zip in REAL_DATA_DIR")
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile(archive) as source:
        names = [name for name in source.namelist() if name.endswith(".jpg")]
        write_dataset((name, USAGE[Path(name).name.split("_")[0]], source.read(name)) for name in names)
    write_params()
    validate.main()
    report = read_record(VALIDATION_JSON, ValidationReport)
    assert report.images == 35_887
    assert report.duplicates.model_dump() == {
        "groups": 1516,
        "images": 3369,
        "redundant": 1853,
        "largest_group": 12,
        "in_train": {"val": 280, "test": 288},
        "in_train_other_label": 16,
        "conflicting_groups": 57,
        "conflicting_images": 160,
        "val_test_groups": 43,
        "held_out": 7178,
        "held_out_not_in_train": 6610,
        "held_out_unique": 6561,
    }
    assert sum(report.defects["constant"].values()) == 13
    assert report.black == {"train": 11, "val": 1, "test": 0}
    assert sum(report.defects["conflicting_labels"].values()) == 160
    assert sum(report.defects["unreadable"].values()) == 0
    printed = capsys.readouterr().out
    for figures in ("1,516 / 3,369 / 1,853", "280 / 288", "57 / 160", "7,178 / 6,610 / 6,561"):
        assert figures in printed
    kept = pq.read_table(DECISIONS, filters=[("keep", "=", True)]).to_pandas()
    train, val, test = (set(kept["sha256"][kept["split"] == split]) for split in ("train", "val", "test"))
    assert not (train | val) & test
    assert not train & val
    assert len(val) + len(test) == 6561
    assert len(kept) == len(train) + len(val) + len(test) == report.kept
    assert json.loads(VALIDATION_JSON.read_text())["kept"] == report.kept
    write_shards(DataParams(), seed=0)
    shards = {split: load_arrays(SHARDS, split).sha256 for split in ("train", "val", "test")}
    assert {split: len(digests) for split, digests in shards.items()} == {"train": 27_417, "val": 3_267, "test": 3_294}
    usage: dict[str, set[str]] = {digest: set() for digests in shards.values() for digest in digests}
    with zipfile.ZipFile(archive) as source:
        for name in names:
            if (digest := hashlib.sha256(source.read(name)).hexdigest()) in usage:
                usage[digest].add(USAGE[Path(name).name.split("_")[0]])
    for split in ("val", "test"):
        assert all(split in usage[digest] and "train" not in usage[digest] for digest in shards[split])
    assert not set(shards["val"]) & set(shards["test"])
