"""The canary: a share of the callers is answered by the challenger; where it fails, the champion answers them.

    model = canary.choose(scope)                # when a request comes: champion or challenger
    found = await canary.attempt(model, work)   # await work(model), and work(champion) where the challenger failed

A caller stays with one of them: what decides is a hash of who it is. That is the header X-Session-Id, without it the
name of its API key, without either the request alone. Each challenger has callers of its own, and a larger share keeps
those of the smaller one.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakKeyDictionary, WeakSet

import numpy as np
from starlette.types import Scope

from emotion_detection.errors import ImageError
from serving.batching import Outcome
from serving.challenger_metrics import CanaryMetrics
from serving.errors import RequestError, TimedOut
from serving.model import ModelSlot, ServedModel
from serving.settings import Settings

if TYPE_CHECKING:
    from serving.access import Visit

SESSION_HEADER = b"x-session-id"
REMEMBERED = 100
"""Requests for a challenger of which it is known whether they failed."""
Result = TypeVar("Result")
log = logging.getLogger(__name__)


class Canary:
    """Who answers whom. Belongs to one event loop."""

    def __init__(self, settings: Settings, champion: ModelSlot, challenger: ModelSlot, metrics: CanaryMetrics) -> None:
        self._share, self._most = settings.canary_share, settings.canary_failures
        self._champion, self._challenger, self._metrics = champion, challenger, metrics
        self._recent: WeakKeyDictionary[ServedModel, deque[bool]] = WeakKeyDictionary()
        self._off: WeakSet[ServedModel] = WeakSet()

    def choose(self, scope: Scope) -> ServedModel:
        """The model that is to answer a request.

        Raises:
            NotReady: there is none yet.
        """
        champion = self._champion.current()
        if not self._share:
            return champion
        challenger = self._challenger.other_than(champion)
        if challenger is None or challenger in self._off or position(scope, challenger.digest) >= self._share:
            return champion
        return challenger

    async def attempt(self, model: ServedModel, work: Callable[[ServedModel], Awaitable[Result]]) -> Result:
        """Have a model do something; where it is a challenger that fails, the champion does it.

        What is wrong with an image or a request is no failure, and raised as it is.
        """
        if not model.on_trial:
            return await work(model)
        try:
            result = await work(model)
        except TimedOut as error:  # there is no time left for the champion
            self._note(model, error)
            raise
        except RequestError:
            raise
        except ImageError:
            self._note(model, None)
            raise
        except Exception as error:
            self._note(model, error)
            return await work(self._champion.current())
        self._note(model, None)
        return result

    def _note(self, model: ServedModel, error: Exception | None) -> None:
        self._metrics.count(model, failed=error is not None)
        recent = self._recent.setdefault(model, deque(maxlen=REMEMBERED))
        recent.append(error is not None)
        if error is None or model in self._off:
            return
        log.warning("canary: version %s failed: %s: %s", model.version, type(error).__name__, error)
        if sum(recent) >= self._most:
            self._off.add(model)
            self._metrics.switch_off()
            log.error(
                "canary: version %s failed %d times in %d requests and answers nobody any more; the champion does",
                model.version,
                sum(recent),
                len(recent),
            )


def check(outcomes: Sequence[Outcome]) -> None:
    """Do nothing, or raise what a challenger failed with.

    Raises:
        ArithmeticError: it answered with something else than finite numbers.
        Exception: whatever else went wrong, but for what is wrong with an image.
    """
    for outcome in outcomes:
        if isinstance(outcome, ImageError):
            continue
        if isinstance(outcome, Exception):
            raise outcome
        if not np.isfinite(outcome).all():
            raise ArithmeticError("its answers are no finite numbers")


def position(scope: Scope, digest: str) -> float:
    """Where a caller stands in [0, 1), by chance but always there: below the share, the challenger `digest` answers."""
    hashed = blake2b(_caller(scope), digest_size=8, key=digest.encode()[:64]).digest()
    return int.from_bytes(hashed) / 2**64


def _caller(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == SESSION_HEADER and value:
            return bytes(value)
    visit: Visit = scope["visit"]
    return (visit.key or visit.id).encode()
