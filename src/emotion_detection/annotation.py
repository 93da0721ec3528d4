"""Pictures with a box and a word at each face.

annotate(pixels, detector.file(data, "all")["faces"])     -> uint8 (height, width, 3)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from emotion_detection.preprocess import Pixels

_COLOUR, _INK = (0, 158, 115), (255, 255, 255)


def annotate(image: Pixels, faces: Iterable[Mapping[str, Any]]) -> Pixels:
    """Draw faces as `/detect` describes them into a copy of their picture.

    Args:
        image: uint8 (height, width, 3), RGB, upright.
    """
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    unit = max(1, min(picture.size) // 200)
    font = ImageFont.load_default(max(10, 7 * unit))
    for face in faces:
        box, text = face["box"], f"{face['label']} {face['confidence']:.0%}"
        corner = box["x"], box["y"]
        draw.rectangle((*corner, box["x"] + box["width"] - 1, box["y"] + box["height"] - 1), None, _COLOUR, unit)
        draw.rectangle(draw.textbbox(corner, text, font), _COLOUR)
        draw.text(corner, text, _INK, font)
    return np.asarray(picture, np.uint8)
