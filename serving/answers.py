"""Answers of /detect as bytes: what pydantic would write for `schemas.Detection`, at a fraction of its cost.

    answers = Answers(model, metrics)              # once for each model
    answers.detection(cut, rows)                   -> (prediction id, JSON)

All of an answer but its numbers is the same for every image that a model sees: it is formatted once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import chain, repeat
from weakref import WeakKeyDictionary

from emotion_detection.crops import Crop, Cut
from emotion_detection.prediction_ids import MOST_CLASSES, PredictionIds, id_prefix
from serving.engine import Probabilities
from serving.headers import Block
from serving.metrics import Metrics
from serving.model import ServedModel
from serving.schemas import ModelReference
from serving.waiting_faces import WaitingFaces

_NOBODY = '"label":null,"confidence":null,"probabilities":null'
_FACE = (
    '{"box":{"x":%d,"y":%d,"width":%d,"height":%d},"score":%s,"detector":%s,%s,'
    '"quality":{"size":%d,"brightness":%.6g,"contrast":%.6g,"sharpness":%.6g,"reasons":%s,"ok":%s}}'
)
_ANSWER = '{"prediction_id":"%s",%s,"image":{"width":%d,"height":%d},"faces":[%s],'


class Answers:
    """Writes the answers of one model, and counts them."""

    def __init__(
        self, model: ServedModel, metrics: Metrics, secret: bytes | None = None, waiting: WaitingFaces | None = None
    ) -> None:
        """Args:
        secret: with which prediction ids are marked, so that people can judge the answers; none: they cannot.
        waiting: where faces wait for being judged; none: nowhere.
        """
        reference = ModelReference.of(model)
        self._version = model.version  # and not the model, which is to go once another one answers
        self.headers = Block((name.lower().encode(), text.encode()) for name, text in reference.headers().items())
        told = secret if len(model.labels) <= MOST_CLASSES else None
        self._ids, self._waiting = PredictionIds(id_prefix(model.version, model.digest), told), waiting
        self._labels = [json.dumps(label) for label in model.labels]
        # 9 digits give back every float32.
        probabilities = ",".join(f"{label.replace('%', '%%')}:%.9g" for label in self._labels)
        self._emotion = '"label":%s,"confidence":%.9g,"probabilities":{' + probabilities + "}"
        self._end = f'"model":{reference.model_dump_json()}}}'
        self._counters = metrics.prediction_counters(model)

    def detection(self, cut: Cut, rows: Probabilities, heat: Sequence[str] = ()) -> tuple[str, str]:
        """Write one answer and count it.

        Args:
            cut: the n faces of one image.
            rows: float32 (n, K), in the same order.
            heat: JSON of the heat maps of the first faces.

        Returns:
            Prediction id, and the JSON of a `Detection`.

        Raises:
            ArithmeticError: the model gave something else than finite numbers.
        """
        judged = [self._judge(row) for row in self._values(rows)]
        emotions = [emotion for _, emotion in judged]
        faces = ",".join(map(_face, cut.crops, emotions, chain(heat, repeat(""))))
        prediction_id = self._ids.of([best for best, _ in judged])
        if self._waiting is not None:
            self._waiting.add(prediction_id, cut.images)
        start = _ANSWER % (prediction_id, emotions[0] if emotions else _NOBODY, cut.width, cut.height, faces)
        return prediction_id, start + self._end

    def count(self, rows: Probabilities) -> str:
        """Count answers that are written elsewhere, float32 (n, K).

        Returns:
            Prediction id.

        Raises:
            ArithmeticError: as `detection`.
        """
        return self._ids.of([self._judge(row)[0] for row in self._values(rows)])

    def _values(self, rows: Probabilities) -> list[list[float]]:
        values: list[list[float]] = rows.tolist()
        if not math.isfinite(sum(map(sum, values))):
            raise ArithmeticError(f"model {self._version} answered with {values}")
        return values

    def _judge(self, row: list[float]) -> tuple[int, str]:
        """Index of the most probable emotion, and the JSON of all."""
        confidence = max(row)
        best = row.index(confidence)
        confidence = min(confidence, 1.0)  # float32 may round a certain answer to just above
        self._counters.count(best, row)
        return best, self._emotion % (self._labels[best], confidence, *row)


def _face(crop: Crop, emotion: str, heat: str) -> str:
    (box, score, detector), quality = crop
    size, brightness, contrast, sharpness, reasons = quality
    found = "null" if score is None else f"{score:.6g}", f'"{detector}"' if detector else "null"
    judged = json.dumps(reasons) if reasons else "[]", "false" if reasons else "true"
    face = _FACE % (*box, *found, emotion, size, brightness, contrast, sharpness, *judged)
    return f'{face[:-1]},"heatmap":{heat}}}' if heat else face


class AnswerBook:
    """The `Answers` of every model that still answers, made with the first of them."""

    def __init__(self, metrics: Metrics, secret: bytes | None = None, waiting: WaitingFaces | None = None) -> None:
        """As `Answers`."""
        self._metrics, self._secret, self._waiting = metrics, secret, waiting
        self._answers: WeakKeyDictionary[ServedModel, Answers] = WeakKeyDictionary()

    def __call__(self, model: ServedModel) -> Answers:
        answers = self._answers.get(model)
        if answers is None:
            answers = self._answers[model] = Answers(model, self._metrics, self._secret, self._waiting)
        return answers
