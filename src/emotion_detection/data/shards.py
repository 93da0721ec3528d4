"""Shards -> arrays and tf.data pipelines; the layout of a record stands here for writer and reader alike.

    load_split(SHARDS, "train", batch_size=64, shuffle_seed=0)   -> batches of uint8 (B, S, S, C), int32 (B,)
    load_arrays(SHARDS, "test").images                           -> uint8 (N, S, S, C)

A record is a `tf.train.Example` with `image/encoded`, `image/class/label`, `image/class/text` and `image/sha256`, and
where the data set has votes `image/class/votes`, the share of each label (its label alone where nobody voted for any),
and `image/class/voters`, how many did.
`image/encoded` is a PNG that any program opens, written without compression and with one deflate block per row. So
every pixel of every record has the same place, and a whole batch is decoded by one reshape: several times faster
than one decoder call per image (`python -m benchmarks.read_shards`), for files up to half as large again.
"""

from __future__ import annotations

import hashlib
import math
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emotion_detection.artifacts import SHARDS, DatasetInfo, read_record
from emotion_detection.backend import tf
from emotion_detection.errors import ArtifactError
from emotion_detection.params import Split

INFO_FILE = "dataset.json"

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 3: 2}  # channels -> grey, RGB
_FIRST_ROW = 43  # bytes before it: signature 8, IHDR 25, length and name of IDAT 8, zlib header 2
_ROW_PREFIX = 6  # bytes before each row's pixels: header of the deflate block 5, PNG filter 1

# A larger buffer would mix little better, since the files are shuffled already, but delays the first batch.
_SHUFFLE_RECORDS = 2**13
_SHUFFLE_BYTES = 2**28
_OPEN_SHARDS = 4  # of ten: with all of them open, an image would stand at about the same place in every epoch
_READ_BATCH = 128
_THREADS = os.cpu_count()
_AHEAD = 4  # batches made in advance

Part = tuple[int, int]
"""Which of so many readers this is, from zero: of n readers each has every n-th shard."""
WHOLE: Part = (0, 1)


@dataclass(frozen=True)
class Arrays:
    """One split in memory, in the order of the files."""

    images: NDArray[np.uint8]
    """uint8 (N, S, S, C)."""
    labels: NDArray[np.int32]
    """int32 (N,), indices into `DatasetInfo.labels`."""
    sha256: list[str]
    """Of the original image files, hexadecimal."""
    votes: NDArray[np.float32] | None = None
    """float32 (N, K), the shares of the votes; None where the data set has none."""
    voters: NDArray[np.float32] | None = None
    """float32 (N,), of how many votes these are the shares; 0 where the label stands for them."""

    @property
    def agreement(self) -> NDArray[np.float64] | None:
        """Share of the voters who saw what most of them saw, (N,), NaN where nobody voted; None without votes."""
        if self.votes is None or self.voters is None:
            return None
        return np.where(self.voters > 0, self.votes.max(axis=1).astype(np.float64), np.nan)


def shard_name(split: Split, number: int, shards: int) -> str:
    """File name of one shard: `train-00000-of-00010.tfrecord`."""
    return f"{split}-{number:05d}-of-{shards:05d}.tfrecord"


def shard_size(images: int, number: int, shards: int) -> int:
    """Images of one shard of a split; the first ones have one more than the others."""
    least, rest = divmod(images, shards)
    return least + (number < rest)


def read_dataset_info(directory: Path = SHARDS) -> DatasetInfo:
    """Read what the shards hold.

    Raises:
        ArtifactError: dataset.json is missing or does not fit the schema.
    """
    return read_record(directory / INFO_FILE, DatasetInfo)


def verify_shards(directory: Path = SHARDS) -> DatasetInfo:
    """Compare every shard with its checksum in dataset.json.

    Raises:
        ArtifactError: a file is missing or altered; the message names it.
    """
    info = read_dataset_info(directory)
    for name, expected in info.files.items():
        if sha256_of(_existing(directory / name)) != expected:
            raise ArtifactError(
                f"{directory / name}: altered since it was written; remove {directory} and run `dvc repro`"
            )
    return info


