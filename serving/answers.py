"""Answers of /detect as bytes: what pydantic would write for `schemas.Detection`, at a fraction of its cost.

    answers = Answers(model, metrics)              # once for each model
    answers.detection(row)                         -> (prediction id, JSON)

All of an answer but its numbers is the same for every image that a model sees: it is formatted once.
"""

from __future__ import annotations

import json
import math

from emotion_detection.prediction_ids import id_prefix, new_id
from serving.engine import Probabilities
from serving.metrics import Metrics
from serving.model import ServedModel
from serving.schemas import ModelReference

Header = tuple[bytes, bytes]


class Answers:
    """Writes the answers of one model, and counts them."""

    def __init__(self, model: ServedModel, metrics: Metrics) -> None:
        reference = ModelReference.of(model)
        self._version = model.version  # and not the model, which is to go once another one answers
        self.headers: list[Header] = [
            (name.lower().encode(), text.encode()) for name, text in reference.headers().items()
        ]
        self._id_prefix = id_prefix(model.version, model.digest)
        self._labels = [json.dumps(label) for label in model.labels]
        # 9 digits give back every float32.
        probabilities = ",".join(f"{label.replace('%', '%%')}:%.9g" for label in self._labels)
        self._template = (
            '{"prediction_id":"%s","label":%s,"confidence":%.9g,"probabilities":{'
            + probabilities
            + '},"model":'
            + reference.model_dump_json().replace("%", "%%")
            + "}"
        )
        self._counters = metrics.prediction_counters(model)

    def detection(self, row: Probabilities) -> tuple[str, str]:
        """Write one answer and count it.

        Args:
            row: float32 (K,).

        Returns:
            Prediction id, and the JSON of a `Detection`.

        Raises:
            ArithmeticError: the model gave something else than finite numbers.
        """
        values = row.tolist()
        if not math.isfinite(sum(values)):
            raise ArithmeticError(f"model {self._version} answered with {values}")
        confidence = max(values)
        best = values.index(confidence)
        confidence = min(confidence, 1.0)  # float32 may round a certain answer to just above
        self._counters.count(best, confidence)
        prediction_id = new_id(self._id_prefix)
        return prediction_id, self._template % (prediction_id, self._labels[best], confidence, *values)
