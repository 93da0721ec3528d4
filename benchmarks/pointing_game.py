"""Do heat maps point at the face's brows, eyes and mouth, where the drawn emotions are, or beside them?

    python -m benchmarks.pointing_game lenet emotion_cnn vit [--faces 300] [--method occlusion]

The pointing game of J. Zhang et al., "Top-down neural attention by excitation backprop" (2018): a map hits a region if
its hottest pixel lies in it, or within a 24th of the image's side of it. Chance is the share of the image that counts
as a hit. "heat" is the share of a map's heat that lies in the region itself, against the region's area. Models are
those of models/ (`make run`), faces those of the test split of the embedded data set, drawn anew with their landmarks;
explained is the class that the model answers.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from emotion_detection.artifacts import SHARDS, model_dir
from emotion_detection.backend import keras
from emotion_detection.data.shards import read_dataset_info
from emotion_detection.data.sources.action_units import CURVES, Points
from emotion_detection.data.sources.synthetic import SyntheticSource, label_of, landmarks, person_of, split_of
from emotion_detection.errors import ParamsError, reported
from emotion_detection.explain.heatmaps import Heat, occlusion
from emotion_detection.explain.methods import explainer
from emotion_detection.explain.report import predictor
from emotion_detection.inference import check_fits
from emotion_detection.models import load_model
from emotion_detection.params import Params, SplitParams, SyntheticParams, load_params
from emotion_detection.preprocess import prepare

Mask = NDArray[np.bool_]
OUTLINES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "brows": (("brow_top_l", "-brow_bottom_l"), ("brow_top_r", "-brow_bottom_r")),
    "eyes": (("crease_l", "-pouch_l"), ("crease_r", "-pouch_r")),
    "mouth": (("upper_lip_rim", "-lower_lip_rim"),),
    "head": (("jaw", "skull"),),
}
"""Region -> outlines, each of curves walked one after the other; "-name" backwards."""
REGIONS = ("brows", "eyes", "mouth", "features", "background")
TOLERANCE = 1 / 24


@dataclass(frozen=True)
class Faces:
    """Drawn faces with what is where in them."""

    images: NDArray[np.uint8]
    """(N, S, S, C)."""
    labels: list[str]
    masks: dict[str, Mask]
    """Region -> (N, S, S)."""


@dataclass(frozen=True)
class Score:
    """How maps meet a region; all are shares."""

    hits: float
    chance: float
    heat: float
    area: float


def draw_faces(params: SyntheticParams, indices: list[int], seed: int, size: int, channels: int) -> Faces:
    """Draw images of the embedded data set with the masks of their regions."""
    source = SyntheticSource(params.model_copy(update={"count": max(indices) + 1}), SplitParams(), seed)
    images = np.stack([prepare(source.sample(index).data, size, channels) for index in indices])
    labels = [label_of(index) for index in indices]
    found = [
        regions(landmarks(seed, index, label, params) * (size / params.image_size), size)
        for index, label in zip(indices, labels, strict=True)
    ]
    return Faces(images, labels, {name: np.stack([masks[name] for masks in found]) for name in found[0]})


def regions(points: Points, size: int) -> dict[str, Mask]:
    """Masks (S, S) of brows, eyes, mouth, all three (features) and what is no head (background).

    Args:
        points: float64 (vertices, 2), pixels of an image of side `size`.
    """
    masks = {name: _filled(points, outlines, size) for name, outlines in OUTLINES.items()}
    background = ~np.logical_or.reduce([*masks.values()])  # of a turned head, a brow may end beyond the outline
    del masks["head"]
    return {**masks, "features": np.logical_or.reduce([*masks.values()]), "background": background}


def score(heat: Heat, masks: Mask) -> Score:
    """Compare maps (N, S, S) with a region (N, S, S); a map without heat is a miss."""
    size = heat.shape[1]
    near = _widened(masks, max(1, round(size * TOLERANCE)))
    hottest = heat.reshape(len(heat), -1).argmax(axis=1)
    hits = near.reshape(len(near), -1)[np.arange(len(near)), hottest] & (heat.max(axis=(1, 2)) > 0)
    inside = (heat * masks).sum(axis=(1, 2)) / np.maximum(heat.sum(axis=(1, 2)), 1e-12)
    return Score(float(hits.mean()), float(near.mean()), float(inside.mean()), float(masks.mean()))


def explained(model: keras.Model, images: NDArray[np.uint8], method: str) -> tuple[str, Heat]:
    """Name of the method, and heat maps for the model's answers."""
    answers, inside = np.asarray(model(images, training=False)).argmax(axis=1), explainer(model)
    if method == "occlusion" or inside is None:
        return "occlusion", occlusion(predictor(model, 1.0), images, answers)
    return inside.method, inside(images, answers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="entry in `models` of params.yaml")
    parser.add_argument("--faces", type=int, default=300)
    parser.add_argument("--method", choices=["inside", "occlusion"], action="append", help="by default both")
    options, params = parser.parse_args(), load_params()
    faces, table = (
        faces_of_test_split(params, options.faces),
        Table(title=f"Pointing game, {options.faces} drawn faces"),
    )
    for column in ("model", "method", "region", "hits", "chance", "heat", "area"):
        table.add_column(column, justify="left" if column in ("model", "method", "region") else "right")
    for name in options.models:
        model = load_model(params.model(name).architecture, model_dir(name) / "model.keras")
        check_fits(model, read_dataset_info(SHARDS))
        for method in options.method or ["inside", "occlusion"]:
            used, heat = explained(model, faces.images, method)
            for region in REGIONS:
                found = score(heat, faces.masks[region])
                cells = (f"{value:.2f}" for value in (found.hits, found.chance, found.heat, found.area))
                table.add_row(name, used, region, *cells, end_section=region == REGIONS[-1])
    Console().print(table)


def faces_of_test_split(params: Params, count: int) -> Faces:
    """The first faces of the test split.

    Raises:
        ParamsError: the data are not the drawn faces, whose landmarks are known, or have too few.
    """
    data = params.data
    if data.source != "synthetic":
        raise ParamsError(f"data.source: found {data.source!r}; only the faces of `synthetic` have known landmarks")
    test = [i for i in range(data.synthetic.count) if split_of(person_of(i), params.seed, data.split) == "test"]
    if len(test) < count:
        raise ParamsError(
            f"--faces {count}: the test split has {len(test)}; set data.synthetic.count, or ask for fewer"
        )
    return draw_faces(data.synthetic, test[:count], params.seed, data.image_size, data.channels)


def _filled(points: Points, outlines: tuple[tuple[str, ...], ...], size: int) -> Mask:
    mask = np.zeros((size, size), np.uint8)
    for curves in outlines:
        parts = [points[CURVES[name[1:]]][::-1] if name[0] == "-" else points[CURVES[name]] for name in curves]
        cv2.fillPoly(mask, [np.rint(np.concatenate(parts) * 16).astype(np.int32)], 1, cv2.LINE_8, 4)
    return mask.astype(bool)


def _widened(masks: Mask, pixels: int) -> Mask:
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pixels + 1,) * 2)
    return np.stack([cv2.dilate(mask.astype(np.uint8), disc) for mask in masks]).astype(bool)


if __name__ == "__main__":
    with reported():
        main()
