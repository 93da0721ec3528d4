"""What the gate needs to know of a bundle: its answers to given images, and how long one face takes.

scores = score(read_bundle(Path("bundles/lenet")), images)
scores.probabilities, scores.milliseconds
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from emotion_detection.bundle import INPUT_NAME, OUTPUT_NAME, ModelBundle
from emotion_detection.errors import BundleError

BATCH = 256
WARM_UP, TIMED = 5, 50
FEWEST_ROUNDS, ROUNDS_SECONDS = 5, 3.0


@dataclass(frozen=True)
class Scores:
    """A bundle's answers."""

    probabilities: NDArray[np.float32]
    """(N, K), in the order of the bundle's labels."""
    milliseconds: float
    """Median time of one face, batch 1, one thread."""


def score(bundle: ModelBundle, images: NDArray[np.uint8]) -> Scores:
    """Run the bundle's graph with ONNX Runtime.

    Args:
        images: uint8 (N, S, S, C), as the bundle's input says; N > 0.

    Raises:
        BundleError: the graph cannot be loaded or does not take these images.
    """
    return Scores(predictor(bundle)(images), milliseconds_per_face(bundle, images[:1]))


def predictor(bundle: ModelBundle) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """The graph that is served, loaded once: probabilities (N, K) of images uint8 (N, S, S, C), N > 0.

    Raises:
        BundleError: as `score`; also when it is called.
    """
    graph = bundle
    session = _session(graph, threads=0)

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
        return np.concatenate([_run(graph, session, batch) for batch in batches])

    return predict


def milliseconds_in_turns(bundles: Sequence[ModelBundle], batch: int) -> list[float]:
    """Median time of a batch of each bundle, one thread; they take turns, so that whatever else the machine does meets
    all of them.

    Raises:
        BundleError: a graph cannot be loaded or run.
    """
    infos, sessions = [bundle.info for bundle in bundles], [_session(bundle, threads=1) for bundle in bundles]
    faces = [np.zeros((batch, info.image_size, info.image_size, info.channels), np.uint8) for info in infos]
    seconds: list[list[float]] = [[] for _ in bundles]
    start = time.perf_counter()
    while len(seconds[0]) < FEWEST_ROUNDS or (len(seconds[0]) < TIMED and time.perf_counter() - start < ROUNDS_SECONDS):
        for bundle, session, images, times in zip(bundles, sessions, faces, seconds, strict=True):
            began = time.perf_counter()
            _run(bundle, session, images)
            times.append(time.perf_counter() - began)
    return [1000 * statistics.median(times[1:]) for times in seconds]


def milliseconds_per_face(bundle: ModelBundle, image: NDArray[np.uint8] | None = None) -> float:
    """Median time of one face, batch 1, one thread.

    Args:
        image: uint8 (1, S, S, C); by default a blank one.

    Raises:
        BundleError: the graph cannot be loaded or run.
    """
    info = bundle.info
    face = np.zeros((1, info.image_size, info.image_size, info.channels), np.uint8) if image is None else image
    session = _session(bundle, threads=1)
    seconds = []
    for _ in range(WARM_UP + TIMED):
        start = time.perf_counter()
        _run(bundle, session, face)
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds[WARM_UP:])


def _session(bundle: ModelBundle, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads  # 0: as many as there are cores
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(bundle.model_path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no common base of their own
        raise BundleError(f"{bundle.model_path}: ONNX Runtime cannot load it: {error}") from None


def _run(bundle: ModelBundle, session: ort.InferenceSession, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    try:
        answer: NDArray[np.float32] = session.run([OUTPUT_NAME], {INPUT_NAME: images})[0]
    except Exception as error:
        raise BundleError(f"{bundle.model_path}: cannot be run on {images.shape} {images.dtype}: {error}") from None
    expected = (len(images), len(bundle.info.labels))
    if answer.shape != expected or not np.isfinite(answer).all():
        raise BundleError(f"{bundle.model_path}: expected finite probabilities {expected}, got shape {answer.shape}")
    return answer
