"""How the server comes by faces: the settings' detector, with a clock."""

from __future__ import annotations

import time

from emotion_detection.crops import Cutter
from emotion_detection.faces import Face, FaceFinder
from emotion_detection.preprocess import Pixels
from serving.metrics import Metrics
from serving.settings import Settings


def create_cutter(settings: Settings, metrics: Metrics) -> Cutter:
    """What finds faces and cuts them out.

    Raises:
        FaceModelError: the settings name a file that is not YuNet's.
    """
    finder = FaceFinder(settings.face_model, settings.face_side)

    def find(picture: Pixels) -> list[Face]:
        start = time.perf_counter()
        faces = finder(picture)
        metrics.face_seconds.observe(time.perf_counter() - start)
        return faces

    return Cutter(find, finder.sees_colour, settings.face_scale, settings.max_faces)
