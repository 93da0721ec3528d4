"""What people said of answers, as a confusion matrix, and how much of it is kept; part of `Metrics`.

The rules in monitoring/prometheus/rules/accuracy.yml make live accuracy of it. A counter cannot take anything back:
the first word on a face counts.
"""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge

from emotion_detection.prediction_ids import id_prefix
from serving.model import ServedModel


class FeedbackCounters:
    """The confusion matrix of one model; all its series stand at zero from the start."""

    def __init__(self, counter: Counter, labels: tuple[str, ...], version: str) -> None:
        self.labels, self.version = labels, version
        self._cells = {
            (predicted, actual): counter.labels(predicted, actual, version) for predicted in labels for actual in labels
        }

    def count(self, predicted: str, actual: str) -> None:
        self._cells[predicted, actual].inc()


class FeedbackMetrics:
    """The matrices of all models that this process has served, by the beginning of their prediction ids."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counter = Counter(
            "emotion_feedback",
            "Answers that people judged, by what was predicted and what they say that it is",
            ["predicted", "actual", "model_version"],
            registry=registry,
        )
        gauge = partial(Gauge, multiprocess_mode="mostrecent", registry=registry)
        self._kept = gauge("emotion_feedback_kept_faces", "Faces that are kept with what people said of them")
        self._bytes = gauge("emotion_feedback_bytes", "Size of the file of feedback")
        self._models: dict[str, FeedbackCounters] = {}

    def add(self, model: ServedModel) -> None:
        """From now on, the answers of a model can be judged."""
        prefix = id_prefix(model.version, model.digest)
        if prefix not in self._models:
            self._models[prefix] = FeedbackCounters(self._counter, model.labels, model.version)

    def of(self, prefix: str) -> FeedbackCounters | None:
        """The matrix of the model whose prediction ids begin so; none where it was not served here."""
        return self._models.get(prefix)

    def show_size(self, faces: int, size: int) -> None:
        """Tell what is kept: faces, and bytes of the file."""
        self._kept.set(faces)
        self._bytes.set(size)
