"""Bundles of untrained models and the images to send: speed does not depend on what a model has learned.

python -m benchmarks.serving.bundles emotion_cnn /tmp/bundles/emotion_cnn
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import typer

LABELS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
SIZE = 48


def export_untrained(architecture: str, directory: Path) -> None:
    """Write a verified bundle for 48 x 48 grey images; takes TensorFlow a few seconds."""
    from emotion_detection.artifacts import DatasetInfo, Report  # noqa: PLC0415  (they import TensorFlow)
    from emotion_detection.bundle import (  # noqa: PLC0415
        GOLDEN_FILE,
        MODEL_FILE,
        BundleInfo,
        Lineage,
        file_sha256,
        write_bundle_info,
    )  # fmt: skip
    from emotion_detection.export import convert, golden_faces  # noqa: PLC0415
    from emotion_detection.golden import TOLERANCE, write_golden  # noqa: PLC0415
    from emotion_detection.inference import predict_logits  # noqa: PLC0415
    from emotion_detection.models import InputSpec, build_model  # noqa: PLC0415
    from emotion_detection.stats import softmax  # noqa: PLC0415

    model = build_model(architecture, InputSpec(SIZE, 1, len(LABELS)), {})
    report = Report.model_construct(model=architecture, temperature=1.0)
    graph = convert(model, DatasetInfo.model_construct(labels=LABELS), report, opset=18)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / MODEL_FILE).write_bytes(graph.SerializeToString(deterministic=True))
    faces = golden_faces(SIZE, 1)
    write_golden(directory / GOLDEN_FILE, faces, softmax(predict_logits(model, faces)))
    content = BundleInfo(
        model=architecture,
        architecture=architecture,
        parameters=model.count_params(),
        labels=LABELS,
        image_size=SIZE,
        channels=1,
        temperature=1.0,
        reference_shares=dict.fromkeys(LABELS, 1 / len(LABELS)),
        metrics={},
        lineage=Lineage(commit=None, dirty=False, dvc_lock=None, data_hash="none", training_id="none"),
        golden_tolerance=TOLERANCE,
        files={file.name: file_sha256(file) for file in sorted(directory.iterdir())},
    )
    write_bundle_info(directory, content)


def jpeg(width: int, height: int, channels: int = 1, seed: int = 0) -> bytes:
    """A smooth random image as JPEG of quality 90, of about the size in bytes that a photo has."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (max(height // 8, 6), max(width // 8, 6), channels), dtype=np.uint8)
    pixels = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


if __name__ == "__main__":
    typer.run(export_untrained)
