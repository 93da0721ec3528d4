"""Loads the model in the background, so that the server answers `/healthz` at once and whatever MLflow does.

First form: it tries until there is a model, then ends.
"""

from __future__ import annotations

import logging
import threading

from emotion_detection.errors import EmotionError
from serving.metrics import Metrics
from serving.model import ModelSlot, load_model
from serving.settings import Settings

log = logging.getLogger(__name__)


class Watcher(threading.Thread):
    """Fills the slot. A daemon: a registry that hangs must not keep the process from ending."""

    def __init__(self, settings: Settings, slot: ModelSlot, metrics: Metrics) -> None:
        super().__init__(name="watcher", daemon=True)
        self._settings, self._slot, self._metrics = settings, slot, metrics
        self._tried, self._stopped = threading.Event(), threading.Event()

    def run(self) -> None:
        while not self._try() and not self._stopped.wait(self._settings.retry_seconds):
            pass

    def wait(self, seconds: float) -> None:
        """Until the first attempt is over, or for so long."""
        self._tried.wait(seconds)

    def stop(self) -> None:
        """End soon; an attempt under way is abandoned with the process."""
        self._stopped.set()

    def _try(self) -> bool:
        try:
            model = load_model(self._settings)
        except EmotionError as error:
            self._refuse(str(error))
        except Exception as error:  # whatever goes wrong, the next attempt may succeed
            log.exception("loading the model failed")
            self._refuse(f"loading the model failed: {type(error).__name__}; the log says more")
        else:
            self._metrics.show_model(model)
            self._slot.replace(model)
            log.info("model %s version %s answers", model.name, model.version)
            return True
        finally:
            self._tried.set()
        return False

    def _refuse(self, reason: str) -> None:
        self._slot.reason = reason
        self._metrics.load_failures.inc()
        log.warning("no model yet: %s", reason)
