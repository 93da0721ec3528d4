"""The published mini_xception weights on this checkout's val and test faces, alone or against a model trained here.

    python -m benchmarks.public_mini_xception --weights fer2013_mini_XCEPTION.102-0.66.hdf5 [--model models/NAME]

Single view, no augmentation. Run it after `make run data.source=fer2013.zip data.image_size=64` (64 is what the weights
were trained at; smaller faces are upsized). Validation drops copies of training images from val (PublicTest) and test
(PrivateTest), so both models see the same leak-free faces. Intervals are 95 % bootstrap; p is McNemar's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from emotion_detection import stats
from emotion_detection.artifacts import SHARDS
from emotion_detection.backend import keras
from emotion_detection.data.shards import load_arrays, read_dataset_info
from emotion_detection.errors import ArtifactError, reported
from emotion_detection.inference import predict_logits
from emotion_detection.models import InputSpec, architectures, build_model, import_architecture
from emotion_detection.pretrained import load_backbone

PUBLIC_LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
RESAMPLES, CONFIDENCE = 10_000, 0.95


def public_model(weights: Path, spec: InputSpec) -> keras.Model:
    """The published network with all its weights; logits in the order of `PUBLIC_LABELS`."""
    model = build_model("mini_xception", spec, {})
    load_backbone(model, str(weights))
    return model


def public_logits(model: keras.Model, images: NDArray[np.uint8], labels: Sequence[str]) -> NDArray[np.float32]:
    """Float (N, 7), in the order of `labels`.

    Raises:
        ArtifactError: `labels` are other classes than the published ones.
    """
    if sorted(labels) != sorted(PUBLIC_LABELS):
        raise ArtifactError(f"data/shards: has the classes {', '.join(labels)}; the weights know {PUBLIC_LABELS}")
    order = [PUBLIC_LABELS.index(label) for label in labels]
    return np.asarray(predict_logits(model, images))[:, order]


def trained_model(directory: Path) -> keras.Model:
    """model.keras of a directory that the train stage made, of whatever architecture."""
    for architecture in architectures():
        import_architecture(architecture)
    return keras.saving.load_model(directory / "model.keras")


def row(logits: NDArray[np.float32], labels: NDArray[np.int32]) -> tuple[str, str, NDArray[np.bool_]]:
    """Accuracy with its interval, macro-F1, and which answers are right."""
    confusion = stats.confusion_matrix(labels, logits.argmax(axis=1), logits.shape[1])
    low, high = stats.bootstrap_interval(confusion, stats.accuracy, RESAMPLES, CONFIDENCE, seed=0)
    accuracy = f"{float(stats.accuracy(confusion)):.4f} ({low:.4f} to {high:.4f})"
    return accuracy, f"{float(stats.macro_f1(confusion)):.4f}", logits.argmax(axis=1) == labels


def main(
    weights: Annotated[Path, typer.Option(help="fer2013_mini_XCEPTION.102-0.66.hdf5")],
    model: Annotated[Path | None, typer.Option(help="directory of a model trained here, such as models/vit")] = None,
    shards: Annotated[Path, typer.Option(help="directory of the shards stage")] = SHARDS,
) -> None:
    """Print a row for each split and model."""
    info = read_dataset_info(shards)
    public = public_model(weights, InputSpec(info.image_size, info.channels, len(PUBLIC_LABELS)))
    ours = trained_model(model) if model else None
    table = Table("split", "faces", "model", "accuracy", "macro-F1", "ours - public", "p")
    for split in ("val", "test"):
        arrays = load_arrays(shards, split)
        accuracy, macro_f1, right = row(public_logits(public, arrays.images, info.labels), arrays.labels)
        table.add_row(split, f"{len(arrays.labels):,}", "public mini_xception", accuracy, macro_f1)
        if ours is not None and model is not None:
            accuracy, macro_f1, mine = row(np.asarray(predict_logits(ours, arrays.images)), arrays.labels)
            difference, low, high = stats.paired_bootstrap(mine, right, RESAMPLES, CONFIDENCE, seed=0)
            change = f"{difference:+.4f} ({low:+.4f} to {high:+.4f})"
            table.add_row("", "", model.name, accuracy, macro_f1, change, f"{stats.mcnemar(mine, right):.2g}")
    Console(width=120).print(table)


if __name__ == "__main__":
    with reported():
        typer.run(main)
