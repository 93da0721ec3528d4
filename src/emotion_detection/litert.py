"""Keras models as LiteRT (TensorFlow Lite) files, which phones and boards run.

    with Converter(model, temperature) as converter:
        small = converter.int8(faces)                        # bytes of a .tflite file
    probabilities = LiteRTModel(small)(images)

    image uint8 (1, S, S, C) -> model -> / temperature -> softmax -> probabilities float32 (1, K)

One face at a time: delegates for GPUs and NPUs want fixed shapes, and a phone has no batch.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from emotion_detection.backend import keras, tf
from emotion_detection.errors import ExportError

INPUT_NAME, OUTPUT_NAME, SIGNATURE = "image", "probabilities", "serving_default"
Images = NDArray[np.uint8]
Probabilities = NDArray[np.float32]


class Converter:
    """One model on its way to LiteRT; a SavedModel of it lies in a temporary directory meanwhile."""

    def __init__(self, model: keras.Model, temperature: float) -> None:
        """Args:
        model: uint8 (N, S, S, C) -> logits (N, K).
        """
        self._model, self._temperature = model, temperature
        self._directory = TemporaryDirectory()

    def __enter__(self) -> Self:
        def serve(image: Any) -> dict[str, Any]:
            return {OUTPUT_NAME: tf.nn.softmax(self._model(image, training=False) / self._temperature)}

        # Through a SavedModel: from a function alone, the converter leaves weights out and every answer is NaN.
        shape = (1, *self._model.input_shape[1:])
        archive = keras.export.ExportArchive()
        archive.track(self._model)
        archive.add_endpoint(SIGNATURE, serve, input_signature=[tf.TensorSpec(shape, tf.uint8, name=INPUT_NAME)])
        archive.write_out(self._directory.name, verbose=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._directory.cleanup()

    def float32(self) -> bytes:
        """The graph as it is.

        Raises:
            ExportError: the model has an operation that LiteRT does not have.
        """
        return self._converted(self._converter())

    def int8(self, calibration: Images | None) -> bytes:
        """The graph with weights in 8 bits.

        Args:
            calibration: static: training faces, uint8 (N, S, S, C), N > 0, whose ranges the activations take; all that
                has an 8-bit kernel computes in integers, and only input and output are as before. None: dynamic:
                ranges of the face at hand, for convolutions and matrix products alone.

        Raises:
            ExportError: as `float32`.
        """
        converter = self._converter()
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if calibration is not None:
            converter.representative_dataset = lambda: ({INPUT_NAME: face[np.newaxis]} for face in calibration)
        return self._converted(converter)

    def _converter(self) -> Any:
        return tf.lite.TFLiteConverter.from_saved_model(self._directory.name, signature_keys=[SIGNATURE])

    def _converted(self, converter: Any) -> bytes:
        try:
            with _undeprecated():
                content: bytes = converter.convert()
        except Exception as error:  # the converter raises whatever its passes happen to raise
            raise ExportError(f"model {self._model.name}: LiteRT cannot convert it: {_first_line(error)}") from error
        return content


class LiteRTModel:
    """A LiteRT file, loaded into the interpreter with XNNPACK's kernels, as on a phone's processor."""

    def __init__(self, file: Path | bytes, threads: int = 1) -> None:
        """
        Raises:
            ExportError: it is no LiteRT file, has another input or output than these, or cannot be run on this machine.
        """
        self.name = file.name if isinstance(file, Path) else "LiteRT graph"
        try:
            content = file.read_bytes() if isinstance(file, Path) else file
            self.size = len(content)
            with _undeprecated():
                self.interpreter = tf.lite.Interpreter(model_content=content, num_threads=threads)
                self.interpreter.allocate_tensors()
            self._run = self.interpreter.get_signature_runner(SIGNATURE)
            self._shape = tuple(self._run.get_input_details()[INPUT_NAME]["shape"])
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise ExportError(f"{self.name}: the LiteRT interpreter cannot load it: {_first_line(error)}") from error

    def __call__(self, images: Images) -> Probabilities:
        """Probabilities (N, K) of images uint8 (N, S, S, C), N > 0, one after the other.

        Raises:
            ExportError: the images have another shape or type than the input.
        """
        if images.dtype != np.uint8 or images.shape[1:] != self._shape[1:]:
            raise ExportError(f"{self.name}: takes uint8 {self._shape}, got {images.dtype} {images.shape}")
        return np.concatenate([self._run(**{INPUT_NAME: face[np.newaxis]})[OUTPUT_NAME] for face in images])


@contextmanager
def _undeprecated() -> Iterator[None]:
    """TensorFlow warns that its interpreter moves to the package ai-edge-litert; as long as it is here, it will do."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\s*Warning: tf.lite.Interpreter is deprecated")
        yield


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
