"""What the gate needs to know of a bundle: its answers to given images, and how long one face takes.

    scores = score(read_bundle(Path("bundles/lenet")), images)
    scores.probabilities, scores.milliseconds, scores.precision

It is the graph that a server would answer with: int8 where the bundle has it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from emotion_detection.bundle import INPUT_NAME, OUTPUT_NAME, ModelBundle, Precision
from emotion_detection.errors import BundleError
from emotion_detection.timing import medians_in_turns

BATCH = 256
Timed = tuple[ModelBundle, Precision]


@dataclass(frozen=True)
class Scores:
    """A bundle's answers."""

    probabilities: NDArray[np.float32]
    """(N, K), in the order of the bundle's labels."""
    milliseconds: float
    """Median time of one face, batch 1, one thread."""
    precision: Precision = "fp32"
    """Of the graph that answered."""


def score(bundle: ModelBundle, images: NDArray[np.uint8]) -> Scores:
    """Run the graph that is served with ONNX Runtime.

    Args:
        images: uint8 (N, S, S, C), as the bundle's input says; N > 0.

    Raises:
        BundleError: the graph cannot be loaded or does not take these images.
    """
    return Scores(predictor(bundle)(images), milliseconds_per_face(bundle), bundle.precision())


def predictor(bundle: ModelBundle, threads: int = 0) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """The graph that is served, loaded once: probabilities (N, K) of images uint8 (N, S, S, C), N > 0.

    Args:
        threads: that a batch is divided among; 0: as many as there are cores.

    Raises:
        BundleError: as `score`; also when it is called.
    """
    graph = (bundle, bundle.precision())
    session = _session(graph, threads)

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
        return np.concatenate([_run(graph, session, batch) for batch in batches])

    return predict


def milliseconds_in_turns(graphs: Sequence[Timed], batch: int) -> list[float]:
    """Median time of a batch of blank faces for each graph, one thread; they take turns.

    Raises:
        BundleError: a graph cannot be loaded or run.
    """
    works = [partial(_run, graph, _session(graph, threads=1), _blank(graph[0], batch)) for graph in graphs]
    return [1000 * seconds for seconds in medians_in_turns(works)]


def milliseconds_per_face(bundle: ModelBundle) -> float:
    """Median time of one face, batch 1, one thread, with the graph that is served.

    Raises:
        BundleError: the graph cannot be loaded or run.
    """
    return milliseconds_in_turns([(bundle, bundle.precision())], 1)[0]


def _blank(bundle: ModelBundle, batch: int) -> NDArray[np.uint8]:
    info = bundle.info
    return np.zeros((batch, info.image_size, info.image_size, info.channels), np.uint8)


def _session(graph: Timed, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads  # 0: as many as there are cores
    options.log_severity_level = 4
    path = graph[0].graph_path(graph[1])
    try:
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no common base of their own
        raise BundleError(f"{path}: ONNX Runtime cannot load it: {error}") from None


def _run(graph: Timed, session: ort.InferenceSession, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    bundle, path = graph[0], graph[0].graph_path(graph[1])
    try:
        answer: NDArray[np.float32] = session.run([OUTPUT_NAME], {INPUT_NAME: images})[0]
    except Exception as error:
        raise BundleError(f"{path}: cannot be run on {images.shape} {images.dtype}: {error}") from None
    expected = (len(images), len(bundle.info.labels))
    if answer.shape != expected or not np.isfinite(answer).all():
        raise BundleError(f"{path}: expected finite probabilities {expected}, got shape {answer.shape}")
    return answer
