"""Knowledge distillation: what other models say to a training image becomes a part of its target.

    teachers = open_teachers(training.distillation, info)     # none where no teachers are named
    targets = teachers.taught(images, targets)                # uint8 (B, S, S, C), float32 (B, K) -> float32 (B, K)

After G. Hinton et al., "Distilling the knowledge in a neural network" (2015), at temperature 1: a bundle's
probabilities are calibrated. The teachers see each image augmented as the pupil sees it (L. Beyer et al., "Knowledge
distillation: a good teacher is patient and consistent", 2022), before images are mixed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotion_detection.artifacts import DatasetInfo
from emotion_detection.backend import tf
from emotion_detection.bundle import ModelBundle, read_bundle
from emotion_detection.errors import BundleError, ParamsError
from emotion_detection.params import DistillationParams

Tensor = Any
Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class Teachers:
    """Bundles that are asked together; the mean of their probabilities counts."""

    def __init__(self, bundles: Sequence[ModelBundle], labels: Sequence[str], weight: float) -> None:
        """Load the graphs that a server would answer with.

        Args:
            labels: names of the K outputs, in the order of the pupil's.
            weight: part of the target that is theirs, 0 to 1.

        Raises:
            BundleError: a graph cannot be loaded.
        """
        from emotion_detection.scoring import predictor  # noqa: PLC0415  ONNX Runtime, which few trainings need

        self.weight = weight
        self._classes = len(labels)
        self._asked = [(predictor(bundle, threads=1), columns(bundle, labels)) for bundle in bundles]

    def taught(self, images: Tensor, targets: Tensor) -> Tensor:
        """Targets of which `weight` is what the teachers say: float32 (B, K) from uint8 (B, S, S, C) and (B, K)."""
        said = tf.numpy_function(self._mean, [images], tf.float32, stateful=False)
        said = tf.ensure_shape(said, (None, self._classes))
        return (1 - self.weight) * targets + self.weight * said

    def _mean(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        said = [predict(images)[:, order] for predict, order in self._asked]
        return np.asarray(np.mean(said, axis=0), np.float32)


def open_teachers(distillation: DistillationParams, info: DatasetInfo) -> Teachers | None:
    """The teachers that the parameters name.

    Raises:
        ParamsError: one is missing or damaged, or made for other images or labels than the data set has.
    """
    if not distillation.teachers:
        return None
    try:
        bundles = [_fitting(read_bundle(Path(name).expanduser()), info) for name in distillation.teachers]
        return Teachers(bundles, info.labels, distillation.weight)
    except BundleError as error:
        raise ParamsError(f"training.distillation.teachers: {error}") from None


def columns(bundle: ModelBundle, labels: Sequence[str]) -> list[int]:
    """Where each of `labels` stands among the outputs of a bundle that has them all."""
    return [bundle.info.labels.index(label) for label in labels]


def _fitting(bundle: ModelBundle, info: DatasetInfo) -> ModelBundle:
    teacher = bundle.info
    found = (teacher.image_size, teacher.channels, sorted(teacher.labels))
    expected = (info.image_size, info.channels, sorted(info.labels))
    if found != expected:
        told = "images of {0} x {0} x {1} and the labels {2}"
        raise BundleError(
            f"{bundle.directory} is for {told.format(*found[:2], ', '.join(found[2]))}, but data/shards has "
            f"{told.format(*expected[:2], ', '.join(expected[2]))}; take a bundle that was trained on such data"
        )
    return bundle
