"""What validation knows of each image: whether it decodes, its grey values, its perceptual hash.

    images = measure(Path("data/dataset.parquet"))     one row per image, in the order of the data set

The data set is streamed, and of each image only the figures are kept. One thread: for images of the size of
a face Python's lock is busier than the decoder, and a second thread made it slower.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from emotion_detection.artifacts import DATASET_SCHEMA, intact, open_parquet
from emotion_detection.data.votes import no_face_share
from emotion_detection.errors import ArtifactError, ImageError, ValidationFailed
from emotion_detection.preprocess import MAX_PIXELS, decode

BATCH = 256
HASH_SIDE = 32
_BLANK = np.zeros((HASH_SIDE, HASH_SIDE), np.float32)


def measure(dataset: Path, max_pixels: int = MAX_PIXELS) -> pd.DataFrame:
    """Measure every image of a data set.

    Args:
        dataset: Parquet file with the columns of `DATASET_SCHEMA`.
        max_pixels: images that announce more count as unreadable.

    Returns:
        The columns of the data set without `image` and `votes`, and `no_face_votes` (their share, NaN without any),
        `error` (why the image cannot be decoded, else None), `mean` and `std` (grey values, 0 to 255, NaN
        where unreadable) and `phash` (uint64, see `perceptual_hash`, 0 where unreadable).

    Raises:
        ArtifactError: the file is missing, damaged, or an image does not have the SHA-256 noted beside it.
        ValidationFailed: there is no image at all.
    """
    parts = [_measure_batch(batch, dataset, max_pixels) for batch in _batches(dataset) if batch.num_rows]
    if not parts:
        raise ValidationFailed(f"{dataset}: holds no images; see data.source in params.yaml")
    return pd.concat(parts, ignore_index=True)


def perceptual_hash(images: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Hash images so that alike ones get hashes with few differing bits.

    One bit for each of the 8 x 8 lowest frequencies of the discrete cosine transform, without the constant
    row and column: whether it lies above their median (Zauner, "Implementation and Benchmarking of
    Perceptual Image Hash Functions", 2010, section 3.2.1). Half of the bits are set, so two hashes differ in
    an even number of bits.

    Args:
        images: float32 (N, 32, 32), grey.

    Returns:
        uint64 (N,).
    """
    # One image at a time: equal images then have equal hashes, whatever batch they stand in.
    low = np.array([cv2.dct(image)[1:9, 1:9] for image in images], np.float32).reshape(-1, 64)
    bits = low > np.median(low, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8").ravel().astype(np.uint64)


def _batches(dataset: Path) -> Iterator[pa.RecordBatch]:
    file = open_parquet(dataset, DATASET_SCHEMA)
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("Measuring images", total=file.metadata.num_rows)
        with intact(dataset):
            for batch in file.iter_batches(batch_size=BATCH):
                yield batch
                progress.advance(task, batch.num_rows)


def _measure_batch(batch: pa.RecordBatch, dataset: Path, max_pixels: int) -> pd.DataFrame:
    images = batch.column("image").to_pylist()
    rows: pd.DataFrame = batch.drop_columns(["image", "votes"]).to_pandas()
    votes = (dict(pairs) if pairs else None for pairs in batch.column("votes").to_pylist())
    _verify(images, rows, dataset)
    errors, means, stds, thumbnails = zip(*(_measure_image(data, max_pixels) for data in images), strict=True)
    hashes = perceptual_hash(np.stack(thumbnails))
    no_face = [no_face_share(some) for some in votes]
    return rows.assign(no_face_votes=no_face, error=pd.Series(errors, dtype=object), mean=means, std=stds, phash=hashes)


def _verify(images: list[bytes], rows: pd.DataFrame, dataset: Path) -> None:
    for data, path, expected in zip(images, rows["path"], rows["sha256"], strict=True):
        if hashlib.sha256(data).hexdigest() != expected:
            raise ArtifactError(f"{dataset}: {path} does not match its SHA-256; remove the file and run `dvc repro`")


def _measure_image(data: bytes, max_pixels: int) -> tuple[str | None, float, float, NDArray[np.float32]]:
    try:
        pixels = decode(data, channels=1, max_pixels=max_pixels)
    except ImageError as error:
        return str(error), math.nan, math.nan, _BLANK
    mean, std = cv2.meanStdDev(pixels)
    thumbnail = cv2.resize(pixels, (HASH_SIDE, HASH_SIDE), interpolation=cv2.INTER_AREA)
    return None, float(mean[0, 0]), float(std[0, 0]), thumbnail.astype(np.float32)
