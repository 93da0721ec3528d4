"""How good a picture of a face is: its brightness, contrast and sharpness, and whether an answer can be expected of it.

measure(face, size=31).reasons      -> ("blurred",)

The server tells it with every face; evaluation cuts the test split by it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import cv2

from emotion_detection.preprocess import Pixels

Reason = Literal["too_small", "too_dark", "too_bright", "low_contrast", "blurred"]
QUALITY_SIDE = 48
"""Side at which quality is measured, pixels, so that it does not depend on the model."""
MIN_SIZE, MIN_BRIGHTNESS, MAX_BRIGHTNESS, MIN_CONTRAST, MIN_SHARPNESS = 24, 40, 220, 20, 200
"""Of the images of FER2013, 0.4 % are darker, 0.2 % brighter, 0.3 % flatter, 0.1 % less sharp than this."""


class Quality(NamedTuple):
    """What the model sees of a face, and whether an answer can be expected of it; all but `size` at 48 x 48, grey."""

    size: int
    """Side of the crop in the picture, pixels; at least `MIN_SIZE`."""
    brightness: float
    """Mean, 0 to 255; between `MIN_BRIGHTNESS` and `MAX_BRIGHTNESS`."""
    contrast: float
    """Standard deviation, 0 to 127.5; at least `MIN_CONTRAST`."""
    sharpness: float
    """Variance of the Laplacian (J. L. Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", 2000); at
    least `MIN_SHARPNESS`."""
    reasons: tuple[Reason, ...]
    """What is wrong with it."""

    @property
    def ok(self) -> bool:
        return not self.reasons


def measure(face: Pixels, size: int) -> Quality:
    """Judge a face.

    Args:
        face: uint8 (S, S, 1 or 3), as the model sees it.
        size: side that it had in the picture, pixels.
    """
    grey = face if face.shape[2] == 1 else cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)
    if grey.shape[0] != QUALITY_SIDE:
        shrinks = grey.shape[0] > QUALITY_SIDE
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        grey = cv2.resize(grey, (QUALITY_SIDE, QUALITY_SIDE), interpolation=method)
    mean, deviation = cv2.meanStdDev(grey)
    brightness, contrast = mean.item(), deviation.item()
    sharpness = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))[1].item() ** 2
    reasons = _reasons(size, brightness, contrast, sharpness)
    return Quality(size, brightness, contrast, sharpness, reasons)


def _reasons(size: int, brightness: float, contrast: float, sharpness: float) -> tuple[Reason, ...]:
    checks: tuple[tuple[Reason, bool], ...] = (
        ("too_small", size < MIN_SIZE),
        ("too_dark", brightness < MIN_BRIGHTNESS),
        ("too_bright", brightness > MAX_BRIGHTNESS),
        ("low_contrast", contrast < MIN_CONTRAST),
        ("blurred", sharpness < MIN_SHARPNESS),
    )
    return tuple([reason for reason, wrong in checks if wrong])
