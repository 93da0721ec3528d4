"""Heat maps from a ModelBundle, with ONNX Runtime alone: what the server explains its answers with.

    explain = BundleExplainer(bundle, engine.predict)
    heat = explain(images, targets)             # float32 (N, S, S), 0 to 1
    explain.method                              # how: occlusion where there is no explain.onnx

Everything is safe to call from several threads at once.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnxruntime as ort

from emotion_detection.bundle import HEAT_NAME, INPUT_NAME, OUTPUT_NAME, TARGET_NAME, ModelBundle, Wanted
from emotion_detection.errors import BundleError
from emotion_detection.explain.heatmaps import Heat, Images, Method, Predict, Targets, occlusion


class BundleExplainer:
    """Explains the answers of one bundle, by `explain.onnx` or by occlusion."""

    def __init__(self, bundle: ModelBundle, predict: Predict, threads: int = 1) -> None:
        """Load `explain.onnx`, if there is one, and run it once.

        Args:
            bundle: as `read_bundle` gives it.
            predict: the bundle's probabilities (N, K) for uint8 (N, S, S, C).
            threads: of ONNX Runtime within one call.

        Raises:
            BundleError: `explain.onnx` has changed, cannot be loaded or run, or answers in another form.
        """
        self.method: Method = bundle.info.explanation.method if bundle.info.explanation else "occlusion"
        self._predict, self._path = predict, bundle.explain_path
        if self._path:
            self._session = open_session(bundle, self._path, threads)
            self._warm_up(bundle)

    def __call__(self, images: Images, targets: Targets) -> Heat:
        """Explain classes `targets` (N,), 0 to K - 1, of uint8 (N, S, S, C); float32 (N, S, S) in [0, 1]."""
        if not self._path:
            return self.occlusion(images, targets)
        feed = {INPUT_NAME: images, TARGET_NAME: np.asarray(targets, np.int64)}
        heat: Heat = self._session.run([HEAT_NAME], feed)[0]
        return heat

    def occlusion(self, images: Images, targets: Targets) -> Heat:
        """As calling it, by occlusion: about 120 predictions per image."""
        return occlusion(self._predict, images, targets)

    def _warm_up(self, bundle: ModelBundle) -> None:
        info = bundle.info
        blank = np.zeros((1, info.image_size, info.image_size, info.channels), np.uint8)
        try:
            heat = self(blank, np.zeros(1, np.int64))
        except Exception as error:  # ONNX Runtime's errors have no common base of their own
            raise _refused(self._path, f"cannot be run on {blank.shape} {blank.dtype}: {error}") from None
        if heat.shape != blank.shape[:3] or heat.dtype != np.float32:
            raise _refused(self._path, f"answers with {heat.shape} {heat.dtype}, expected {blank.shape[:3]} float32")


def predictor(bundle: ModelBundle, threads: int = 1, precision: Wanted = "auto") -> Predict:
    """The bundle's own answers, for where no server holds a session.

    Raises:
        BundleError: it lacks the wanted precision, or the graph has changed or cannot be loaded.
    """
    session = open_session(bundle, bundle.graph_path(bundle.precision(precision)), threads)

    def predict(images: Images) -> Heat:
        probabilities: Heat = session.run([OUTPUT_NAME], {INPUT_NAME: images})[0]
        return probabilities

    return predict


def open_session(bundle: ModelBundle, path: Path, threads: int) -> ort.InferenceSession:
    """Load a graph of a bundle, which may have been read long ago.

    Raises:
        BundleError: the file is gone, or another one by now, or ONNX Runtime cannot load it.
    """
    try:
        graph = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}; it was there when the bundle was read") from None
    if hashlib.sha256(graph).hexdigest() != bundle.info.files[path.name]:
        raise BundleError(f"{path}: has changed since the bundle was read; read it again")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        raise _refused(path, f"ONNX Runtime cannot load it: {error}") from None


def _refused(path: Path | None, why: str) -> BundleError:
    return BundleError(f"{path}: {why}; export the model again")
