"""Writing and reading of shards, on small data sets made here."""

from __future__ import annotations

import hashlib
import io
import json
import resource
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from emotion_detection.artifacts import DATASET_SCHEMA, DECISIONS_SCHEMA, DatasetInfo
from emotion_detection.backend import tf
from emotion_detection.data.sharding import counts_table, write_shards
from emotion_detection.data.shards import encode_image, load_arrays, load_split, read_dataset_info, verify_shards
from emotion_detection.errors import ArtifactError
from emotion_detection.params import SPLITS, DataParams
from emotion_detection.preprocess import encode_png, prepare

Row = dict[str, Any]
COUNTS = {"train": 23, "val": 7, "test": 6}
FEATURES = {
    "image/encoded": tf.io.FixedLenFeature([], tf.string),
    "image/class/label": tf.io.FixedLenFeature([], tf.int64),
    "image/class/text": tf.io.FixedLenFeature([], tf.string),
    "image/sha256": tf.io.FixedLenFeature([], tf.string),
}


def noise(number: int, side: int = 20, channels: int = 3) -> bytes:
    rng = np.random.default_rng(number)
    return encode_png(rng.integers(0, 256, (side, side + 4, channels), dtype=np.uint8))


def make_rows(counts: dict[str, int] = COUNTS, side: int = 20) -> list[Row]:
    rows: list[Row] = []
    for split, count in counts.items():
        for _ in range(count):
            image, label = noise(len(rows), side), ("happy", "angry", "sad")[len(rows) % 3]
            rows.append({"path": f"{split}/{len(rows)}.png", "split": split, "label": label, "image": image})
    return rows


class Files:
    """Data set and decisions in a directory."""

    def __init__(self, directory: Path) -> None:
        self.dataset, self.decisions = directory / "dataset.parquet", directory / "decisions.parquet"
        self.shards = directory / "shards"

    def write(self, rows: list[Row], row_group: int = 10, dropped: tuple[str, ...] = ()) -> Files:
        full = [{"width": 1, "height": 1, "mode": "RGB", "format": "PNG", **row} for row in rows]
        full = [{"sha256": hashlib.sha256(row["image"]).hexdigest(), **row} for row in full]
        verdicts = [{"keep": row["path"] not in dropped, "reason": None, "defects": [], **row} for row in full]
        for path, schema, content in (
            (self.dataset, DATASET_SCHEMA, full),
            (self.decisions, DECISIONS_SCHEMA, verdicts),
        ):
            pq.write_table(pa.Table.from_pylist(content, schema), path, row_group_size=row_group)
        return self

    def shard(self, seed: int = 0, name: str | None = None, **data: Any) -> DatasetInfo:
        params = DataParams(**{"image_size": 16, "channels": 3, "shards": 4} | data)
        self.shards = self.shards.with_name(name or self.shards.name)
        return write_shards(params, seed, self.dataset, self.decisions, self.shards)

    def content(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.shards.iterdir()}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of `make_rows()`, 16 x 16 x 3, only to be read."""
    files = Files(tmp_path_factory.mktemp("written")).write(make_rows())
    files.shard()
    return files.shards


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """What a full disk does: writing on is refused."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def records(path: Path) -> list[dict[str, Any]]:
    dataset = tf.data.TFRecordDataset(str(path)).map(lambda record: tf.io.parse_single_example(record, FEATURES))
    return list(dataset.as_numpy_iterator())


# --- writing


