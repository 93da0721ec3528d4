"""Heat maps: what they are, occlusion, and how they are shown. NumPy and OpenCV alone: the server imports this.

heat = occlusion(predict, images, targets)          # float32 (N, S, S), 0 to 1
picture = overlay(images[0], heat[0], side=192)     # uint8 (192, 192, 3), RGB
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Heat = NDArray[np.float32]
"""(N, S, S) in [0, 1]."""
Images = NDArray[np.uint8]
Targets = NDArray[np.integer[Any]]
Predict = Callable[[Images], NDArray[np.floating[Any]]]
"""uint8 (N, S, S, C) -> probabilities (N, K)."""
Method = Literal["grad_cam", "attention_rollout", "occlusion"]

BATCH_SIZE = 64
_OPACITY = 0.7  # of the hottest place


def normalised(raw: NDArray[np.floating[Any]]) -> Heat:
    """Cut negative values off and divide each map (N, h, w) by its maximum; a map without positive values is all 0."""
    positive = np.maximum(raw, 0)
    top = positive.max(axis=(1, 2), keepdims=True)
    heat: Heat = (positive / np.where(top > 0, top, 1)).astype(np.float32)
    return heat


def occlusion(predict: Predict, images: Images, targets: Targets, patch: int | None = None) -> Heat:
    """How much the probability of a class falls when a square patch of the image is covered.

    M. D. Zeiler & R. Fergus, "Visualizing and understanding convolutional networks" (2014). The patch has the mean
    colour of the image and moves by half its side; the heat of a pixel is the mean fall over the patches that cover it.
    It needs answers only, so it explains any model, and costs about 120 of them per image.

    Args:
        predict: gives probabilities (N, K) for uint8 (N, S, S, C).
        images: uint8 (N, S, S, C).
        targets: (N,), classes to explain, 0 to K - 1.
        patch: side of the patch, pixels, at most S; a sixth of S if left out.

    Returns:
        float32 (N, S, S) in [0, 1].
    """
    size = images.shape[1]
    side = patch or max(2, round(size / 6))
    windows = _windows(size, side)
    before = _predicted(predict, images)
    falls = np.zeros(images.shape[:3])
    for fall, image, target, answer in zip(falls, images, targets, before, strict=True):
        covered = np.repeat(image[np.newaxis], len(windows), axis=0)
        for copy, (rows, columns) in zip(covered, windows, strict=True):
            copy[rows, columns] = image.mean(axis=(0, 1)).round()
        after = _predicted(predict, covered)[:, target]
        fall[:] = _mean_over_windows(answer[target] - after, windows, size)
    return normalised(falls)


def overlay(image: Images, heat: Heat, side: int | None = None) -> Images:
    """The image in grey, with its heat map laid over it: black and violet are cold, yellow is hot.

    Args:
        image: uint8 (S, S, C), grey or RGB.
        heat: float32 (h, w) in [0, 1].
        side: of the result, pixels; that of the image if left out.

    Returns:
        uint8 (side, side, 3), RGB.
    """
    shape = (side or image.shape[0],) * 2
    grey = image[:, :, 0] if image.shape[2] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    base = cv2.resize(grey, shape, interpolation=cv2.INTER_LINEAR).astype(np.float32)[:, :, np.newaxis]
    warmth = np.clip(cv2.resize(heat.astype(np.float32), shape, interpolation=cv2.INTER_LINEAR), 0, 1)
    colours = cv2.applyColorMap((warmth * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[:, :, ::-1]
    opacity = _OPACITY * warmth[:, :, np.newaxis]
    blended: Images = (base * (1 - opacity) + colours * opacity).round().astype(np.uint8)
    return blended


def _windows(size: int, side: int) -> list[tuple[slice, slice]]:
    starts = {*range(0, size - side, max(1, side // 2)), size - side}
    spans = [slice(start, start + side) for start in sorted(starts)]
    return [(rows, columns) for rows in spans for columns in spans]


def _predicted(predict: Predict, images: Images) -> NDArray[np.floating[Any]]:
    starts = range(0, len(images), BATCH_SIZE)
    return np.concatenate([predict(images[start : start + BATCH_SIZE]) for start in starts])


def _mean_over_windows(
    values: NDArray[np.floating[Any]], windows: list[tuple[slice, slice]], size: int
) -> NDArray[np.float64]:
    total, count = np.zeros((size, size)), np.zeros((size, size))
    for value, window in zip(values, windows, strict=True):
        total[window] += value
        count[window] += 1
    mean: NDArray[np.float64] = total / count
    return mean
