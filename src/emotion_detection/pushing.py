"""What became of the pipeline, told to a Prometheus Pushgateway: nothing is sent unless PUSHGATEWAY_URL names one.

    PUSHGATEWAY_URL=http://127.0.0.1:9091 make run
    PUSHGATEWAY_USERNAME=..., PUSHGATEWAY_PASSWORD=...      where it wants them

Each stage of each model is a group of its own, which keeps its figures until it runs again: what DVC skips is still
what it was. Whatever goes wrong here is a warning; it never ends the pipeline.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from emotion_detection.errors import EmotionError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from emotion_detection.gate import Verdict
    from emotion_detection.versions import VersionInfo

URL, USERNAME, PASSWORD = "PUSHGATEWAY_URL", "PUSHGATEWAY_USERNAME", "PUSHGATEWAY_PASSWORD"
JOB = "emotion-pipeline"
SECONDS = 5.0
"""How long a Pushgateway is waited for."""


@contextmanager
def measured(stage: str, model: str = "") -> Iterator[None]:
    """Time a stage, and push its figures once it has ended; of one that failed only that it has.

    An interrupted one pushes nothing: it goes on later.

    Args:
        stage: of dvc.yaml, or `run`: all of them.
        model: entry in `models` of params.yaml, where the stage is about one.
    """
    if not os.environ.get(URL):
        yield
        return
    from emotion_detection.pipeline_metrics import of_failure, of_stage  # noqa: PLC0415  seldom needed

    start = time.monotonic()
    try:
        yield
    except Exception:
        _push(stage, model, of_failure)
        raise
    _push(stage, model, partial(of_stage, stage, model, time.monotonic() - start))


def push_verdict(version: VersionInfo, outcome: str, verdict: Verdict | None) -> None:
    """Push what the gate said of a version.

    Args:
        outcome: as `promotion.Decision` has it.
        verdict: none where nothing was judged.
    """
    if os.environ.get(URL):
        from emotion_detection.pipeline_metrics import of_verdict  # noqa: PLC0415  seldom needed

        _push("gate", version.model, partial(of_verdict, version.version, outcome, verdict))


def _push(stage: str, model: str, figures: Callable[[], CollectorRegistry]) -> None:
    from prometheus_client import pushadd_to_gateway  # noqa: PLC0415  seldom needed
    from prometheus_client.exposition import basic_auth_handler  # noqa: PLC0415

    group = {"stage": stage, "model": model}
    handler = partial(basic_auth_handler, username=os.environ.get(USERNAME), password=os.environ.get(PASSWORD))
    try:
        pushadd_to_gateway(_url(), JOB, figures(), group, SECONDS, handler)
    except Exception as error:  # whatever it is, the stage has done its work
        print(
            f"warning: {stage}: nothing was told to the Pushgateway: {error}. Start it, correct {URL}, or unset it",
            file=sys.stderr,
        )


def _url() -> str:
    url = os.environ[URL]
    if "@" in url:
        raise EmotionError(f"{URL} has credentials in it, which logs would show; expected {USERNAME} and {PASSWORD}")
    return url
