"""Faces that people judged, as the server keeps them: a source of its own, or beside another one.

    FeedbackSource(Path(".cache/feedback"))                      data.source
    WithFeedback(source, FeedbackSource(...))                    data.source and data.feedback

Beside another source they are for training alone: what judges models stays what it was, whoever says what of which
face. Alone they are cut into splits like those of any other source. Each is a PNG of what the model saw.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from emotion_detection.artifacts import FEEDBACK_PREFIX
from emotion_detection.data.sources.base import Sample, Source
from emotion_detection.errors import FeedbackError, SourceError
from emotion_detection.feedback import FeedbackStore
from emotion_detection.labels import listed
from emotion_detection.params import Split
from emotion_detection.seal import seal_of_environment


class FeedbackSource:
    """The kept faces of a feedback store.

    Raises:
        SourceError: it is missing or no such store, or its faces are encrypted with a key that is not given.
    """

    kind = "feedback"
    named_splits: frozenset[Split] = frozenset()

    def __init__(self, path: Path) -> None:
        try:
            self._store = FeedbackStore(path, seal_of_environment())
            self._count, self.digest = self._store.kept()
        except FeedbackError as error:
            raise SourceError(f"feedback: {error}") from None

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Sample]:
        try:
            for judgement, image in self._store.faces():
                path = f"{FEEDBACK_PREFIX}{judgement.prediction_id}/{judgement.face}.png"
                yield Sample(path, judgement.label, image, None)
        except FeedbackError as error:
            raise SourceError(f"feedback: {error}") from None


class WithFeedback:
    """A source, and after its images the faces of the feedback, to train on.

    Faces under labels that the source does not have are left out, and told on standard error.
    """

    def __init__(self, source: Source, feedback: FeedbackSource) -> None:
        self._source, self._feedback = source, feedback
        self.kind, self.named_splits = source.kind, source.named_splits

    def __len__(self) -> int:
        return len(self._source) + len(self._feedback)

    def __iter__(self) -> Iterator[Sample]:
        labels: set[str] = set()
        for sample in self._source:
            labels.add(sample.label)
            yield sample
        strange: list[str] = []
        for sample in self._feedback:
            if sample.label in labels:
                yield replace(sample, only_train=True)
            else:
                strange.append(sample.label)
        if strange:
            what = f"{len(strange)} face(s) labelled {listed(sorted(set(strange)))}"
            print(f"warning: data.feedback: left out {what}: data.source has no such class", file=sys.stderr)
