"""Reading speed: our shards against `keras.utils.image_dataset_from_directory`, on the same images.

    python -m benchmarks.read_shards --source fer2013.zip    # its training split
    python -m benchmarks.read_shards                         # images made up here

Both decode every image in every epoch (`cached` does not, and is shown for comparison); both give batches of 64 from
files that the system has in memory. Rounds are interleaved, the first is not counted, and the table shows medians.
"""

from __future__ import annotations

import hashlib
import statistics
import tempfile
import time
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from emotion_detection.artifacts import DATASET_SCHEMA, DECISIONS_SCHEMA
from emotion_detection.backend import keras
from emotion_detection.data.sharding import write_shards
from emotion_detection.data.shards import load_split
from emotion_detection.params import DataParams

SIZE, BATCH = 48, 64
Faces = Iterator[tuple[str, bytes]]


def from_zip(path: Path) -> Faces:
    """Label and bytes of the images under a folder `train` of a zip file, in random order."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if "train/" in name and name.lower().endswith((".jpg", ".png"))]
        for name in np.random.default_rng(0).permutation(names):
            yield PurePosixPath(name).parent.name, archive.read(name)


def made_up() -> Faces:
    """Smooth random grey JPEG files of about the size that faces have."""
    rng = np.random.default_rng(0)
    while True:
        pixels = cv2.resize(rng.integers(0, 256, (16, 16), dtype=np.uint8), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
        yield str(rng.integers(7)), cv2.imencode(".jpg", pixels)[1].tobytes()


def lay_out(faces: Faces, directory: Path) -> int:
    """Write the images as single files and as shards; the number of images."""
    rows: list[dict[str, Any]] = []
    for number, (label, image) in enumerate(faces):
        path = directory / "files" / label / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image)
        sha256 = hashlib.sha256(image).hexdigest()
        rows.append({"path": path.name, "split": "train", "label": label, "image": image, "sha256": sha256})
    decisions = [{"keep": True, "defects": [], **row} for row in rows]
    dataset_file, decisions_file = directory / "dataset.parquet", directory / "decisions.parquet"
    pq.write_table(pa.Table.from_pylist(rows, DATASET_SCHEMA), dataset_file)
    pq.write_table(pa.Table.from_pylist(decisions, DECISIONS_SCHEMA), decisions_file)
    write_shards(DataParams(image_size=SIZE, channels=1), 0, dataset_file, decisions_file, directory / "shards")
    return len(rows)


def readers(directory: Path) -> dict[str, Any]:
    """The data sets to compare, by name."""

    def of_files(shuffle: bool) -> Any:
        return keras.utils.image_dataset_from_directory(
            directory / "files",
            image_size=(SIZE, SIZE),
            color_mode="grayscale",
            batch_size=BATCH,
            shuffle=shuffle,
            seed=0,
            verbose=False,
        )

    def of_shards(seed: int | None, cache: bool = False) -> Any:
        return load_split(directory / "shards", "train", BATCH, shuffle_seed=seed, cache=cache)

    return {
        "files, in order": of_files(False),
        "shards, in order": of_shards(None),
        "files, shuffled": of_files(True),
        "shards, shuffled": of_shards(0),
        "shards, shuffled, cached": of_shards(0, cache=True),
    }


def images_per_second(dataset: Any) -> float:
    start, images = time.perf_counter(), 0
    for batch, _ in dataset:
        images += len(batch)
    return images / (time.perf_counter() - start)


def compare(datasets: dict[str, Any], rounds: int) -> dict[str, float]:
    """Median images/s of each, over interleaved rounds."""
    speeds = defaultdict(list)
    for _ in track(range(rounds + 1), "read", console=Console(stderr=True)):
        for name, dataset in datasets.items():
            speeds[name].append(images_per_second(dataset))
    return {name: statistics.median(values[1:]) for name, values in speeds.items()}


def main(
    source: Annotated[Path | None, typer.Option(help="zip file with train/<class>/*.jpg")] = None,
    images: Annotated[int, typer.Option(min=BATCH, help="at most so many")] = 28_709,
    rounds: Annotated[int, typer.Option(min=1)] = 7,
) -> None:
    """Print the medians and their ratios."""
    with tempfile.TemporaryDirectory() as directory:
        count = lay_out(islice(from_zip(source) if source else made_up(), images), Path(directory))
        speeds = compare(readers(Path(directory)), rounds)
    table = Table("reader", "images/s", "ratio", title=f"{count:,} images of {SIZE} x {SIZE}, batch {BATCH}")
    for name, speed in speeds.items():
        baseline = speeds["files, " + name.split(", ")[1]]
        table.add_row(name, f"{speed:,.0f}", f"{speed / baseline:.2f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