def load_split(  # noqa: PLR0913
    directory: Path,
    split: Split,
    batch_size: int,
    *,
    shuffle_seed: int | None = None,
    cache: bool = False,
    part: Part = WHOLE,
) -> tf.data.Dataset:
    """Batches of one split, decoded as they are read.

    Args:
        shuffle_seed: draws the order anew in each epoch, the same for equal seeds (this one and TensorFlow's global
            one): the order of the shards, then that of the records in a buffer of 8192 (at most 256 MB), which is
            filled from four shards at a time. None: the order of the files.
        cache: hold the decoded split in memory, N * S * S * C bytes, and always shuffle uniformly; the whole of it.
        part: which shards to read.

    Returns:
        Dataset of (uint8 (B, S, S, C), int32 (B,)) with known cardinality; the last batch may be smaller.

    Raises:
        ArtifactError: dataset.json or a shard is missing, or with `cache` does not hold what it should.
    """
    if cache:
        batches = _cached(load_arrays(directory, split), batch_size, shuffle_seed)
    else:
        batches = _streamed(directory, split, batch_size, shuffle_seed, "label", part)
    return untuned(batches.prefetch(_AHEAD))


def load_voted(
    directory: Path, split: Split, batch_size: int, *, shuffle_seed: int | None = None, part: Part = WHOLE
) -> tf.data.Dataset:
    """As `load_split`, with the shares of the votes in place of labels: (uint8 (B, S, S, C), float32 (B, K)).

    Raises:
        ArtifactError: dataset.json or a shard is missing, or the data set has no votes.
    """
    if read_dataset_info(directory).votes is None:
        raise ArtifactError(f"{directory}: holds no votes; set data.votes and run `dvc repro`")
    return untuned(_streamed(directory, split, batch_size, shuffle_seed, "votes", part).prefetch(_AHEAD))


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The data set without TensorFlow's autotuning.

    Its thread sleeps 10 ms, 20 ms, 40 ms ... up to a minute between two looks, and an iterator cannot be freed before
    it wakes: every epoch would end with seconds of waiting.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def load_arrays(directory: Path, split: Split) -> Arrays:
    """All of one split, in the order of the files (shards by number, then records).

    Raises:
        ArtifactError: dataset.json or a shard is missing, damaged or holds another number of images.
    """
    info = read_dataset_info(directory)
    records = tf.data.TFRecordDataset(_files(directory, info, split)).batch(_READ_BATCH)
    images = np.empty((_count(info, split), info.image_size, info.image_size, info.channels), np.uint8)
    labels = np.empty(len(images), np.int32)
    sha256: list[str] = []
    votes = None if info.votes is None else np.empty((len(images), len(info.labels)), np.float32)
    voters = None if info.votes is None else np.empty(len(images), np.float32)
    try:
        for batch in untuned(records.map(_parser(info), num_parallel_calls=_THREADS)).as_numpy_iterator():
            place = slice(len(sha256), len(sha256) + len(batch["label"]))
            images[place], labels[place] = batch["image"], batch["label"]
            if votes is not None and voters is not None:
                votes[place], voters[place] = batch["votes"], batch["voters"]
            sha256 += [digest.decode() for digest in batch["sha256"]]
    except (tf.errors.OpError, ValueError) as error:
        raise _damaged(directory, split, str(error)) from None
    if len(sha256) != len(images):
        raise _damaged(directory, split, f"{len(sha256)} images where {INFO_FILE} says {len(images)}")
    return Arrays(images, labels, sha256, votes, voters)


def encode_record(
    pixels: NDArray[np.uint8],
    label: int,
    text: str,
    sha256: bytes,
    votes: tuple[NDArray[np.float32], float] | None = None,
) -> bytes:
    """One record of a shard.

    Args:
        pixels: uint8 (S, S, C).
        label: index of the class.
        text: name of the class.
        sha256: of the original image file, hexadecimal.
        votes: float32 (K,), shares of the labels, and how many voted; None for a data set without votes.
    """

    def of_bytes(value: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    def of_floats(values: list[float]) -> tf.train.Feature:
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))

    features = {
        "image/encoded": of_bytes(encode_image(pixels)),
        "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
        "image/class/text": of_bytes(text.encode()),
        "image/sha256": of_bytes(sha256),
    }
    if votes is not None:
        features["image/class/votes"] = of_floats(votes[0].tolist())
        features["image/class/voters"] = of_floats([votes[1]])
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return bytes(example.SerializeToString(deterministic=True))


