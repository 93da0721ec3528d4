"""How many faces each detector finds in real photos, and how long it takes.

    python -m benchmarks.faces --photos photos.zip [--yunet face_detection_yunet_2023mar.onnx]

The archive has photos/ and index.csv, whose columns `file` and `yunet_faces_at_0.7` say how many faces each has. "as in
the index" counts photos with exactly as many; "too few" and "too many" add up the differences. Milliseconds are of one
thread and of the detector alone, the scaling included and the decoding not; CPU time, so that other work on the machine
does not count.
"""

from __future__ import annotations

import csv
import io
import statistics
import time
import zipfile
from pathlib import Path
from typing import Annotated

import cv2
import typer
from rich.console import Console
from rich.table import Table

from emotion_detection.errors import reported
from emotion_detection.face_model import cached_face_model
from emotion_detection.faces import FaceFinder
from emotion_detection.preprocess import Pixels, decode

SIDES = (320, 640, 1280)


def read_photos(archive: Path) -> list[tuple[Pixels, int]]:
    """Photos, RGB, and how many faces they have."""
    with zipfile.ZipFile(archive) as files:
        rows = list(csv.DictReader(io.TextIOWrapper(files.open("index.csv"))))
        return [(decode(files.read(f"photos/{row['file']}"), 3), int(row["yunet_faces_at_0.7"])) for row in rows]


def judge(find: FaceFinder, photos: list[tuple[Pixels, int]]) -> list[str]:
    """One row of the table."""
    find(photos[0][0])  # loads the detector
    differences, milliseconds = [], []
    for photo, expected in photos:
        start = time.thread_time()
        differences.append(len(find(photo)) - expected)
        milliseconds.append(1000 * (time.thread_time() - start))
    equal, few, many = differences.count(0), -sum(min(d, 0) for d in differences), sum(max(d, 0) for d in differences)
    figures = statistics.mean(milliseconds), statistics.median(milliseconds), max(milliseconds)
    return [f"{equal} of {len(photos)}", str(few), str(many), *(f"{figure:.0f}" for figure in figures)]


def main(
    photos: Annotated[Path, typer.Option(help="zip archive with photos/ and index.csv")],
    yunet: Annotated[Path | None, typer.Option(help="YuNet's file; by default the one that was fetched")] = None,
) -> None:
    """Print one table."""
    cv2.setNumThreads(1)
    pictures, model = read_photos(photos), yunet or cached_face_model()
    total = sum(count for _, count in pictures)
    headings = ("as in the index", "too few", "too many", "mean ms", "median ms", "longest ms")
    table = Table("detector", "searched at", *headings, title=f"{len(pictures)} photos with {total} faces")
    with reported():
        for name, file in {"cascade": None, "YuNet": model}.items():
            for side in SIDES if file or name == "cascade" else ():
                table.add_row(name, f"{side} pixels", *judge(FaceFinder(file, side), pictures))
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
