"""Where heavy work is done: by this process, or by the workers of a Ray cluster. What comes out is the same.

    EMOTION_ENGINE=ray RAY_ADDRESS=10.0.0.5:6379 make run       # docs/ray.md

The choice stands in the environment, as KERAS_BACKEND and MLFLOW_TRACKING_URI do, and not in params.yaml, which has
what decides a result: so no stage of dvc.yaml can depend on it, and the same commit runs on one machine and on many.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any, TypeVar, cast

from emotion_detection.errors import EngineError

ENGINE = "EMOTION_ENGINE"
ENGINES = ("local", "ray")
Work = TypeVar("Work", bound=Callable[..., Any])


def chosen(work: Work) -> Work:
    """The function itself, or under Ray that of the same name, in `distributed/` in the module of the same name.

    Raises:
        EngineError: EMOTION_ENGINE is neither local nor ray.
    """
    engine = os.environ.get(ENGINE) or "local"
    if engine not in ENGINES:
        raise EngineError(f"{ENGINE}: found {engine!r}, expected {' or '.join(ENGINES)}")
    if engine == "local":
        return work
    module = importlib.import_module(f"emotion_detection.distributed.{work.__module__.rpartition('.')[2]}")
    return cast(Work, getattr(module, work.__name__))
