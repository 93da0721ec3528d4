"""What people say of answers: looked up, counted once, and kept with the face where that is wanted.

What was answered stands in the prediction id, signed, so that nothing has to be remembered of answers that nobody
judges: any process, or server with the same secret, takes the feedback, if it has loaded that version since its start.
The first word on a face counts; the same word again does no harm, another one is refused, since a counter cannot take
back. Servers whose `feedback_directory` is not the same do not know of each other's: each would count the same word.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TypeVar

from emotion_detection.errors import FeedbackError
from emotion_detection.feedback import Added, Judgement
from emotion_detection.prediction_ids import PredictionId, is_marked, mark_key, normal_form, parse_id
from serving.errors import (
    AlreadyJudged,
    ExpiredPrediction,
    FeedbackUnavailable,
    InvalidRequest,
    UnknownLabel,
    UnknownPrediction,
)
from serving.feedback_metrics import FeedbackCounters, FeedbackMetrics
from serving.feedback_schemas import FeedbackAnswer, FeedbackDeleted, FeedbackRequest
from serving.feedback_settings import FeedbackSettings
from serving.waiting_faces import WaitingFaces

log = logging.getLogger(__name__)
CLOCK = 60.0
"""Seconds by which the clocks of two servers may differ."""
ROUND = 60.0
"""Seconds between two looks at what is to go."""
DAY = 86_400
Result = TypeVar("Result")


class Judgements:
    """Belongs to one event loop."""

    def __init__(self, settings: FeedbackSettings, metrics: FeedbackMetrics) -> None:
        """Raises:
        FeedbackError: faces are to be kept, and cannot be.
        """
        self._settings, self._metrics = settings, metrics
        self._store = settings.open_feedback()
        self.secret = mark_key(settings.feedback_secret.get_secret_value()) if settings.feedback != "off" else None
        """With which prediction ids are marked; none: they are not."""
        self.faces: WaitingFaces | None = None
        """Those that wait to be judged; none: they are not held."""
        if settings.feedback == "keep":
            self._store.create()
            memory = round(1e6 * settings.feedback_waiting_megabytes)
            self.faces = WaitingFaces(self._seconds, memory)
        self._rounds: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Delete what is to go, from now on."""
        if self.faces is not None:
            await self.faces.start()
        self._rounds = asyncio.create_task(self._go_round())

    async def stop(self) -> None:
        if self._rounds is not None:
            self._rounds.cancel()
            with suppress(asyncio.CancelledError):
                await self._rounds
        if self.faces is not None:
            self.faces.stop()

    async def judge(self, said: FeedbackRequest) -> FeedbackAnswer:
        """Count what was said, and keep the face if that is wanted.

        Raises:
            UnknownPrediction, ExpiredPrediction: there is no such answer, or it was too long ago.
            InvalidRequest, UnknownLabel: it has no such face, or its model no such label.
            AlreadyJudged: something else was said of the face before.
            FeedbackUnavailable: it cannot be written down.
        """
        name = normal_form(said.prediction_id)
        prediction, counters = self._answered(name)
        predicted = counters.labels[_class_of(prediction, said.face)]
        if said.label not in counters.labels:
            raise UnknownLabel(f"label: found {said.label!r}; the model knows {', '.join(counters.labels)}")
        image = await self.faces.find(name, said.face) if self.faces else None
        now = time.time()
        kept_until = now + DAY * self._settings.feedback_days if image else None
        forget_at = now + self._seconds + CLOCK
        judgement = Judgement(name, said.face, counters.version, predicted, said.label, now, forget_at, kept_until)
        added = await self._stored(lambda: self._store.add(judgement, image))
        if added is Added.OTHER:
            raise AlreadyJudged("something else was said of this face before, or it was deleted; the first word counts")
        if added is Added.NEW:
            counters.count(predicted, said.label)
        return _answer(judgement, counted=added is Added.NEW)

    async def delete(self, prediction_id: str) -> FeedbackDeleted:
        """Delete what was said of an answer, and its faces.

        Raises:
            UnknownPrediction: nothing was.
            FeedbackUnavailable: it cannot be deleted now.
        """
        name = normal_form(prediction_id)
        count = await self._stored(lambda: self._store.delete(name)) if parse_id(name) else 0
        if not count:
            raise UnknownPrediction("there is no feedback on this answer, or not any more")
        return FeedbackDeleted(prediction_id=name, faces=count)

    def _answered(self, name: str) -> tuple[PredictionId, FeedbackCounters]:
        prediction = parse_id(name)
        if prediction is None:
            raise UnknownPrediction("prediction_id: expected one as answers have it")
        if not prediction.predicted:
            raise UnknownPrediction("prediction_id: that answer had no face, or its server took no feedback")
        counters = self._metrics.of(prediction.prefix)
        if counters is None or self.secret is None or not is_marked(name, self.secret):
            raise UnknownPrediction("prediction_id: this server has given no such answer since its start")
        age = time.time() - prediction.answered_at.timestamp()
        if age > self._seconds:
            hours = self._settings.feedback_hours
            raise ExpiredPrediction(f"the answer is {age / 3600:.1f} hours old; it could be judged for {hours:g}")
        return prediction, counters

    async def _stored(self, work: Callable[[], Result]) -> Result:
        try:
            result = await asyncio.to_thread(work)
            self._metrics.show_size(*await asyncio.to_thread(self._store.size))
        except FeedbackError as error:
            log.error("feedback: %s", error)
            raise FeedbackUnavailable("feedback cannot be written down now; the server's log says why") from None
        return result

    async def _go_round(self) -> None:
        while True:
            if self.faces is not None:
                self.faces.drop_old()
            with suppress(FeedbackUnavailable):  # it is in the log
                await self._stored(lambda: self._store.purge(DAY * self._settings.feedback_days))
            await asyncio.sleep(ROUND)

    @property
    def _seconds(self) -> float:
        """For which an answer can be judged."""
        return 3600 * self._settings.feedback_hours


def _class_of(prediction: PredictionId, face: int) -> int:
    if face >= len(prediction.predicted):
        raise InvalidRequest(f"face: found {face}; the answer has {len(prediction.predicted)}, counted from 0")
    return prediction.predicted[face]


def _answer(judgement: Judgement, *, counted: bool) -> FeedbackAnswer:
    until = judgement.keep_until if counted else None
    return FeedbackAnswer(
        prediction_id=judgement.prediction_id,
        face=judgement.face,
        model_version=judgement.version,
        predicted=judgement.predicted,
        label=judgement.label,
        right=judgement.predicted == judgement.label,
        counted=counted,
        kept_until=datetime.fromtimestamp(until, UTC) if until else None,
    )
