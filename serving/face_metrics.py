"""Prometheus metrics of faces; part of `metrics.Metrics`."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Histogram

from emotion_detection.crops import Cut

FACE_BUCKETS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
SIZE_BUCKETS = (12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024)
"""Pixels."""
BRIGHTNESS_BUCKETS = (20, 40, 60, 80, 100, 120, 140, 160, 180, 200, 220, 240, 255)
CONTRAST_BUCKETS = (5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 128)
SHARPNESS_BUCKETS = (50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)


class FaceMetrics:
    """How many faces images have, and how good they are."""

    def __init__(self, registry: CollectorRegistry) -> None:
        histogram = partial(Histogram, registry=registry)
        self._count = histogram("emotion_faces_per_image", "Faces judged in one image", buckets=FACE_BUCKETS)
        self._quality = (
            histogram("emotion_face_size_pixels", "Side of a face's crop in its image", buckets=SIZE_BUCKETS),
            histogram("emotion_face_brightness", "Mean grey value of a face, 0 to 255", buckets=BRIGHTNESS_BUCKETS),
            histogram("emotion_face_contrast", "Standard deviation of a face's grey", buckets=CONTRAST_BUCKETS),
            histogram("emotion_face_sharpness", "Variance of a face's Laplacian", buckets=SHARPNESS_BUCKETS),
        )

    def observe(self, cut: Cut) -> None:
        """Count the faces of one image."""
        self._count.observe(len(cut.crops))
        for _, quality in cut.crops:
            values = quality.size, quality.brightness, quality.contrast, quality.sharpness
            for metric, value in zip(self._quality, values, strict=True):
                metric.observe(value)