@pytest.mark.parametrize("side", [20, 100], ids=["small images", "large images, decoded in threads"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_kept_image_stands_once_in_its_split(files: Files, side: int, channels: int) -> None:
    rows = make_rows(side=side)
    dropped = ("train/4.png", "test/35.png")
    info = files.write(rows, dropped=dropped).shard(channels=channels)
    found = []
    for split in SPLITS:
        for path in sorted(files.shards.glob(f"{split}-*")):
            for record in records(path):
                pixels = tf.io.decode_png(record["image/encoded"]).numpy()
                text, sha256 = record["image/class/text"].decode(), record["image/sha256"].decode()
                assert info.labels[record["image/class/label"]] == text
                found.append((split, text, sha256, pixels.tobytes()))
    expected = [
        (
            row["split"],
            row["label"],
            hashlib.sha256(row["image"]).hexdigest(),
            prepare(row["image"], 16, channels).tobytes(),
        )
        for row in rows
        if row["path"] not in dropped
    ]
    assert sorted(found) == sorted(expected)


def test_names_sizes_and_shuffling(written: Path) -> None:
    sizes = {path.name: len(records(path)) for path in sorted(written.glob("*.tfrecord"))}
    assert sizes == {
        f"{split}-{number:05d}-of-00004.tfrecord": len(range(number, count, 4))
        for split, count in COUNTS.items()
        for number in range(4)
    }
    order = [hashlib.sha256(row["image"]).hexdigest() for row in make_rows() if row["split"] == "train"]
    shuffled = load_arrays(written, "train").sha256
    assert shuffled != order
    assert sorted(shuffled) == sorted(order)


def test_equal_input_and_seed_give_equal_bytes(files: Files) -> None:
    files.write(make_rows(), row_group=10).shard(seed=5)
    first = files.content()
    files.write(make_rows(), row_group=7).shard(seed=5, name="again")
    assert files.content() == first
    files.shard(seed=6, name="other")
    assert files.content().keys() == first.keys()
    assert files.content() != first


def test_fewer_images_than_shards_leaves_some_empty(files: Files) -> None:
    info = files.write(make_rows({"train": 4, "val": 1})).shard(shards=6)
    assert [len(records(files.shards / name)) for name in info.files] == [1] * 4 + [0, 0] + [1] + [0] * 5 + [0] * 6
    assert verify_shards(files.shards) == info
    for shuffle_seed in (None, 1):
        for cache in (False, True):
            batches = load_split(files.shards, "test", 4, shuffle_seed=shuffle_seed, cache=cache)
            assert list(batches) == []
            train = load_split(files.shards, "train", 3, shuffle_seed=shuffle_seed, cache=cache)
            assert [len(labels) for _, labels in train] == [3, 1]


def test_dataset_info_says_what_the_shards_hold(files: Files) -> None:
    rows = make_rows({"train": 9, "val": 3})
    rows[0]["label"] = "angry"  # of the training split now 2 happy, 4 angry, 3 sad
    info = files.write(rows).shard(channels=1)
    assert info == read_dataset_info(files.shards)
    assert info.labels == ("angry", "happy", "sad")
    assert (info.image_size, info.channels) == (16, 1)
    assert info.counts["train"] == {"angry": 4, "happy": 2, "sad": 3}
    assert info.counts["test"] == {"angry": 0, "happy": 0, "sad": 0}
    assert info.class_weights == pytest.approx({"angry": 3 / 4, "happy": 3 / 2, "sad": 1})
    assert info.reference_shares == pytest.approx({"angry": 4 / 9, "happy": 2 / 9, "sad": 3 / 9})
    assert list(info.files) == sorted(info.files, key=lambda name: SPLITS.index(name.split("-")[0]))


def test_classes_give_the_order_of_the_labels(files: Files) -> None:
    info = files.write(make_rows()).shard(classes=("sad", "happy", "angry"))
    assert info.labels == ("sad", "happy", "angry")
    labels = Counter(load_arrays(files.shards, "train").labels.tolist())
    assert labels == {index: info.counts["train"][name] for index, name in enumerate(info.labels)}


def test_data_hash_names_the_kept_images_labels_and_splits_alone(files: Files) -> None:
    rows = make_rows()
    known = files.write(rows).shard().data_hash
    assert files.write(rows[::-1]).shard(seed=3, shards=2).data_hash == known
    assert files.write(rows, dropped=("val/25.png",)).shard().data_hash != known
    for key, value in (("label", "angry"), ("split", "val"), ("image", noise(99))):
        assert files.write([rows[0] | {key: value}, *rows[1:]]).shard().data_hash != known, key


def test_one_shard_at_a_time_is_in_memory(files: Files) -> None:
    files.write(make_rows({"train": 600}, side=8), row_group=100)
    tracemalloc.start()
    files.shard(image_size=64, shards=20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 600 * 64 * 64 * 3 / 2


def test_counts_table_has_every_class_and_split(written: Path) -> None:
    table = counts_table(read_dataset_info(written))
    cells = [list(column.cells) for column in table.columns]
    assert [str(column.header) for column in table.columns] == ["class", "train", "val", "test", "total"]
    assert [column[-1] for column in cells] == ["total", "23", "7", "6", "36"]
    assert cells[0] == ["angry", "happy", "sad", "total"]


# --- bad input


def test_missing_input(files: Files) -> None:
    with pytest.raises(ArtifactError, match=r"decisions\.parquet: missing"):
        files.shard()
    files.write(make_rows())
    files.dataset.unlink()
    with pytest.raises(ArtifactError, match=r"dataset\.parquet: missing"):
        files.shard()
    assert not files.shards.exists()


@pytest.mark.parametrize("rows", [make_rows()[:-1], make_rows()[::-1], [], make_rows()[1:]])
def test_decisions_of_another_data_set(files: Files, rows: list[Row]) -> None:
    files.write(make_rows())
    other = Files(files.shards.parent / "other")
    other.dataset.parent.mkdir()
    files.dataset = other.write(rows).dataset
    with pytest.raises(ArtifactError, match=r"decisions\.parquet: not made from this .*run `dvc repro`"):
        files.shard()


def test_damaged_data_set(files: Files) -> None:
    files.write(make_rows())
    content = bytearray(files.dataset.read_bytes())
    content[100:5000] = bytes(4900)
    files.dataset.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"dataset\.parquet: damaged; remove it"):
        files.shard()


@pytest.mark.parametrize("image", [b"", b"no image", noise(1)[:300]])
def test_an_image_that_was_kept_but_cannot_be_prepared_is_named(files: Files, image: bytes) -> None:
    rows = make_rows()
    rows[30] |= {"image": image}
    with pytest.raises(ArtifactError, match=r"dataset\.parquet: test/30\.png: .*unreadable\.drop must name test"):
        files.write(rows).shard()
    assert not list(files.shards.parent.glob(".shards*"))


def test_an_image_above_max_pixels_is_named(files: Files) -> None:
    with pytest.raises(ArtifactError, match=r"train/0\.png: 24 x 20 pixels; at most 100"):
        files.write(make_rows()).shard(max_pixels=100)


def test_a_class_without_training_images(files: Files) -> None:
    rows = [row for row in make_rows() if (row["split"], row["label"]) != ("train", "sad")]
    with pytest.raises(ArtifactError, match="keeps no training image of sad"):
        files.write(rows).shard()
    with pytest.raises(ArtifactError, match="keeps no training image of surprise"):
        files.write(make_rows()).shard(classes=("angry", "happy", "sad", "surprise"))
    with pytest.raises(ArtifactError, match="keeps no training image of any class"):
        files.write([]).shard()


def test_decisions_with_other_classes_or_splits(files: Files) -> None:
    with pytest.raises(ArtifactError, match=r"keeps sad, not in data\.classes"):
        files.write(make_rows()).shard(classes=("angry", "happy"))
    with pytest.raises(ArtifactError, match=r"train/0\.png: split 'Training', expected one of"):
        files.write([make_rows()[0] | {"split": "Training"}]).shard()


@pytest.mark.parametrize("limit", [20_000, 95_000], ids=["in the temporary file", "in a shard"])
def test_disk_full_leaves_what_stood_there_before(files: Files, limit: int) -> None:
    # 100 slots of 836 bytes are 83,600 bytes, and as records in one shard more than 100,000.
    before = files.write(make_rows({"train": 100})).shard()
    with file_size_limit(limit), pytest.raises(ArtifactError, match=r"shards: cannot be written: .*[Ff]ile too large"):
        files.shard(seed=1, shards=1)
    assert verify_shards(files.shards) == before
    assert [path.name for path in files.shards.parent.glob("*shards*")] == ["shards"]


# --- the image format


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 48, 97, 1024])
def test_encoded_images_are_png_files_for_everyone(size: int, channels: int) -> None:
    pixels = np.random.default_rng(size).integers(0, 256, (size, size, channels), dtype=np.uint8)
    encoded = encode_image(pixels)
    with Image.open(io.BytesIO(encoded)) as opened:
        assert opened.format == "PNG"
        opened.verify()  # chunk checksums
    with Image.open(io.BytesIO(encoded)) as opened:
        assert (np.asarray(opened).reshape(pixels.shape) == pixels).all()
    assert (tf.io.decode_png(encoded).numpy() == pixels).all()
    decoded = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    assert (decoded.reshape(pixels.shape)[..., ::-1] == pixels).all()
    assert (prepare(encoded, size, channels) == pixels).all()


