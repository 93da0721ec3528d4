"""Ingest: rows, splits, bounds of memory and disk."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from emotion_detection.artifacts import DATASET, DATASET_SCHEMA, open_parquet
from emotion_detection.data import ingest as ingest_module
from emotion_detection.data.ingest import ingest, split_chooser, summary
from emotion_detection.data.sources import Sample, open_source
from emotion_detection.errors import SourceError
from emotion_detection.params import DataParams, Split, SplitParams
from tests.trees import png, two_classes, write_tree

SHARES = SplitParams(val=0.2, test=0.3)
NAMES = st.sampled_from(["train", "val", "test"])
HASHES = st.binary(max_size=20).map(lambda data: hashlib.sha256(data).hexdigest())


@dataclass
class Given:
    """A source made of the samples it is given."""

    samples: Sequence[Sample]
    named_splits: frozenset[Split] = frozenset()
    kind: str = "given"

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)


def encoded(mode: str, format_name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (20, 10)).save(buffer, format_name, **options)
    return buffer.getvalue()


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded("RGB", "JPEG", exif=exif)


ODD_IMAGES = {
    "grey": (encoded("L", "JPEG"), 20, 10, "L", "JPEG"),
    "rotated": (rotated(), 10, 20, "RGB", "JPEG"),
    "rgba": (encoded("RGBA", "PNG"), 20, 10, "RGBA", "PNG"),
    "palette": (encoded("P", "PNG"), 20, 10, "P", "PNG"),
    "16 bits": (encoded("I;16", "PNG"), 20, 10, "I;16", "PNG"),
    "cmyk": (encoded("CMYK", "JPEG"), 20, 10, "CMYK", "JPEG"),
    "animated": (
        encoded("P", "GIF", save_all=True, append_images=[Image.new("P", (20, 10), 1)]), 20, 10, "P", "GIF",
    ),
    "webp": (encoded("RGB", "WEBP"), 20, 10, "RGB", "WEBP"),
    "text": (b"just words", None, None, None, None),
    "empty": (b"", None, None, None, None),
    "truncated header": (encoded("RGB", "PNG")[:20], None, None, None, None),
    "truncated pixels": (encoded("RGB", "PNG")[:-20], 20, 10, "RGB", "PNG"),
    "too many pixels": (encoded("1", "PNG").replace(b"\x00\x00\x00\x14", b"\x00\x01\x00\x00"), None, None, None, None),
}  # fmt: skip


def test_odd_images_pass_untouched_with_what_their_header_tells(tmp_path):
    samples = [Sample(name, "odd", data, None) for name, (data, *_) in ODD_IMAGES.items()]
    ingest(Given(samples), tmp_path / "d.parquet", SHARES, seed=0, max_pixels=200)
    rows = pq.read_table(tmp_path / "d.parquet").to_pylist()
    found = {row["path"]: tuple(row[k] for k in ("image", "width", "height", "mode", "format")) for row in rows}
    assert found == ODD_IMAGES
    assert all(row["sha256"] == hashlib.sha256(row["image"]).hexdigest() for row in rows)


def test_the_file_fits_the_contract_and_repeats_byte_for_byte(tmp_path):
    source = open_source(DataParams(source=str(write_tree(tmp_path / "faces", two_classes()))), seed=0)
    first, second = tmp_path / "new/folder/a.parquet", tmp_path / "b.parquet"
    counts = ingest(source, first, SHARES, seed=0)
    ingest(source, second, SHARES, seed=0)
    assert first.read_bytes() == second.read_bytes()
    with open_parquet(first, DATASET_SCHEMA) as file:
        rows = file.read().to_pylist()
    assert [row["path"] for row in rows] == sorted(two_classes())
    assert counts == Counter((row["split"], row["label"]) for row in rows)


def test_row_groups_are_bounded_by_rows_and_by_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(ingest_module, "ROWS_PER_GROUP", 4)
    monkeypatch.setattr(ingest_module, "BYTES_PER_GROUP", 1000)
    sizes = [1, 1, 1, 1, 1, 999, 5000, 1, 1]
    ingest(Given([Sample(str(i), "a", bytes(size), None) for i, size in enumerate(sizes)]), tmp_path / "d", SHARES, 0)
    metadata = pq.read_metadata(tmp_path / "d")
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [4, 2, 1, 2]


def test_named_splits_stay(tmp_path):
    samples = [Sample(f"{split}", "a", png(i), split) for i, split in enumerate(("train", "val", "test"))]
    counts = ingest(Given(samples, frozenset(("train", "val", "test"))), tmp_path / "d", SHARES, seed=0)
    assert counts == {("train", "a"): 1, ("val", "a"): 1, ("test", "a"): 1}


@given(split=st.none() | NAMES, sha256=HASHES, seed=st.integers(0, 2**31 - 1), named=st.frozensets(NAMES))
def test_any_image_lands_where_the_source_or_its_bytes_say(split, sha256, seed, named):
    named = named | {"train"} if named else named
    split = split if split in named else ("train" if named else None)
    chosen = split_chooser(named, SHARES, seed)(split, sha256)
    assert chosen == split_chooser(named, SHARES, seed)(split, sha256)
    if split in ("val", "test"):
        assert chosen == split
    else:
        assert chosen == "train" or chosen not in named


@given(hashes=st.lists(HASHES, max_size=10), seed=st.integers(0, 100))
def test_a_source_without_val_cuts_the_same_test_images_and_the_reverse(hashes, seed):
    """A test split cut from unnamed images is the one cut from train, so naming val later moves nothing else."""
    both = split_chooser(frozenset(), SHARES, seed)
    test_only = split_chooser(frozenset(("train", "val")), SHARES, seed)
    for sha256 in hashes:
        assert (both(None, sha256) == "test") == (test_only("train", sha256) == "test")


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (frozenset(), {"train": 0.5, "val": 0.2, "test": 0.3}),
        (frozenset(("train",)), {"train": 0.5, "val": 0.2, "test": 0.3}),
        (frozenset(("train", "test")), {"train": 0.8, "val": 0.2}),
        (frozenset(("train", "val")), {"train": 0.7, "test": 0.3}),
        (frozenset(("train", "val", "test")), {"train": 1.0}),
    ],
)
def test_what_the_source_lacks_is_cut_by_its_share(named, expected):
    choose = split_chooser(named, SHARES, seed=7)
    found = Counter(choose("train" if named else None, f"{i:064x}") for i in range(20_000))
    assert found.keys() == expected.keys()
    for split, share in expected.items():
        assert found[split] / 20_000 == pytest.approx(share, abs=0.015)  # four standard deviations


def test_another_seed_cuts_otherwise():
    one, two = (split_chooser(frozenset(), SHARES, seed) for seed in (1, 2))
    assert any(one(None, f"{i:064x}") != two(None, f"{i:064x}") for i in range(50))


def test_adding_images_moves_none(tmp_path):
    samples = [Sample(str(i), "ab"[i % 2], bytes([i]), None) for i in range(100)]

    def sides(part: Sequence[Sample]) -> dict[str, str]:
        ingest(Given(part), tmp_path / "d", SHARES, seed=0)
        return {row["path"]: row["split"] for row in pq.read_table(tmp_path / "d").to_pylist()}

    assert sides(samples[50:]).items() <= sides(samples).items()


@pytest.mark.parametrize("named", [{"test"}, {"val"}, {"val", "test"}])
def test_a_source_with_nothing_to_train_on_is_refused(tmp_path, named):
    with pytest.raises(SourceError, match="no train split; add one"):
        ingest(Given([], frozenset(named)), tmp_path / "d", SHARES, seed=0)


def test_an_error_of_the_source_leaves_nothing_behind(tmp_path):
    root = write_tree(tmp_path / "faces", two_classes())
    source = open_source(DataParams(source=str(root)), seed=0)
    (root / "sad/2.png").unlink()
    with pytest.raises(SourceError):
        ingest(source, tmp_path / "out/d.parquet", SHARES, seed=0)
    assert list((tmp_path / "out").iterdir()) == []


def test_the_summary_counts_classes_and_splits():
    table = summary(Counter({("train", "sad"): 1200, ("val", "happy"): 3}))
    cells = list(zip(*(column.cells for column in table.columns), strict=True))
    assert cells == [("happy", "0", "3", "0"), ("sad", "1,200", "0", "0"), ("all", "1,200", "3", "0")]


STREAM = """
import resource, sys
from pathlib import Path
from emotion_detection.data.ingest import ingest
from emotion_detection.data.sources import Sample
from emotion_detection.errors import reported
from emotion_detection.params import SplitParams