def encode_image(pixels: NDArray[np.uint8]) -> bytes:
    """Write a square image as an uncompressed PNG with one deflate block per row (RFC 1951, section 3.2.4).

    Args:
        pixels: uint8 (S, S, C), grey or RGB.
    """
    size, _, channels = pixels.shape
    length = 1 + size * channels
    rows = np.zeros((size, _ROW_PREFIX + size * channels), np.uint8)
    rows[:, :5] = np.frombuffer(struct.pack("<BHH", 0, length, length ^ 0xFFFF), np.uint8)
    rows[-1, 0] = 1  # marks the last block
    rows[:, _ROW_PREFIX:] = pixels.reshape(size, -1)
    checksum = zlib.adler32(rows[:, 5:].tobytes())
    header = struct.pack(">IIBBBBB", size, size, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    stream = b"\x78\x01" + rows.tobytes() + struct.pack(">I", checksum)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", stream) + _chunk(b"IEND", b"")


def sha256_of(path: Path) -> str:
    """Checksum of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _decode_images(encoded: tf.Tensor, size: int, channels: int) -> tf.Tensor:
    row = _ROW_PREFIX + size * channels
    rows = tf.io.decode_raw(encoded, tf.uint8)[:, _FIRST_ROW : _FIRST_ROW + size * row]
    return tf.reshape(tf.reshape(rows, [-1, size, row])[:, :, _ROW_PREFIX:], [-1, size, size, channels])


def _parser(info: DatasetInfo) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    features = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/class/label": tf.io.FixedLenFeature([], tf.int64),
        "image/sha256": tf.io.FixedLenFeature([], tf.string),
    }
    if info.votes is not None:
        features["image/class/votes"] = tf.io.FixedLenFeature([len(info.labels)], tf.float32)
        features["image/class/voters"] = tf.io.FixedLenFeature([], tf.float32)

    def parse(records: tf.Tensor) -> dict[str, tf.Tensor]:
        example = tf.io.parse_example(records, features)
        image = _decode_images(example["image/encoded"], info.image_size, info.channels)
        label = tf.cast(example["image/class/label"], tf.int32)
        voted = {} if info.votes is None else {name: example[f"image/class/{name}"] for name in ("votes", "voters")}
        return {"image": image, "label": label, "sha256": example["image/sha256"], **voted}

    return parse


def _streamed(  # noqa: PLR0913, PLR0917  as load_split and load_voted
    directory: Path, split: Split, batch_size: int, shuffle_seed: int | None, target: str, part: Part
) -> tf.data.Dataset:
    info = read_dataset_info(directory)
    files, parse = _files(directory, info, split), _parser(info)
    images = sum(
        shard_size(_count(info, split), number, len(files)) for number in range(len(files))[part[0] :: part[1]]
    )
    files = files[part[0] :: part[1]]
    records = tf.data.TFRecordDataset(files) if shuffle_seed is None else _shuffled(files, info, shuffle_seed)

    def pair(batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example = parse(batch)
        return example["image"], example[target]

    batches = records.batch(batch_size).map(pair, num_parallel_calls=_THREADS)
    return batches.apply(tf.data.experimental.assert_cardinality(math.ceil(images / batch_size)))


def _shuffled(files: list[str], info: DatasetInfo, seed: int) -> tf.data.Dataset:
    shards = tf.data.Dataset.from_tensor_slices(files).shuffle(len(files), seed=seed)
    records = shards.interleave(
        tf.data.TFRecordDataset, cycle_length=_OPEN_SHARDS, block_length=16, num_parallel_calls=_OPEN_SHARDS
    )
    buffer = min(_SHUFFLE_RECORDS, _SHUFFLE_BYTES // (info.image_size**2 * info.channels))
    return records.shuffle(buffer, seed=seed)


def _cached(arrays: Arrays, batch_size: int, shuffle_seed: int | None) -> tf.data.Dataset:
    with tf.device("CPU"):  # a large data set has no place in a GPU's memory
        images, labels = tf.constant(arrays.images), tf.constant(arrays.labels)
    order = tf.data.Dataset.range(len(arrays.labels))
    if shuffle_seed is not None:
        order = order.shuffle(max(1, len(arrays.labels)), seed=shuffle_seed)
    return order.batch(batch_size).map(lambda chosen: (tf.gather(images, chosen), tf.gather(labels, chosen)))


def _files(directory: Path, info: DatasetInfo, split: Split) -> list[str]:
    return [str(_existing(directory / name)) for name in sorted(info.files) if name.startswith(f"{split}-")]


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ArtifactError(f"{path}: missing; `dvc repro` makes it, `dvc pull` fetches it")
    return path


def _count(info: DatasetInfo, split: Split) -> int:
    return sum(info.counts[split].values())


def _damaged(directory: Path, split: Split, problem: str) -> ArtifactError:
    return ArtifactError(f"{directory}/{split}-*.tfrecord: {problem}; remove {directory} and run `dvc repro`")
