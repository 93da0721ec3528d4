"""Answers to the training images by models that have not seen them: k trainings, each without a k-th of the images.

    logits = out_of_fold("lenet", params, SHARDS, folds=5)       # float32 (N, K), in the order of `load_arrays`

Each fold's shards are written from the records of the training split, so that a fold is trained exactly as the model
itself, on data of any size. A fold that is finished is kept (`.checkpoints/labels/`) and not trained again; one that
was killed goes on after its last epoch. Equal images are on the same side. The last weights answer, not the best ones:
those would be chosen by the very labels that are in question. So patience ends no stage, and fine-tuning goes on from
the last weights, too.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from emotion_detection.artifacts import DatasetInfo, History, atomic_directory, atomic_file, write_record
from emotion_detection.averaging import WeightAverage
from emotion_detection.backend import keras, tf
from emotion_detection.checkpoint import CHECKPOINTS, Checkpoint
from emotion_detection.data.shards import INFO_FILE, load_arrays, read_dataset_info, sha256_of, shard_name
from emotion_detection.errors import ArtifactError, ParamsError
from emotion_detection.inference import predict_logits
from emotion_detection.params import Params
from emotion_detection.saving import in_float32
from emotion_detection.tracking import LiveRun
from emotion_detection.training import Trainer, code_version, training_id

Logits = NDArray[np.float32]
Folds = NDArray[np.int64]


@dataclass(frozen=True)
class Fold:
    """One part of the training images, and the model that has not seen it."""

    number: int
    held_out: NDArray[np.bool_]
    """(N,), true for the images of this part."""
    place: Path
    """Where its shards and its checkpoint are while it is trained; beside it, as .npy, what it answered."""


class LastIsBest(Checkpoint):
    """Keeps the last weights for the best: what the training measures on val are the labels in question."""

    def save(self, model: keras.Model, history: History, average: WeightAverage | None = None) -> None:
        """As `Checkpoint.save`."""
        last = len(history.metrics["loss"]) - 1
        super().save(model, history.model_copy(update={"best_epoch": last}), average)


def out_of_fold(
    name: str, params: Params, shards: Path, folds: int, checkpoints: Path = CHECKPOINTS / "labels"
) -> Logits:
    """Train a model `folds` times and collect what each says of the images that it has not seen.

    Args:
        name: entry in `models` of params.yaml.
        params: all parameters, such as `shortened` gives them.
        checkpoints: where folds are kept.

    Returns:
        float32 (N, K) for the N training images, in the order of `load_arrays`.

    Raises:
        ParamsError: there is no such model, a hyperparameter is wrong, or there are fewer images than folds.
        ArtifactError: the shards are missing or damaged, or the disk is full.
    """
    params = _with_training(params, name, patience=0)
    info, arrays = read_dataset_info(shards), load_arrays(shards, "train")
    fold_of = assign(arrays.sha256, arrays.labels.tolist(), folds, params.seed)
    _check(fold_of, arrays.labels, folds, info)
    identity = f"{training_id(name, params, info)[:16]}-{code_version(params.model(name).architecture, info)}-{folds}"
    logits = np.empty((len(fold_of), len(info.labels)), np.float32)
    for number in range(folds):
        Console(highlight=False).print(f"{name}: fold {number + 1} of {folds}")
        fold = Fold(number, fold_of == number, checkpoints / name / identity / f"fold-{number}")
        logits[fold.held_out] = _answers(name, params, shards, fold)
    return logits


def shortened(params: Params, name: str, epochs: int | None) -> Params:
    """Parameters with another number of epochs for one model, and no fine-tuning; as they are for None."""
    return params if epochs is None else _with_training(params, name, epochs=epochs, finetuning=[])


def assign(sha256: Sequence[str], labels: Sequence[int], folds: int, seed: int) -> Folds:
    """The fold of each image, (N,): equal images share one, and each class is spread evenly; `seed` decides."""
    label_of = dict(zip(reversed(sha256), reversed(labels), strict=True))  # the first of equal images decides
    order = sorted(label_of, key=lambda key: hashlib.sha256(f"{seed}:{key}".encode()).digest())
    place, seen = {}, dict.fromkeys(labels, 0)
    for key in order:
        place[key] = seen[label_of[key]] % folds
        seen[label_of[key]] += 1
    return np.array([place[key] for key in sha256])


def _with_training(params: Params, name: str, **changes: object) -> Params:
    entry = params.model(name)
    changed = entry.model_copy(update={"training": {**entry.training, **changes}})
    return params.model_copy(update={"models": {**params.models, name: changed}})


def _check(fold_of: Folds, labels: NDArray[np.int32], folds: int, info: DatasetInfo) -> None:
    for number in range(folds):
        present = np.unique(labels[fold_of != number])
        if not (fold_of == number).any() or len(present) < len(info.labels):
            raise ParamsError(
                f"--folds: found {folds}, but without fold {number + 1} a class has no training image, or the fold "
                f"itself has none; the classes have {info.counts['train']} images; add some, or choose fewer folds"
            )


def _answers(name: str, params: Params, shards: Path, fold: Fold) -> Logits:
    finished, own = fold.place.with_suffix(".npy"), fold.place / "shards"
    if finished.exists():
        return _finished(finished, int(fold.held_out.sum()))
    write_fold(shards, fold.held_out, own)
    trainer = Trainer(name, params, read_dataset_info(own), own)
    trainer.run(LastIsBest(fold.place / "state"), LiveRun(name))
    with trainer.average.in_model() if trainer.average else nullcontext():
        images = load_arrays(own, "val").images
        logits = predict_logits(in_float32(trainer.model), images, f"{name}: images of fold {fold.number + 1}")
    with atomic_file(finished) as temporary, temporary.open("wb") as file:
        np.save(file, logits)
    shutil.rmtree(fold.place)
    return logits


def _finished(path: Path, images: int) -> Logits:
    try:
        logits: Logits = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: damaged ({error}); remove it") from None
    if len(logits) != images:
        raise ArtifactError(f"{path}: has answers to {len(logits)} images, expected {images}; remove it")
    return logits


def write_fold(shards: Path, held_out: NDArray[np.bool_], directory: Path) -> None:
    """Copy the training records: those that are `held_out`, (N,) in their order, to val, the others to train.

    Raises:
        ArtifactError: a shard is missing or damaged, or the disk is full.
    """
    info, labels = read_dataset_info(shards), load_arrays(shards, "train").labels
    files = [str(shards / name) for name in sorted(info.files) if name.startswith("train-")]
    names = {split: shard_name(split, 0, 1) for split in ("train", "val")}
    with atomic_directory(directory) as temporary:
        paths = {split: temporary / file for split, file in names.items()}
        with tf.io.TFRecordWriter(str(paths["train"])) as train, tf.io.TFRecordWriter(str(paths["val"])) as val:
            for is_out, record in zip(held_out, tf.data.TFRecordDataset(files).as_numpy_iterator(), strict=True):
                (val if is_out else train).write(record)
        counts = {"train": _counts(info, labels[~held_out]), "val": _counts(info, labels[held_out])}
        write_record(
            temporary / INFO_FILE, _described(info, counts, {path.name: sha256_of(path) for path in paths.values()})
        )


def _counts(info: DatasetInfo, labels: NDArray[np.int32]) -> dict[str, int]:
    found = np.bincount(labels, minlength=len(info.labels))
    return dict(zip(info.labels, found.tolist(), strict=True))


def _described(info: DatasetInfo, counts: dict[str, dict[str, int]], files: dict[str, str]) -> DatasetInfo:
    train, total = counts["train"], sum(counts["train"].values())
    return info.model_copy(
        update={
            "counts": {**counts, "test": dict.fromkeys(info.labels, 0)},
            "class_weights": {label: total / len(train) / number for label, number in train.items()},
            "reference_shares": {label: number / total for label, number in train.items()},
            "files": files,
        }
    )