class Stream:
    kind, named_splits = "given", frozenset()
    def __len__(self):
        return count
    def __iter__(self):
        return (Sample(str(i), "a", i.to_bytes(4, "big") * 65536, None) for i in range(count))

count, path = int(sys.argv[1]), Path(sys.argv[2])
if len(sys.argv) > 3:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
with reported():
    ingest(Stream(), path, SplitParams(), seed=0)
# Not ru_maxrss: that counts what the parent held when it started us.
print(next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def stream(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", STREAM, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_memory_stays_flat_while_the_data_grows(tmp_path):
    mebibyte = 4  # images of 256 KiB
    small, large = (int(stream(size * mebibyte, tmp_path / "d").stdout) for size in (60, 200))
    assert large - small < 60 * 2**20


def test_a_full_disk_is_reported_and_leaves_nothing_behind(tmp_path):
    result = stream(100, tmp_path / "out/d.parquet", 10_000_000)
    assert result.returncode == 1
    assert "d.parquet: cannot be written" in result.stderr
    assert "File too large; free space or rights" in result.stderr
    assert "Traceback" not in result.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_the_stage_runs(tmp_path, monkeypatch, capsys):
    from pipeline.ingest import main

    write_tree(tmp_path / "faces", two_classes())
    (tmp_path / "params.yaml").write_text("data: {source: faces}\nmodels: {a: {architecture: lenet}}\n")
    monkeypatch.chdir(tmp_path)
    main()
    assert "happy" in capsys.readouterr().out
    assert pq.read_metadata(DATASET).num_rows == len(two_classes())


def test_the_synthetic_source_is_ingested(tmp_path):
    data = DataParams.model_validate({"synthetic": {"count": 40, "image_size": 16}})
    counts = ingest(open_source(data, seed=0), tmp_path / "d", data.split, seed=0)
    assert counts.total() == 40


def test_fer2013_real_data_agrees_with_its_index(tmp_path):
    root = Path(os.environ.get("REAL_DATA_DIR", ""))
    if not (root / "fer2013.zip").is_file():
        pytest.skip("REAL_DATA_DIR has no fer2013.zip")
    counts = ingest(open_source(DataParams(source=str(root / "fer2013.zip")), seed=0), tmp_path / "d", SHARES, seed=0)
    by_split = {split: sum(n for (s, _), n in counts.items() if s == split) for split in ("train", "val", "test")}
    assert by_split == {"train": 28709, "val": 3589, "test": 3589}

    splits = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
    with gzip.open(root / "fer2013_index.csv.gz", "rt") as file:
        index = {(r["path"], splits[r["usage"]], r["emotion"], r["md5"]) for r in csv.DictReader(file)}
    rows = pq.read_table(tmp_path / "d").to_pylist()
    assert {(r["path"], r["split"], r["label"], hashlib.md5(r["image"]).hexdigest()) for r in rows} == index
    assert {(r["width"], r["height"], r["mode"], r["format"]) for r in rows} == {(48, 48, "L", "JPEG")}
