"""The challenger: the version under another alias, tried beside the champion that answers; see shadow.py, canary.py.

    challenger = Challenger(settings, champion, queue, metrics)     # with a share of 0 of both, nothing is asked for
    challenger.start()
    challenger.canary.choose(scope)

It is watched, fetched, verified, warmed and swapped by what does so for the champion. Other than there, its alias need
not exist; and what the alias names no more, or names but is refused, is not tried any longer: no unproven model answers
against the registry's word. For the same reason it is never taken from the cache before the registry has been asked.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from serving.batching import BatchQueue
from serving.canary import Canary
from serving.challenger_metrics import CanaryMetrics, ChallengerMetrics, ShadowMetrics
from serving.loading_metrics import ABSENT
from serving.metrics import Metrics
from serving.model import ModelSlot, ServedModel
from serving.settings import Settings
from serving.shadow import Shadow
from serving.sources import RegistrySource
from serving.watcher import Watcher

log = logging.getLogger(__name__)


class Challenger:
    """Whoever challenges now, with its shadow and its canary."""

    def __init__(self, settings: Settings, champion: ModelSlot, queue: BatchQueue, metrics: Metrics) -> None:
        """Nothing runs before `start`.

        Args:
            champion: the model that answers.
            queue: where it does.
        """
        self._settings, self._queue = settings, queue
        self.slot = ModelSlot()
        canary = CanaryMetrics(metrics.registry, settings.canary_share)
        shadow = ShadowMetrics(metrics.registry, settings.shadow_share, settings.shadow_queue_size)
        self.canary = Canary(settings, champion, self.slot, canary)
        self._shadow = Shadow(settings, champion, self.slot, shadow, queue.busy)
        self._watcher = ChallengerWatcher(settings, self.slot, Display(metrics, canary, settings))

    def start(self) -> None:
        """Follow the alias, as far as anything is to be tried."""
        if self._settings.tries_challenger:
            self._watcher.start()
        if self._settings.shadow_share:
            self._shadow.start()
            self._queue.tap = self._shadow.offer

    def stop(self) -> None:
        """End soon."""
        self._watcher.stop()
        self._shadow.stop()

    def poll_now(self) -> None:
        """Ask the registry without waiting for the end of the pause."""
        self._watcher.poll_now()


class Display:
    """What is told of a challenger wherever it changes."""

    def __init__(self, metrics: Metrics, canary: CanaryMetrics, settings: Settings) -> None:
        self._metrics, self._canary, self._answers = metrics, canary, settings.canary_share > 0
        self._challenger = ChallengerMetrics(metrics.registry)
        self.loading = self._challenger.loading

    def show_model(self, model: ServedModel | None) -> None:
        """Tell which version challenges from now on; none: none does."""
        self._challenger.show_model(model)
        self._canary.show_model(model)
        if model is not None and self._answers:
            self._metrics.prediction_counters(model)


class ChallengerSource(RegistrySource):
    """Gives models that are on trial."""

    def cached(self) -> None:
        return None

    def newer(self, current: ServedModel | None) -> ServedModel | None:
        model = super().newer(current)
        return model and replace(model, on_trial=True)


class ChallengerWatcher(Watcher):
    """Follows an alias that need not exist."""

    begins, goes_on, nobody = "is the challenger", "stays the challenger", "no challenger"

    def __init__(self, settings: Settings, slot: ModelSlot, display: Display) -> None:
        settings = settings.model_copy(update={"alias": settings.challenger_alias})
        super().__init__(settings, ChallengerSource(settings), slot, display, "challenger")
        self._display = display

    def _find_none(self, reason: str) -> None:
        if reason != self._slot.reason:
            log.info("%s: %s", self.nobody, reason)
        self._end_poll(ABSENT, reason)

    def _fail(self, result: str, kind: str, reason: str) -> None:
        if result == "refused":
            self._drop()  # first, so that the log does not say that it stays
        super()._fail(result, kind, reason)

    def _end_poll(self, result: str, reason: str) -> None:
        if result in (ABSENT, "refused"):
            self._drop()
        super()._end_poll(result, reason)

    def _drop(self) -> None:
        if self._slot.model is not None:
            log.info("version %s challenges no more", self._slot.model.version)
            self._slot.clear()
            self._display.show_model(None)
