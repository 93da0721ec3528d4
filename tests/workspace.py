"""A small repository root with shards and a trained model, as evaluate and export find it."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emotion_detection.artifacts import (
    DATASET,
    DATASET_SCHEMA,
    DECISIONS,
    DECISIONS_SCHEMA,
    SHARDS,
    DatasetInfo,
    History,
    RunInfo,
    model_dir,
    write_record,
)
from emotion_detection.params import load_params
from emotion_detection.preprocess import encode_png

LABELS = ("angry", "happy", "sad")
SIZE = 16
MODEL = "small"
COUNTS = {"train": 90, "val": 75, "test": 60}
PARAMS = f"""
seed: 0
data: {{image_size: {SIZE}, channels: 1, shards: 2}}
models: {{{MODEL}: {{architecture: lenet, filters: [4], dense: [8]}}}}
evaluation: {{bootstrap: 200, ece_bins: 10, mistakes: 7}}
export: {{parity_images: 20, int8: {{enabled: false}}}}
"""


def workspace(factory: pytest.TempPathFactory, target: Path) -> Path:
    """Copy the workspace to `target`; it is built once per test session."""
    original = factory.getbasetemp() / "trained_workspace"
    if not original.exists():
        unfinished = factory.mktemp("workspace")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(unfinished)
            build()
        unfinished.rename(original)
    return Path(shutil.copytree(original, target, dirs_exist_ok=True))


def faces(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright bar for each class: uint8 (N, S, S, 1), labels (N,). Some cannot be told apart."""
    count = COUNTS[split]
    random = np.random.default_rng(count)
    labels = np.arange(count) % len(LABELS)
    pixels = random.normal(110, 45, size=(count, SIZE, SIZE, 1))
    for image, label in zip(pixels, labels, strict=True):
        image[5 * label : 5 * label + 5] += random.uniform(0, 50)
    return pixels.clip(0, 255).astype(np.uint8), labels


def build() -> None:
    """Write params.yaml, data/ and models/small/ into the current directory."""
    Path("params.yaml").write_text(PARAMS)
    write_data()
    write_model()


def write_data() -> DatasetInfo:
    from emotion_detection.data.sharding import write_shards

    rows = []
    for split in COUNTS:
        for number, (image, label) in enumerate(zip(*faces(split), strict=True)):
            data = encode_png(image)
            path = f"{split}/{LABELS[label]}/{number}.png"
            rows.append(
                {
                    "path": path,
                    "split": split,
                    "label": LABELS[label],
                    "image": data,
                    "sha256": hashlib.sha256(data).hexdigest(),
                    "width": SIZE,
                    "height": SIZE,
                    "mode": "L",
                    "format": "PNG",
                }
            )
    DATASET.parent.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, DATASET_SCHEMA), DATASET)
    decisions = [row | {"keep": True, "reason": None, "defects": []} for row in rows]
    decisions = [{name: row[name] for name in DECISIONS_SCHEMA.names} for row in decisions]
    pq.write_table(pa.Table.from_pylist(decisions, DECISIONS_SCHEMA), DECISIONS)
    params = load_params()
    return write_shards(params.data, params.seed)


def write_model() -> None:
    """Train for a moment: better than chance, far from perfect."""
    from emotion_detection.backend import keras
    from emotion_detection.data.shards import load_arrays
    from emotion_detection.models import InputSpec, build_model

    keras.utils.set_random_seed(0)
    model = build_model("lenet", InputSpec(SIZE, 1, len(LABELS)), {"filters": (4,), "dense": (8,)})
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    arrays = load_arrays(SHARDS, "train")
    model.fit(arrays.images, arrays.labels, batch_size=15, epochs=15, verbose=0)
    directory = model_dir(MODEL)
    directory.mkdir(parents=True)
    model.save(directory / "model.keras")
    curves = {name: [1.0, 0.5, 0.4] for name in ("loss", "accuracy", "val_loss", "val_accuracy")}
    metrics = curves | {"learning_rate": [1e-3] * 3, "seconds": [2.0, 1.0, 1.0]}
    history = History(metrics=metrics, best_epoch=1, resumed_at=[], parameters=model.count_params())
    write_record(directory / "history.json", history)
    write_record(directory / "run.json", RunInfo(training_id="1" * 64, run_id=None, experiment="test"))
