"""Prometheus metrics of faces; part of `metrics.Metrics`. Observed by the workers, which have the faces in hand."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry

from emotion_detection.crops import Cut
from emotion_detection.face_quality import measure
from emotion_detection.preprocess import Pixels
from emotion_detection.reference import EDGES
from serving.histograms import Histogram

FACE_BUCKETS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
SIZE_BUCKETS = (12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024)
"""Pixels."""


class FaceMetrics:
    """How many faces images have, and how good they are."""

    def __init__(self, registry: CollectorRegistry) -> None:
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
        self._count.observe(len(cut.crops))
        for _, (size, *quality, _) in cut.crops:
            self._size.observe(size)
            self._observe(*quality)

    def observe_crops(self, images: Pixels) -> None:
        """Count faces, uint8 (N, S, S, C), that came already cut out, as tensors: nobody knows of what size."""
        for image in images:
            _, *quality, _ = measure(image, images.shape[1])
            self._observe(*quality)

    def _observe(self, brightness: float, contrast: float, sharpness: float) -> None:
        self._brightness.observe(brightness)
        self._contrast.observe(contrast)
        self._sharpness.observe(sharpness)
