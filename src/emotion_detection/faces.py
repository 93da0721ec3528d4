"""Where in a picture the faces are.

    find = FaceFinder()                                             # the cascade that comes with OpenCV
    find = FaceFinder(Path("face_detection_yunet_2023mar.onnx"))    # YuNet; see face_model.py for its file
    find(pixels)               -> [Face(box=Box(x=310, y=92, width=141, height=187), score=0.93, detector="yunet")]

YuNet (W. Wu et al., "YuNet: a tiny millisecond-level face detector", 2023) finds turned and partly hidden faces, too;
the cascade (P. Viola & M. Jones, "Rapid object detection using a boosted cascade of simple features", 2001) finds
frontal ones, takes several times as long, and is always there. `python -m benchmarks.faces` compares them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np

from emotion_detection.face_model import read_face_model
from emotion_detection.preprocess import Pixels

Detector = Literal["cascade", "yunet"]
SIDE = 640
SMALLEST = 16
"""Pictures with a shorter side, pixels, are not searched."""
# In 27 photos it took 1 thing for a face that was none; frontalface_alt2 took 4, frontalface_default 9.
_CASCADE = "haarcascade_frontalface_alt.xml"
_CASCADE_STEP, _CASCADE_NEIGHBOURS, _CASCADE_SMALLEST = 1.2, 4, (32, 32)
# OpenCV's network reads memory that nobody has written where a side is 32 pixels or less, and finds faces in it.
_YUNET_SMALLEST = 64
_YUNET_SCORE, _YUNET_OVERLAP, _YUNET_CANDIDATES = 0.7, 0.3, 5000

_Found = list[tuple[np.typing.NDArray[np.float64], float | None]]
"""Boxes (4,) as x, y, width, height, and their scores."""


class Box(NamedTuple):
    """A rectangle within a picture; pixels, (0, 0) at the top left."""

    x: int
    y: int
    width: int
    height: int


class Face(NamedTuple):
    """Where a face is."""

    box: Box
    score: float | None
    """Of the detector, 0 to 1; the cascade has none."""
    detector: Detector | None
    """Who found it; none where the whole picture is taken for a face."""


class FaceFinder:
    """Finds faces; safe to call from several threads at once, each of which gets a detector of its own."""

    def __init__(self, model: Path | None = None, side: int = SIDE) -> None:
        """Load the detector.

        Args:
            model: YuNet's file; none: the cascade.
            side: larger pictures are scaled down to this longer side, pixels: that bounds the time, and how small a
                face can be that is found.

        Raises:
            FaceModelError: the file cannot be read, or is not the one that is known to be good.
        """
        self.detector: Detector = "yunet" if model else "cascade"
        self.sees_colour = model is not None
        """Whether a picture in colour is of more use than a grey one."""
        self._side = side
        self._weights = np.frombuffer(read_face_model(model), np.uint8) if model else None
        self._local = threading.local()

    def __call__(self, image: Pixels) -> list[Face]:
        """Find all faces, largest first.

        Args:
            image: uint8 (height, width, 1 or 3), grey or RGB, upright.
        """
        height, width = image.shape[:2]
        scale = min(1.0, self._side / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        if min(size) < SMALLEST:
            return []
        scaled = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8) if scale < 1 else image
        ratio = np.array([width, height, width, height]) / np.array([*size, *size])
        found = [
            Face(box, score, self.detector)
            for corners, score in self._detect(scaled.reshape(*size[::-1], -1))
            if (box := _inside(corners * ratio, width, height)) is not None
        ]
        return sorted(found, key=lambda face: face.box.width * face.box.height, reverse=True)

    def _detect(self, image: Pixels) -> _Found:
        own: Callable[[Pixels], _Found] | None = getattr(self._local, "detect", None)
        if own is None:
            own = self._local.detect = _cascade() if self._weights is None else _yunet(self._weights)
        return own(image)


def _cascade() -> Callable[[Pixels], _Found]:
    classifier = cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / _CASCADE))

    def detect(image: Pixels) -> _Found:
        grey = image if image.shape[2] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        boxes = classifier.detectMultiScale(grey, _CASCADE_STEP, _CASCADE_NEIGHBOURS, minSize=_CASCADE_SMALLEST)
        return [(np.asarray(box, np.float64), None) for box in boxes]

    return detect


def _yunet(weights: Pixels) -> Callable[[Pixels], _Found]:
    options = (SIDE, SIDE), _YUNET_SCORE, _YUNET_OVERLAP, _YUNET_CANDIDATES
    detector = cv2.FaceDetectorYN.create("onnx", weights, np.empty(0, np.uint8), *options)

    def detect(image: Pixels) -> _Found:
        bgr = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR if image.shape[2] == 1 else cv2.COLOR_RGB2BGR)
        below, beside = (max(0, _YUNET_SMALLEST - side) for side in bgr.shape[:2])
        bgr = cv2.copyMakeBorder(bgr, 0, below, 0, beside, cv2.BORDER_CONSTANT)
        detector.setInputSize(bgr.shape[1::-1])
        rows = detector.detect(bgr)[1]
        return [] if rows is None else [(row[:4].astype(np.float64), float(row[14])) for row in rows]

    return detect


def _inside(corners: np.typing.NDArray[np.float64], width: int, height: int) -> Box | None:
    """The part of a box (x, y, width, height) that lies in the picture; none where nothing does."""
    x, y = corners[:2]
    left, right = (round(min(max(edge, 0), width)) for edge in (x, x + corners[2]))
    top, bottom = (round(min(max(edge, 0), height)) for edge in (y, y + corners[3]))
    return Box(left, top, right - left, bottom - top) if right > left and bottom > top else None