# --- reading


def test_arrays_are_in_the_order_of_the_files(written: Path) -> None:
    for split in SPLITS:
        expected = [record for path in sorted(written.glob(f"{split}-*")) for record in records(path)]
        arrays = load_arrays(written, split)
        assert (arrays.images.dtype, arrays.labels.dtype) == (np.uint8, np.int32)
        assert arrays.images.shape == (COUNTS[split], 16, 16, 3)
        assert arrays.sha256 == [record["image/sha256"].decode() for record in expected]
        assert arrays.labels.tolist() == [record["image/class/label"] for record in expected]
        for image, record in zip(arrays.images, expected, strict=True):
            assert (image == tf.io.decode_png(record["image/encoded"]).numpy()).all()


@pytest.mark.parametrize("cache", [False, True])
def test_split_in_order(written: Path, cache: bool) -> None:
    arrays, batches = load_arrays(written, "train"), load_split(written, "train", 5, cache=cache)
    assert len(batches) == 5
    images, labels = zip(*batches.as_numpy_iterator(), strict=True)
    assert [image.shape for image in images] == [(5, 16, 16, 3)] * 4 + [(3, 16, 16, 3)]
    assert (images[0].dtype, labels[0].dtype) == (np.uint8, np.int32)
    assert (np.concatenate(images) == arrays.images).all()
    assert (np.concatenate(labels) == arrays.labels).all()


