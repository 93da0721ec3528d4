"""A trained model's answers to the images of one split.

    model = asked(trained, flip_average=True)            # what is judged and served
    logits = predict_logits(model, arrays.images)        # uint8 (N, S, S, C) -> float32 (N, K)

Evaluate measures them; export compares the ONNX graph with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from emotion_detection import stats
from emotion_detection.artifacts import DatasetInfo, Report, report_dir
from emotion_detection.backend import keras, tf
from emotion_detection.errors import ArtifactError
from emotion_detection.params import Params
from emotion_detection.stats import Counts, Floats

BATCH_SIZE = 256


@dataclass(frozen=True)
class Answers:
    """What a model said to the images of one split.

    Raises:
        ArtifactError: fewer than two classes have images, so that ROC-AUC, for one, is undefined.
    """

    split: str
    names: Sequence[str]
    """(K,) class names."""
    images: NDArray[np.uint8]
    """(N, S, S, C)."""
    sha256: Sequence[str]
    labels: NDArray[np.int32]
    """(N,), in 0 to K - 1."""
    logits: NDArray[np.float32]
    """(N, K), before temperature."""
    temperature: float = 1.0
    agreement: Floats | None = None
    """(N,), share of the voters who saw what most of them saw; NaN where nobody voted; None without votes."""

    def __post_init__(self) -> None:
        if len(self.present) < 2:
            raise ArtifactError(
                f"data/shards: split {self.split} has images of {len(self.present)} classes, and judging a model "
                "needs at least 2; see data.split and validation in params.yaml"
            )

    def scaled(self, temperature: float) -> Answers:
        return replace(self, temperature=temperature)

    @property
    def present(self) -> list[int]:
        """Classes that have images."""
        return [int(index) for index in np.unique(self.labels)]

    @property
    def predicted(self) -> NDArray[np.int32]:
        """(N,)."""
        return np.asarray(self.logits.argmax(axis=1), dtype=np.int32)

    @property
    def confusion(self) -> Counts:
        """(K, K), rows the true classes."""
        return stats.confusion_matrix(self.labels, self.predicted, len(self.names))

    @property
    def probabilities(self) -> Floats:
        """(N, K), after temperature."""
        return stats.softmax(self.logits / self.temperature)

    def reliability(self, bins: int) -> stats.Reliability:
        return stats.reliability(self.probabilities, self.labels, bins)


def check_fits(model: keras.Model, info: DatasetInfo) -> None:
    """Compare input and output of a model with the data set.

    Raises:
        ArtifactError: the model was trained for other images or another number of labels.
    """
    expected = (info.image_size, info.image_size, info.channels), len(info.labels)
    found = tuple(model.input_shape[1:]), model.output_shape[-1]
    if found != expected:
        raise ArtifactError(
            f"model {model.name}: takes images {found[0]} and gives {found[1]} outputs, but data/shards has images "
            f"{expected[0]} and {expected[1]} labels; run `dvc repro`"
        )


def checked_flip_average(report: Report, params: Params) -> bool:
    """Whether the model is asked with the mirror image, too.

    Raises:
        ArtifactError: it was judged, and its temperature fitted, otherwise.
    """
    flip_average = params.flip_average_of(report.model)
    if flip_average != report.flip_average:
        judged = "with" if report.flip_average else "without"
        raise ArtifactError(
            f"{report_dir(report.model) / 'metrics.json'}: judged {judged} the mirror image, but params.yaml has "
            f"inference.flip_average: {params.inference.flip_average}; run `dvc repro`"
        )
    return flip_average


def asked(model: keras.Model, flip_average: bool) -> keras.Model:
    """What answers in place of a trained model: itself, or the mean of its logits for a face and its mirror image.

    Both images stand in one batch of twice the size, so that the graph holds every weight and operation once.
    """
    if not flip_average:
        return model
    image = keras.Input(model.input_shape[1:], dtype="uint8", name="image")
    both = model(keras.ops.concatenate([image, image[:, :, ::-1]], axis=0))
    logits = keras.ops.mean(keras.ops.reshape(both, (2, -1, model.output_shape[-1])), axis=0)
    return keras.Model(image, logits, name=model.name)


def predict_logits(
    model: keras.Model, images: NDArray[np.uint8], description: str = "predict", quiet: bool = False
) -> NDArray[np.float32]:
    """Outputs of a model in full float32, batch by batch, with a progress bar on a terminal.

    Args:
        images: uint8 (N, S, S, C), N > 0.
        quiet: no progress bar.

    Returns:
        float32 (N, K).

    Raises:
        ArtifactError: some outputs are not finite, since training diverged.
    """
    # GPUs round to TF32 by default, by more than export allows; the server computes in float32, too.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    starts = range(0, len(images), BATCH_SIZE)
    batches = [
        np.asarray(model.predict_on_batch(images[start : start + BATCH_SIZE]), dtype=np.float32)
        for start in track(starts, description, console=Console(stderr=True), disable=quiet)
    ]
    outputs = np.concatenate(batches)
    broken = int((~np.isfinite(outputs)).any(axis=1).sum())
    if broken:
        raise ArtifactError(
            f"model {model.name}: outputs that are not finite for {broken} of {len(outputs)} images; its training "
            "diverged, so lower training.learning_rate and train again"
        )
    return outputs
