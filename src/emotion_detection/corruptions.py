"""Faces as light, cameras, networks and hands spoil them: what a model should still be able to read.

    corrupt(images, BY_NAME["blur"], 0.04, seed=0)      # uint8 (N, S, S, C) -> the same shape

In the spirit of D. Hendrycks & T. Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations" (ICLR 2019), with occlusion of what a face says most with. Strength 0 leaves a face as it is. Lengths are
shares of the side, so that one strength means the same at every image size. What is random depends on the seed and the
place of the face alone: every model meets the same faces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Face = NDArray[np.uint8]
Change = Callable[[Face, float, Generator], Face]
EYES, MOUTH = (0.4, 0.5), (0.76, 0.5)
"""Middle (y, x) in an upright crop, as shares of the side."""
BAND_WIDTH = 0.8


@dataclass(frozen=True)
class Corruption:
    """One way to spoil a face."""

    name: str
    change: Change
    """Of one face uint8 (S, S, C), by strength."""
    strengths: tuple[float, ...]
    """From what is often seen to what a person can just read."""
    unit: str
    """What a strength says."""


def corrupt(images: NDArray[np.uint8], corruption: Corruption, strength: float, seed: int, start: int = 0) -> Face:
    """Spoil each face.

    Args:
        images: uint8 (N, S, S, C).
        strength: at least 0, which changes nothing.
        start: place of the first of them, where they are a part of more.
    """
    faces = [
        corruption.change(image, strength, np.random.default_rng([seed, start + place]))
        for place, image in enumerate(images)
    ]
    return np.stack(faces).reshape(images.shape)


def darker(face: Face, strength: float, _: Generator) -> Face:
    return _rounded(face * np.float32(1 - strength))


def brighter(face: Face, strength: float, _: Generator) -> Face:
    """Overexposed: what is above white stays white."""
    return _rounded(face * np.float32(1 + strength))


def low_contrast(face: Face, strength: float, _: Generator) -> Face:
    mean = face.mean(dtype=np.float32)
    return _rounded(mean + (face - mean) * np.float32(1 - strength))


def blur(face: Face, strength: float, _: Generator) -> Face:
    """Gaussian blur."""
    sigma = strength * face.shape[0]
    # OpenCV takes sigma 0 for "choose one".
    return np.asarray(cv2.GaussianBlur(face, (0, 0), sigma), np.uint8) if sigma else face


def noise(face: Face, strength: float, random: Generator) -> Face:
    """Gaussian noise."""
    return _rounded(face + np.float32(255 * strength) * random.standard_normal(face.shape, np.float32))


def jpeg(face: Face, strength: float, _: Generator) -> Face:
    """JPEG compression; even quality 100 is not free of losses."""
    if not strength:
        return face
    stored = np.ascontiguousarray(face[..., ::-1])  # OpenCV's colours are BGR
    data = cv2.imencode(".jpg", stored, [cv2.IMWRITE_JPEG_QUALITY, round(100 * (1 - strength))])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), np.uint8).reshape(face.shape)[..., ::-1]


def covered_eyes(face: Face, strength: float, _: Generator) -> Face:
    return _cover(face, EYES, (strength, BAND_WIDTH))


def covered_mouth(face: Face, strength: float, _: Generator) -> Face:
    return _cover(face, MOUTH, (strength, BAND_WIDTH))


def covered_anywhere(face: Face, strength: float, random: Generator) -> Face:
    y, x = random.uniform(0.25, 0.75, 2)
    return _cover(face, (y, x), (strength, strength))


def rotated(face: Face, strength: float, random: Generator) -> Face:
    """Turned to either side; what comes in from outside repeats the edge."""
    middle = (face.shape[0] - 1) / 2
    turn = cv2.getRotationMatrix2D((middle, middle), strength * random.choice([-1, 1]), 1)
    return np.asarray(cv2.warpAffine(face, turn, face.shape[:2], borderMode=cv2.BORDER_REPLICATE), np.uint8)


def low_resolution(face: Face, strength: float, _: Generator) -> Face:
    """Shrunk and enlarged again, as `preprocess.fit` does both."""
    side = face.shape[0]
    small = max(1, round(side * (1 - strength)))
    if small == side:
        return face
    shrunk = cv2.resize(face, (small, small), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(shrunk, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8)


CORRUPTIONS = (
    Corruption("darker", darker, (0.4, 0.6, 0.8), "share of the light that is lost"),
    Corruption("brighter", brighter, (0.4, 0.8, 1.2), "share of light added; above white stays white"),
    Corruption("low contrast", low_contrast, (0.5, 0.7, 0.85), "share of the contrast that is lost"),
    Corruption("blur", blur, (0.02, 0.035, 0.05), "sigma of a Gaussian, share of the side"),
    Corruption("noise", noise, (0.04, 0.08, 0.12), "standard deviation, share of the range"),
    Corruption("JPEG", jpeg, (0.7, 0.85, 0.92), "1 - quality / 100"),
    Corruption("eyes covered", covered_eyes, (0.1, 0.2, 0.3), "height of a band, share of the side"),
    Corruption("mouth covered", covered_mouth, (0.1, 0.2, 0.3), "height of a band, share of the side"),
    Corruption("part covered", covered_anywhere, (0.2, 0.35, 0.5), "side of a square anywhere, share of the side"),
    Corruption("rotated", rotated, (15.0, 30.0, 45.0), "degrees to either side"),
    Corruption("low resolution", low_resolution, (0.5, 0.67, 0.75), "share of the rows and columns that is lost"),
)
BY_NAME = {corruption.name: corruption for corruption in CORRUPTIONS}


def _cover(face: Face, middle: tuple[float, float], sides: tuple[float, float]) -> Face:
    """Fill a rectangle, by its middle and sides (y, x) as shares of the face's, with the face's mean colour."""
    ends = np.outer([-0.5, 0.5], sides) + middle
    (top, left), (bottom, right) = np.rint(ends * face.shape[0]).clip(0, face.shape[0]).astype(int)
    covered = face.copy()
    covered[top:bottom, left:right] = _rounded(face.mean(axis=(0, 1)))
    return covered


def _rounded(values: NDArray[np.floating]) -> Face:
    return np.asarray(np.rint(values).clip(0, 255), np.uint8)