def epoch(batches: tf.data.Dataset) -> list[bytes]:
    return [
        image.tobytes() + bytes([label])
        for images, labels in batches.as_numpy_iterator()
        for image, label in zip(images, labels, strict=True)
    ]


@pytest.mark.parametrize("cache", [False, True])
def test_shuffling_is_anew_in_each_epoch_and_the_same_for_a_seed(written: Path, cache: bool) -> None:
    in_order = epoch(load_split(written, "train", 4, cache=cache))
    one, two, other = (load_split(written, "train", 4, shuffle_seed=seed, cache=cache) for seed in (1, 1, 2))
    epochs = [epoch(one), epoch(one), epoch(one)]
    assert epochs == [epoch(two), epoch(two), epoch(two)]
    assert epoch(other) not in epochs
    assert len({tuple(order) for order in [*epochs, in_order]}) == 4
    assert all(sorted(order) == sorted(in_order) for order in epochs)


def test_a_shard_that_is_missing_or_altered_is_named(written: Path, tmp_path: Path) -> None:
    for path in written.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert verify_shards(tmp_path) == read_dataset_info(written)
    victim = tmp_path / "val-00002-of-00004.tfrecord"
    content = bytearray(victim.read_bytes())
    content[200] ^= 1
    victim.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"val-00002-of-00004\.tfrecord: altered"):
        verify_shards(tmp_path)
    with pytest.raises(ArtifactError, match=r"val-\*\.tfrecord: .*corrupted"):
        load_arrays(tmp_path, "val")
    victim.unlink()
    for read in (verify_shards, lambda path: load_arrays(path, "val"), lambda path: load_split(path, "val", 4)):
        with pytest.raises(ArtifactError, match=r"val-00002-of-00004\.tfrecord: missing"):
            read(tmp_path)
    assert len(load_arrays(tmp_path, "test").labels) == COUNTS["test"]


def test_no_shards_at_all(tmp_path: Path) -> None:
    for read in (read_dataset_info, verify_shards, lambda path: load_split(path, "val", 4)):
        with pytest.raises(ArtifactError, match=r"dataset\.json: missing; `dvc repro` makes it"):
            read(tmp_path)


@pytest.mark.parametrize("change", [1, -1])
def test_shards_that_do_not_hold_what_dataset_json_says(written: Path, tmp_path: Path, change: int) -> None:
    for path in written.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    info = json.loads((tmp_path / "dataset.json").read_text())
    info["counts"]["val"]["sad"] += change
    (tmp_path / "dataset.json").write_text(json.dumps(info))
    with pytest.raises(ArtifactError, match=r"val-\*\.tfrecord: .*remove"):
        load_arrays(tmp_path, "val")
