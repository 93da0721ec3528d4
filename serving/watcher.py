"""Keeps the model up to date, in the background and whatever MLflow does: the server answers meanwhile.

    from the cache, if there is one -> ask the registry -> fetch, verify, load, warm, golden faces -> swap
                                       ^------- every poll_seconds, or when a webhook says so ---------'

A model that does not pass is refused, and the one that answers stays. Nothing is fetched again before the alias has
moved; a registry that does not answer is asked again, after pauses that grow.
"""

from __future__ import annotations

import logging
import random
import threading
from typing import Protocol

from emotion_detection.errors import BundleError, GoldenMismatch, NoSuchVersion, RegistryError
from serving.cache import CacheError
from serving.loading_metrics import LoadingMetrics
from serving.model import ModelSlot, ServedModel
from serving.settings import Settings
from serving.sources import KnownRefusal, Source

JITTER = 0.2
"""Share by which pauses are shortened at random: servers that were started together must not ask together."""
HEAD_START = 1.0
"""Seconds that a server with a cached model has to open its port, before importing MLflow takes a core for as long."""

log = logging.getLogger(__name__)


class Shown(Protocol):
    """Where it is told what is loaded, and what was not."""

    @property
    def loading(self) -> LoadingMetrics: ...

    def show_model(self, model: ServedModel) -> None:
        """`model` is in the slot from now on."""


class Watcher(threading.Thread):
    """Fills the slot. A daemon: a registry that hangs must not keep the process from ending."""

    begins, goes_on, nobody = "answers", "answers on", "no model yet"
    """How the log speaks of a model."""

    def __init__(
        self, settings: Settings, source: Source, slot: ModelSlot, metrics: Shown, name: str = "watcher"
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._settings, self._source, self._slot, self._metrics = settings, source, slot, metrics
        self._tried, self._wake, self._stopped = threading.Event(), threading.Event(), threading.Event()
        self._failures = 0
        """Polls since one succeeded."""

    def run(self) -> None:
        if self._source.follows:
            self._metrics.loading.follows()
        self._start_from_cache()
        while not self._stopped.is_set():
            self._wake.clear()
            self._poll()
            self._tried.set()
            if self._slot.model is not None and not self._source.follows:
                break
            self._wake.wait(self._pause())

    def wait(self, seconds: float) -> None:
        """Until there is a model or the first attempt is over, or for so long."""
        self._tried.wait(seconds)

    def poll_now(self) -> None:
        """Ask the registry without waiting for the end of the pause."""
        self._wake.set()

    def stop(self) -> None:
        """End soon; an attempt under way is abandoned with the process."""
        self._stopped.set()
        self._wake.set()

    def _start_from_cache(self) -> None:
        try:
            model = self._source.cached()
        except Exception as error:  # the registry may have it all the same
            self._metrics.loading.failed("cache")
            log.warning("the cached model cannot be used and is fetched anew: %s", error)
            return
        if model is not None:
            self._show(model, "from the cache; the registry has not answered yet")
            log.info("model %s version %s answers from the cache until the registry does", model.name, model.version)
            self._tried.set()
            self._wake.wait(HEAD_START)

    def _poll(self) -> None:
        try:
            model = self._source.newer(self._slot.model)
            if model is not None:
                self._swap(model)
        except KnownRefusal as error:
            self._end_poll("refused", str(error))
        except BundleError as error:
            self._fail("refused", "golden" if isinstance(error, GoldenMismatch) else "bundle", str(error))
        except NoSuchVersion as error:
            self._find_none(str(error))
        except (RegistryError, CacheError) as error:
            self._fail("failed", "registry" if isinstance(error, RegistryError) else "cache", str(error))
        except Exception as error:  # whatever goes wrong, the next attempt may succeed
            log.exception("loading the model failed")
            self._fail("failed", "internal", f"loading the model failed: {type(error).__name__}; the log says more")
        else:
            self._end_poll("swapped" if model is not None else "unchanged", "")

    def _swap(self, model: ServedModel) -> None:
        before = self._slot.model
        self._show(model)
        after = f" after {before.version}" if before else ""
        log.info("model %s version %s %s%s", model.name, model.version, self.begins, after)
        try:
            self._source.remember(model)
        except CacheError as error:
            log.warning("the next start will need the registry: %s", error)

    def _show(self, model: ServedModel, reason: str = "") -> None:
        self._metrics.show_model(model)
        self._metrics.loading.loaded(swapped=self._slot.model is not None)
        self._slot.replace(model, reason)

    def _find_none(self, reason: str) -> None:
        self._fail("failed", "registry", reason)

    def _fail(self, result: str, kind: str, reason: str) -> None:
        self._metrics.loading.failed(kind)
        if reason != self._slot.reason:
            model = self._slot.model
            log.warning("%s: %s", f"version {model.version} {self.goes_on}" if model else self.nobody, reason)
        self._end_poll(result, reason)

    def _end_poll(self, result: str, reason: str) -> None:
        self._slot.reason = reason
        self._failures = self._failures + 1 if result == "failed" else 0
        if self._source.follows:
            self._metrics.loading.poll_ended(result)

    def _pause(self) -> float:
        retry, pause = self._settings.retry_seconds, self._settings.poll_seconds
        if not self._source.follows:
            pause = retry
        elif self._failures or self._slot.model is None:
            pause = min(retry * 2 ** min(self._failures, 16), max(retry, pause))
        return pause * random.uniform(1 - JITTER, 1)  # noqa: S311
