"""What of a picture the model sees: faces, found and cut out as the training images are, and how good they are.

    cutter = Cutter(FaceFinder())
    cut = cutter.cut_file(data, size=48, channels=1, how="auto")
    cut.images              -> uint8 (n, 48, 48, 1), the model's input
    cut.crops               -> [Crop(face=Face(...), quality=Quality(...))], largest face first

`how` says what counts as a face:

    none            the whole picture is one
    all, largest    those that are found; there may be none
    auto            as `all`, unless the picture is a face that has been cut out already. It is taken for one if neither
                    side is longer than twice the model's input (nothing is searched then), if no face is found in it,
                    or if the crop of the largest covers 60 % of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Literal, NamedTuple

import cv2
import numpy as np

from emotion_detection.face_quality import Quality, measure
from emotion_detection.faces import Box, Face
from emotion_detection.preprocess import MAX_PIXELS, Pixels, decode, fit

How = Literal["auto", "all", "largest", "none"]
SCALE = 1.1
"""Side of a crop, by the square root of its box's area. FER2013 is cut at 1.04 times the boxes of the cascade and 1.14
times those of YuNet (medians of 300 images), the drawn faces at 1.2 and 1.37."""
MAX_FACES = 32
ALREADY_CUT = 0.6
"""Share of the picture from which the crop of its largest face is taken for the picture itself."""


class Crop(NamedTuple):
    """One face."""

    face: Face
    quality: Quality


class Cut(NamedTuple):
    """The faces of one picture."""

    width: int
    """Of the upright picture, pixels."""
    height: int
    crops: list[Crop]
    """Largest first."""
    images: Pixels
    """uint8 (n, S, S, C), in the same order."""


@dataclass(frozen=True)
class Cutter:
    """Finds faces and cuts them out; safe to call from several threads at once."""

    find: Callable[[Pixels], list[Face]]
    """As `FaceFinder`: takes a picture, gives its faces, largest first."""
    sees_colour: bool = False
    """Whether `find` wants colour where the model does not."""
    scale: float = SCALE
    """Side of a crop, by the square root of its box's area."""
    max_faces: int = MAX_FACES
    """More are left out, the smallest ones."""

    def cut_file(self, data: bytes, size: int, channels: int, how: How = "auto", max_pixels: int = MAX_PIXELS) -> Cut:
        """Decode a picture, then as `cut`.

        Raises:
            NotAnImage, BrokenImage, ImageTooLarge: as `preprocess.decode`.
        """
        image = decode(data, channels, max_pixels)

        # What the model sees must be decoded as in training; a grey model's pictures have no colour to find faces by.
        def picture() -> Pixels:
            return decode(data, 3, max_pixels) if self.sees_colour and channels == 1 else image

        return self.cut(image, size, how, picture)

    def cut(self, image: Pixels, size: int, how: How = "auto", picture: Callable[[], Pixels] | None = None) -> Cut:
        """Cut the faces out.

        Args:
            image: uint8 (height, width, channels of the model), upright.
            size: side S of the model's input.
            picture: gives what to search for faces, where that is not `image`.
        """
        height, width = image.shape[:2]
        faces = self._faces(image, size, how, picture)
        squares = [self._square(image, face) for face in faces]
        images = [fit(square, size) for square in squares]
        crops = [
            Crop(face, measure(seen, min(square.shape[:2])))
            for face, square, seen in zip(faces, squares, images, strict=True)
        ]
        stacked = np.array(images, np.uint8).reshape(-1, size, size, image.shape[2])
        return Cut(width, height, crops, stacked)

    def _faces(self, image: Pixels, size: int, how: How, picture: Callable[[], Pixels] | None) -> list[Face]:
        height, width = image.shape[:2]
        whole = [Face(Box(0, 0, width, height), None, None)]
        if how == "none" or (how == "auto" and max(height, width) <= 2 * size):
            return whole
        found = self.find(picture() if picture else image)[: self.max_faces]
        if how == "largest":
            return found[:1]
        if how == "auto" and (not found or self._covers(found[0].box, image)):
            return whole
        return found

    def _covers(self, box: Box, image: Pixels) -> bool:
        rows, columns, _ = self._window(box, image)
        covered = (rows.stop - rows.start) * (columns.stop - columns.start)
        return bool(covered >= ALREADY_CUT * image.shape[0] * image.shape[1])

    def _square(self, image: Pixels, face: Face) -> Pixels:
        """What belongs to a face: a square around its box, with the picture's edge repeated where it reaches beyond."""
        if face.detector is None:
            return image
        rows, columns, edges = self._window(face.box, image)
        inside = image[rows, columns]
        if not any(edges):
            return inside
        padded = cv2.copyMakeBorder(inside, *edges, cv2.BORDER_REPLICATE)
        return np.asarray(padded, np.uint8).reshape(*padded.shape[:2], image.shape[2])

    def _window(self, box: Box, image: Pixels) -> tuple[slice, slice, tuple[int, int, int, int]]:
        """Rows and columns of a crop within the picture, and what is missing above, below, left and right."""
        height, width = image.shape[:2]
        side = max(1, min(round(self.scale * sqrt(box.width * box.height)), max(height, width)))
        top, left = (round(start + (length - side) / 2) for start, length in ((box.y, box.height), (box.x, box.width)))
        edges = max(0, -top), max(0, top + side - height), max(0, -left), max(0, left + side - width)
        rows = slice(top + edges[0], top + side - edges[1])
        return rows, slice(left + edges[2], left + side - edges[3]), edges
