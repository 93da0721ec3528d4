"""Small shards written in a moment: noise, with a bright bar whose place tells the class."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from emotion_detection.artifacts import DatasetInfo, write_record
from emotion_detection.data.shards import INFO_FILE, encode_image, shard_name

LABELS = ("angry", "happy", "sad")
EQUAL = {"angry": 32, "happy": 32, "sad": 32}


def toy_shards(
    directory: Path, train: Mapping[str, int] = EQUAL, val: Mapping[str, int] = EQUAL, size: int = 16, bar: int = 60
) -> DatasetInfo:
    """Write train and val shards with so many images of each class; the bar is so much brighter than the rest."""
    directory.mkdir(parents=True)
    counts = {"train": dict(train), "val": dict(val), "test": dict.fromkeys(train, 0)}
    files = {}
    for split in ("train", "val"):
        path = directory / shard_name(split, 0, 1)  # type: ignore[arg-type]
        write_split(path, counts[split], size, bar)
        files[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    total = sum(train.values())
    info = DatasetInfo(
        labels=tuple(train),
        image_size=size,
        channels=1,
        counts=counts,
        class_weights={label: total / len(train) / number for label, number in train.items()},
        reference_shares={label: number / total for label, number in train.items()},
        files=files,
        data_hash=hashlib.sha256(repr((counts, size, bar)).encode()).hexdigest(),
    )
    write_record(directory / INFO_FILE, info)
    return info


def write_split(path: Path, counts: Mapping[str, int], size: int, bar: int) -> None:
    random = np.random.default_rng(len(path.name))
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number in random.permutation(sum(counts.values())):
            label = int(np.searchsorted(np.cumsum(list(counts.values())), number, side="right"))
            pixels = random.normal(100, 20, (size, size, 1))
            pixels[size // 3 * label : size // 3 * (label + 1)] += bar
            image = encode_image(pixels.clip(0, 255).astype(np.uint8))
            writer.write(record(image, label, list(counts)[label]).SerializeToString())


def record(image: bytes, label: int, text: str) -> tf.train.Example:
    def content(value: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    feature = {
        "image/encoded": content(image),
        "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
        "image/class/text": content(text.encode()),
        "image/sha256": content(hashlib.sha256(image).hexdigest().encode()),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature))
