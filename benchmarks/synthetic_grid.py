"""Draw the README's picture of the embedded data set: every emotion, three people, three difficulties.

    PYTHONPATH=src python benchmarks/synthetic_grid.py [--output docs/images/synthetic.png]

Also prints how many 64 x 64 images one core draws in a second.
"""

from __future__ import annotations

import argparse
import io
import time
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from emotion_detection.data.sources.action_units import EMOTIONS
from emotion_detection.data.sources.synthetic import IMAGES_PER_PERSON, SyntheticSource, draw
from emotion_detection.params import SplitParams, SyntheticParams
from emotion_detection.preprocess import Pixels, decode

PEOPLE = (12, 30, 44)
DIFFICULTIES = (0.0, 0.5, 1.0)
SIDE, GAP = 84, 6
LEFT, TOP = 132, 26
COLOURS = 232  # of the palette; keeps the file small


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("docs/images/synthetic.png"))
    output = parser.parse_args().output
    output.parent.mkdir(parents=True, exist_ok=True)
    labelled(montage()).quantize(COLOURS, kmeans=2, dither=Image.Dither.NONE).save(output, optimize=True)
    print(f"{output}: {output.stat().st_size / 1000:.0f} kB")
    print(f"{images_per_second():.0f} images/s on one core, 64 x 64")


def montage() -> Pixels:
    """uint8 (rows, columns, 3): a row per emotion, a block of people per difficulty."""
    blocks = [np.vstack([_row(label, difficulty) for label in EMOTIONS]) for difficulty in DIFFICULTIES]
    gap = np.full((len(blocks[0]), GAP, 3), 255, np.uint8)
    return np.hstack([blocks[0], gap, blocks[1], gap, blocks[2]])


def _row(label: str, difficulty: float) -> Pixels:
    params = SyntheticParams(difficulty=difficulty, image_size=SIDE)
    return np.hstack([decode(draw(0, person * IMAGES_PER_PERSON, label, params), 3) for person in PEOPLE])


def labelled(pixels: Pixels) -> Image.Image:
    """Write emotions with their action units beside the rows, difficulties above the blocks."""
    height, width = pixels.shape[0] + TOP, pixels.shape[1] + LEFT
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    figure.figimage(pixels[::-1], LEFT, 0, origin="lower")
    for row, (label, units) in enumerate(EMOTIONS.items()):
        y = 1 - (TOP + (row + 0.5) * SIDE) / height
        figure.text((LEFT - 8) / width, y, label, ha="right", va="bottom", size=12)
        figure.text((LEFT - 8) / width, y, "+".join(map(str, units)), ha="right", va="top", size=8, color="dimgray")
    for block, difficulty in enumerate(DIFFICULTIES):
        x = LEFT + (block + 0.5) * len(PEOPLE) * SIDE + block * GAP
        figure.text(x / width, 1 - TOP / 2 / height, f"difficulty {difficulty:g}", ha="center", va="center", size=11)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB")


def images_per_second(count: int = 2000) -> float:
    """Processor time of one thread."""
    cv2.setNumThreads(1)
    source = SyntheticSource(SyntheticParams(count=count, image_size=64), SplitParams(), seed=0)
    start = time.process_time()
    drawn = sum(1 for _ in source)
    return drawn / (time.process_time() - start)


if __name__ == "__main__":
    main()
