"""TensorFlow and Keras, imported without their start-up chatter.

    from emotion_detection.backend import keras, tf

TensorFlow writes half a screen about oneDNN and missing CUDA drivers to standard error while it is imported and
looks for devices, and since 2.19 no environment variable stops all of it. Errors after that are shown as usual.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@contextlib.contextmanager
def _silenced_stderr() -> Iterator[None]:
    # The text comes from C++, which knows nothing of sys.stderr.
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as null:
            os.dup2(null.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


with _silenced_stderr():
    import keras
    import tensorflow as tf

    GPUS = len(tf.config.list_physical_devices("GPU"))
    """Graphics processors that TensorFlow can use."""
    if keras.backend.backend() != "tensorflow":
        tf.config.set_visible_devices([], "GPU")  # it reads and augments images only, and would take their memory

__all__ = ["GPUS", "keras", "tf"]
