"""Prometheus metrics of faces; part of `metrics.Metrics`. Observed by the workers, which have the faces in hand."""

from __future__ import annotations

from functools import partial
from itertools import chain

from prometheus_client import CollectorRegistry

from emotion_detection.crops import Cut
from emotion_detection.face_quality import Quality, measure
from emotion_detection.preprocess import Pixels
from emotion_detection.reference import EDGES
from serving.histograms import Histogram, Waiting

FACE_BUCKETS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
SIZE_BUCKETS = (12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024)
"""Pixels."""


class FaceMetrics:
    """How many faces images have, and how good they are."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._waiting = Waiting(self._count_all, registry)
        histogram = partial(Histogram, registry=registry)
        self._count = histogram("emotion_faces_per_image", "Faces judged in one image", buckets=FACE_BUCKETS)
        self._size = histogram("emotion_face_size_pixels", "Side of a face's crop in its image", buckets=SIZE_BUCKETS)
        self._brightness = histogram(
            "emotion_face_brightness", "Mean grey value of a face, 0 to 255", buckets=EDGES["brightness"]
        )
        self._contrast = histogram(
            "emotion_face_contrast", "Standard deviation of a face's grey", buckets=EDGES["contrast"]
        )
        self._sharpness = histogram(
            "emotion_face_sharpness", "Variance of a face's Laplacian", buckets=EDGES["sharpness"]
        )

    def observe(self, cut: Cut) -> None:
        """Count the faces of one image."""
        self._waiting.add([quality for _, quality in cut.crops])

    def observe_crops(self, images: Pixels) -> None:
        """Count faces, uint8 (N, S, S, C), that came already cut out, as tensors: nobody knows of what size."""
        self._observe([measure(image, images.shape[1]) for image in images])

    def _count_all(self, images: list[list[Quality]]) -> None:
        self._count.observe_all(list(map(len, images)))
        faces = list(chain.from_iterable(images))
        self._size.observe_all([face.size for face in faces])
        self._observe(faces)

    def _observe(self, faces: list[Quality]) -> None:
        self._brightness.observe_all([face.brightness for face in faces])
        self._contrast.observe_all([face.contrast for face in faces])
        self._sharpness.observe_all([face.sharpness for face in faces])
