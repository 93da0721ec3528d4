"""The reference that a bundle carries, measured at export: training faces, and answers to the validation split.

measured_reference("lenet", info, temperature=1.3)      -> Reference

Faces are taken from the shards, as the model saw them, and answers from the report, so no model runs.
"""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from emotion_detection.artifacts import PREDICTIONS_SCHEMA, SHARDS, DatasetInfo, read_table, report_dir
from emotion_detection.data.shards import load_split
from emotion_detection.errors import ArtifactError
from emotion_detection.face_quality import measure
from emotion_detection.preprocess import Pixels
from emotion_detection.reference import Floats, Reference, entropy_bits, histogram
from emotion_detection.stats import softmax

BATCH_SIZE = 256


def measured_reference(name: str, info: DatasetInfo, temperature: float) -> Reference:
    """Measure what drift of a model is measured against.

    Raises:
        ArtifactError: the model has no predictions, or none of the validation split.
    """
    batches = load_split(SHARDS, "train", BATCH_SIZE).as_numpy_iterator()
    brightness, contrast, sharpness = np.concatenate([quality_of(images) for images, _ in batches]).T
    labels, predicted, probabilities = _answers(name, temperature)
    confidence = probabilities.max(axis=1)
    counts = np.bincount(predicted, minlength=len(info.labels)).tolist()
    return Reference(
        brightness=histogram("brightness", brightness),
        contrast=histogram("contrast", contrast),
        sharpness=histogram("sharpness", sharpness),
        confidence=histogram("confidence", confidence),
        entropy=histogram("entropy", entropy_bits(probabilities)),
        predicted=dict(zip(info.labels, counts, strict=True)),
        accuracy=float((labels == predicted).mean()),
        mean_confidence=float(confidence.mean()),
    )


def quality_of(images: Pixels) -> Floats:
    """Brightness, contrast and sharpness, float64 (N, 3), of faces, uint8 (N, S, S, C)."""
    size = images.shape[1]
    return np.array([measure(image, size)[1:4] for image in images], dtype=np.float64).reshape(-1, 3)


def _answers(name: str, temperature: float) -> tuple[NDArray[np.int32], NDArray[np.int32], Floats]:
    path = report_dir(name) / "predictions.parquet"
    table = read_table(path, PREDICTIONS_SCHEMA).filter(pc.field("split") == "val")
    if len(table) == 0:
        raise ArtifactError(f"{path}: holds no predictions of the validation split; run `dvc repro`")
    logits = np.stack(table["logits"].to_numpy())
    return table["label"].to_numpy(), table["predicted"].to_numpy(), softmax(logits / temperature)
