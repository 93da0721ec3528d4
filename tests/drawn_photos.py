"""Pictures with drawn faces at known places, which the cascade finds."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from PIL import Image

from emotion_detection.data.sources.synthetic import SyntheticSource
from emotion_detection.params import SplitParams, SyntheticParams
from emotion_detection.preprocess import Pixels, decode

PLACES = ((40, 60, 180), (260, 20, 140), (430, 210, 160))
"""x, y and side of drawn images, pixels; the head fills about 80 % of each."""


@cache
def drawn(index: int) -> Pixels:
    """A posed face without pose, noise or occlusion, uint8 (128, 128, 3), RGB."""
    source = SyntheticSource(SyntheticParams(count=70, difficulty=0, image_size=128), SplitParams(), seed=0)
    return decode(source.sample(index).data, 3)


def photo(places: Sequence[tuple[int, int, int]] = PLACES, size: tuple[int, int] = (640, 480)) -> Pixels:
    """A picture with one face at each place, uint8 (height, width, 3), on a smooth background."""
    width, height = size
    ramp = np.linspace(90, 150, width, dtype=np.uint8)
    picture = np.repeat(np.tile(ramp, (height, 1))[..., np.newaxis], 3, axis=2)
    for index, (x, y, side) in enumerate(places):
        picture[y : y + side, x : x + side] = cv2.resize(drawn(index), (side, side), interpolation=cv2.INTER_AREA)
    return picture


def encoded(picture: Pixels, form: str = "PNG", mode: str = "RGB", **options: object) -> bytes:
    """An image file; of a mode of Pillow's, or of 16-bit grey for I;16."""
    image = Image.fromarray(picture)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    else:
        image = image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def turned(picture: Pixels, orientation: int) -> bytes:
    """A file of the picture that is stored turned, with the EXIF tag that says so."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(picture).transpose(undo[orientation]).save(buffer, "PNG", exif=exif)
    return buffer.getvalue()
