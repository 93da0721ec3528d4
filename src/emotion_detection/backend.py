"""TensorFlow and Keras, imported without their start-up chatter.

    from emotion_detection.backend import keras, tf

TensorFlow writes half a screen about oneDNN and missing CUDA drivers to standard error while it is imported and
looks for devices, and since 2.19 no environment variable stops all of it. Errors after that are shown as usual.
Meanwhile what Keras would import for features that are not used here is kept out, as that takes seconds.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
_UNUSED_BY_KERAS = ("matplotlib", "pandas", "sklearn")


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


@contextlib.contextmanager
def _kept_out(modules: Iterable[str]) -> Iterator[None]:
    """Within, an import of one of these raises ModuleNotFoundError, which Keras is prepared for."""
    missing = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(missing))  # type: ignore[arg-type]  # None says so: Python reference, 5.3.1
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]


with _silenced_stderr(), _kept_out(_UNUSED_BY_KERAS):
    import keras
    import tensorflow as tf

    GPUS = len(tf.config.list_physical_devices("GPU"))
    """Graphics processors that TensorFlow can use."""
    if keras.backend.backend() != "tensorflow":
        tf.config.set_visible_devices([], "GPU")  # it reads and augments images only, and would take their memory

__all__ = ["GPUS", "keras", "tf"]
