"""The emotions in pictures, from a bundle in this process or from a server: the same record either way.

detector = LocalDetector(read_bundle(Path("bundles/lenet")), FaceFinder())
detector = ServerDetector("http://127.0.0.1:8000")
detector.file(data, "auto")        -> what `POST /detect` answers, as a dict
detector.frame(pixels, "all")      -> the same for a frame of a video
"""

from __future__ import annotations

import json
import os
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_detection.bundle import ModelBundle, Wanted
from emotion_detection.crops import Crop, Cut, Cutter, How
from emotion_detection.errors import DetectionError, ImageError
from emotion_detection.explain.bundles import predictor
from emotion_detection.faces import FaceFinder
from emotion_detection.preprocess import Pixels

Record = dict[str, Any]
KEY_VARIABLE = "EMOTION_SERVER_KEY"
_SECONDS = 60
_BUSY, _TRIES = (429, 503), 5
_OF_IMAGES = (413, 415, 422)
"""Statuses that say something about the image, not about the server."""


class Detector(Protocol):
    """Finds faces and says what emotion is in each."""

    def file(self, data: bytes, how: How) -> Record:
        """Judge an image file.

        Raises:
            ImageError: it cannot be used.
            DetectionError: there is no answer, whatever the image.
        """

    def frame(self, image: Pixels, how: How) -> Record:
        """Judge pixels, uint8 (height, width, 3), RGB, upright."""


class LocalDetector:
    """Answers with a bundle, in this process."""

    def __init__(self, bundle: ModelBundle, find: FaceFinder, precision: Wanted = "auto") -> None:
        """Load the model.

        Args:
            precision: which of the bundle's graphs is to answer.

        Raises:
            BundleError: the bundle lacks the wanted precision, or the graph cannot be loaded.
        """
        self._info, self._precision = bundle.info, bundle.precision(precision)
        self._predict = predictor(bundle, precision=precision)
        self._cutter = Cutter(find, find.sees_colour)

    def file(self, data: bytes, how: How) -> Record:
        return self._answer(self._cutter.cut_file(data, self._info.image_size, self._info.channels, how))

    def frame(self, image: Pixels, how: How) -> Record:
        seen = image
        if self._info.channels == 1:
            seen = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)[..., np.newaxis]
        return self._answer(self._cutter.cut(seen, self._info.image_size, how, lambda: image))

    def _answer(self, cut: Cut) -> Record:
        rows = self._predict(cut.images) if cut.crops else np.empty((0, len(self._info.labels)), np.float32)
        faces = [_face(crop, self._emotion(row)) for crop, row in zip(cut.crops, rows, strict=True)]
        nothing = dict.fromkeys(("label", "confidence", "probabilities"))
        largest = {key: faces[0][key] for key in nothing} if faces else nothing
        model = {"name": self._info.model, "bundle_sha256": self._info.digest(), "precision": self._precision}
        return {**largest, "image": {"width": cut.width, "height": cut.height}, "faces": faces, "model": model}

    def _emotion(self, row: NDArray[np.floating[Any]]) -> Record:
        best = int(row.argmax())
        probabilities = dict(zip(self._info.labels, map(float, row), strict=True))
        return {
            "label": self._info.labels[best],
            "confidence": min(float(row[best]), 1.0),
            "probabilities": probabilities,
        }


class ServerDetector:
    """Asks a server; waits where it says that there is too much to do (429 and 503 with Retry-After)."""

    def __init__(self, url: str) -> None:
        """Args:
        url: of the server, without `/detect`. Its API key, where it wants one, is in EMOTION_SERVER_KEY.
        """
        import requests  # noqa: PLC0415  (a bundle in this process needs no HTTP)
        from requests.adapters import HTTPAdapter  # noqa: PLC0415
        from urllib3 import Retry  # noqa: PLC0415

        self._url, self._session = url.rstrip("/"), requests.Session()
        busy = Retry(_TRIES, connect=0, read=0, status_forcelist=_BUSY, allowed_methods=None, raise_on_status=False)
        self._session.mount(self._url, HTTPAdapter(max_retries=busy))
        if key := os.environ.get(KEY_VARIABLE):
            self._session.headers["X-API-Key"] = key

    def file(self, data: bytes, how: How) -> Record:
        status, content = self._post("/detect", data, "application/octet-stream", {"faces": how})
        if status in _OF_IMAGES:
            raise ImageError(content["detail"])
        return self._accepted("/detect", status, content)

    def tell(self, record: Record, label: str) -> None:
        """Say what the largest face of an answer shows.

        Raises:
            DetectionError: the server does not take it.
        """
        said = json.dumps({"prediction_id": record["prediction_id"], "label": label})
        self._accepted("/feedback", *self._post("/feedback", said.encode(), "application/json"))

    def _post(
        self, path: str, data: bytes, content_type: str, params: dict[str, str] | None = None
    ) -> tuple[int, Record]:
        headers, url = {"Content-Type": content_type}, f"{self._url}{path}"
        try:
            answer = self._session.post(
                url, params=params, data=data, headers=headers, timeout=_SECONDS, allow_redirects=False
            )
            return answer.status_code, answer.json()
        except OSError as error:  # the base of all that requests raises, answers that are no JSON among it
            raise DetectionError(f"{url}: no answer ({type(error).__name__}); does `emotion serve` run?") from None

    def _accepted(self, path: str, status: int, content: Record) -> Record:
        if status != 200:
            raise DetectionError(f"{self._url}{path}: status {status}: {content.get('detail')}")
        return dict(content)

    def frame(self, image: Pixels, how: How) -> Record:
        _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
        return self.file(data.tobytes(), how)


def describe_server(url: str) -> Record:
    """What a server's `GET /model` says of the model that answers.

    Raises:
        DetectionError: it does not say.
    """
    import requests  # noqa: PLC0415

    key = os.environ.get(KEY_VARIABLE)
    address = f"{url.rstrip('/')}/model"
    try:
        answer = requests.get(address, headers={"X-API-Key": key} if key else {}, timeout=_SECONDS)
        content = answer.json()
    except OSError as error:
        raise DetectionError(f"{address}: no answer ({type(error).__name__}); does `emotion serve` run?") from None
    if answer.status_code != 200:
        raise DetectionError(f"{address}: status {answer.status_code}: {content.get('detail')}")
    return dict(content)


def _face(crop: Crop, emotion: Record) -> Record:
    (box, score, detector), quality = crop
    judged = quality._asdict() | {"reasons": list(quality.reasons), "ok": quality.ok}
    return {"box": box._asdict(), "score": score, "detector": detector, **emotion, "quality": judged}
