"""A verified bundle, ready to answer: ONNX Runtime sessions, preprocessing, warm-up, golden faces.

    engine = Engine(read_bundle(Path("bundles/lenet")))
    engine.predict(engine.crops(jpeg_bytes))          -> float32 (1, K), the row sums to 1
    engine.precision, engine.graph                    -> int8 where the bundle has it and it is wanted; its file

Nothing here knows of HTTP, and everything is safe to call from several threads at once.
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from emotion_detection.bundle import INPUT_NAME, OUTPUT_NAME, ModelBundle, Precision, Wanted
from emotion_detection.errors import BundleError, GoldenMismatch
from emotion_detection.golden import check_golden
from emotion_detection.preprocess import MAX_PIXELS, Pixels, prepare

Probabilities = NDArray[np.float32]
log = logging.getLogger(__name__)


class Engine:
    """Answers with the model of one bundle, for as long as it lives.

    It has two sessions: one runs within the thread that calls it, so that as many threads as there are cores share
    them without standing in each other's way; the other spreads one call over all cores, for a request that is alone.
    """

    def __init__(self, bundle: ModelBundle, threads: int = 1, precision: Wanted = "auto") -> None:
        """Load the graph, check that it is what `bundle.json` says, and that it answers the golden faces.

        Args:
            bundle: as `read_bundle` gives it.
            threads: of ONNX Runtime within one call of `predict` that is alone.
            precision: which of the bundle's graphs is to answer.

        Raises:
            BundleError: the bundle lacks the wanted precision; or the graph cannot be loaded or run, or its inputs or
                outputs differ from the contract.
            GoldenMismatch: it answers the golden faces otherwise than at training; where `precision` is auto, int8 that
                does so gives way to fp32.
        """
        self._bundle = bundle
        self._open(bundle.precision(precision), threads)
        try:
            self._check()
        except GoldenMismatch as error:
            # x86 processors without VNNI overflow in int8.
            if precision != "auto" or self.precision == "fp32":
                raise
            log.warning("%s; fp32 answers instead", error)
            self._open("fp32", threads)
            self._check()

    def _open(self, precision: Precision, threads: int) -> None:
        self.precision, self.graph = precision, self._bundle.graph_path(precision)
        self._session = open_session(self.graph, 1)
        self._wide_session = open_session(self.graph, threads) if threads > 1 else self._session

    def _check(self) -> None:
        for alone in (False, True):
            self._warm_up(alone)
            check_golden(self._bundle, partial(self.predict, alone=alone), self.precision)
        if self._bundle.golden(self.precision) is None:
            log.warning("%s: has no golden faces to check the answers with; export it again", self._bundle.directory)

    def crops(self, data: bytes, max_pixels: int = MAX_PIXELS) -> Pixels:
        """Decode an image file of one face into the model's input, uint8 (1, S, S, C).

        Raises:
            NotAnImage, BrokenImage, ImageTooLarge: as `preprocess.decode`.
        """
        info = self._bundle.info
        return prepare(data, info.image_size, info.channels, max_pixels)[np.newaxis]

    def predict(self, images: Pixels, alone: bool = False) -> Probabilities:
        """Calibrated probabilities.

        Args:
            images: uint8 (N, S, S, C).
            alone: whether all cores may work on this call.

        Returns:
            float32 (N, K), in the order of the bundle's labels; each row sums to 1.
        """
        session = self._wide_session if alone else self._session
        probabilities: Probabilities = session.run([OUTPUT_NAME], {INPUT_NAME: images})[0]
        return probabilities

    def _warm_up(self, alone: bool) -> None:
        info = self._bundle.info
        blank = np.zeros((1, info.image_size, info.image_size, info.channels), np.uint8)
        try:
            answer = self.predict(blank, alone)
        except Exception as error:  # ONNX Runtime's errors have no common base of their own
            raise _refused(self.graph, f"cannot be run on {blank.shape} {blank.dtype}: {error}") from None
        if answer.shape != (1, len(info.labels)) or answer.dtype != np.float32:
            expected = f"(1, {len(info.labels)}) float32"
            raise _refused(self.graph, f"answers with {answer.shape} {answer.dtype}, expected {expected}")
        if not np.isclose(answer.sum(), 1, atol=1e-3):  # false for NaN as well
            raise _refused(self.graph, f"answers with {answer[0]}, which are no probabilities")


def open_session(path: Path, threads: int) -> ort.InferenceSession:
    """Load a graph.

    Args:
        threads: of ONNX Runtime within one run.

    Raises:
        BundleError: it cannot be loaded.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads take the cores that the workers need to decode.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        raise _refused(path, f"ONNX Runtime cannot load it: {error}") from None


def _refused(path: Path, why: str) -> BundleError:
    return BundleError(f"{path}: {why}; export the model again")
