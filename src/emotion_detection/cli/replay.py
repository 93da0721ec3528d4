"""`emotion replay`: faces with a known shift for a running server, so that its panels move and its alerts fire.

emotion replay --scenario dark-room                                    # drawn faces, http://127.0.0.1:8000
emotion replay --scenario happy-hour --faces fer2013.zip --rate 50 --minutes 20
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from emotion_detection.cli.output import AsJson, print_json, print_table
from emotion_detection.errors import DetectionError

if TYPE_CHECKING:
    from emotion_detection.data.sources import Sample
    from emotion_detection.replay import Phase
    from emotion_detection.sending import Tally


class Scenario(StrEnum):
    """Values of --scenario, see replay.py."""

    happy_hour = "happy-hour"
    dark_room = "dark-room"
    blur = "blur"
    new_camera = "new-camera"


def replay(  # noqa: PLR0913, PLR0917  one for each option
    scenario: Annotated[Scenario, typer.Option(help="What the faces have that those of the training had not.")],
    server: Annotated[str, typer.Option(help="Whom to send them to.", metavar="URL")] = "http://127.0.0.1:8000",
    rate: Annotated[float, typer.Option(min=0.1, max=10_000, help="Faces per second.")] = 20.0,
    minutes: Annotated[float, typer.Option(min=0.0, help="How long with the shift.")] = 5.0,
    baseline: Annotated[float, typer.Option(min=0.0, help="Minutes before it, as in training.")] = 2.0,
    faces: Annotated[
        str | None, typer.Option(help="Directory or archive of <class>/*; by default drawn faces.", metavar="PATH")
    ] = None,
    feedback: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the faces of which the server is told what they show.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Decides which faces are sent, in which order.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Send faces to a server: first as in training, then with a shift. Exit status 1 if a request failed.

    Its API key, where it wants one, is taken from EMOTION_SERVER_KEY.
    """
    from emotion_detection.detection import describe_server
    from emotion_detection.replay import phases, read_pool

    reference = describe_server(server)["reference_shares"]
    pool = read_pool(_open(faces, seed))
    counts = {"baseline": round(60 * baseline * rate), "shifted": round(60 * minutes * rate)}
    tallies = list(_sent(server, phases(scenario.value, pool, reference, seed=seed, **counts), rate, feedback))
    summaries = [tally.summary() for tally in tallies]
    if as_json:
        print_json(summaries)
    else:
        _show(summaries)
    if failures := [said for tally in tallies for said in tally.failures]:
        count = sum(tally.failures.total() for tally in tallies)
        raise DetectionError(f"{count} requests have no answer, the first because: {failures[0]}")


def _open(faces: str | None, seed: int) -> Iterator[Sample]:
    from emotion_detection.data.sources import SYNTHETIC, open_source
    from emotion_detection.params import PARAMS_FILE, DataParams, load_params
    from emotion_detection.replay import drawn_faces

    if faces and faces != SYNTHETIC:
        yield from open_source(DataParams(source=faces), seed)
    else:
        looks = load_params().data.synthetic if Path(PARAMS_FILE).exists() else None
        yield from drawn_faces(seed, looks)


def _sent(server: str, phases: list[Phase], rate: float, feedback: float) -> Iterator[Tally]:
    from emotion_detection.sending import send

    with _bar() as bar:
        for phase in phases:
            task = bar.add_task(phase.name, total=phase.count)
            yield send(server, phase, rate, lambda task=task: bar.advance(task), feedback)  # type: ignore[misc]


@contextmanager
def _bar() -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        yield bar


def _show(summaries: list[dict[str, Any]]) -> None:
    emotions = sorted({emotion for phase in summaries for emotion in phase["sent_shares"] | phase["answered_shares"]})
    rows = [
        [emotion, *(_percent(phase[of].get(emotion, 0.0)) for phase in summaries for of in _SHARES)]
        for emotion in emotions
    ]
    columns = ["emotion", *(f" {phase['phase']}: {title}" for phase in summaries for title in _SHARES.values())]
    print_table("Shares", columns, rows)
    names = {
        "sent": "sent",
        "answered": "answered",
        "per_second": "per second",
        "accuracy": "accuracy",
        "judged": "judged",
    }
    names |= {
        "mean_confidence": "mean confidence",
        "median_ms": "median ms",
        "p99_ms": "99 % within ms",
        "versions": "answers by version",
    }
    rows = [[title, *(_plain(phase[name]) for phase in summaries)] for name, title in names.items()]
    print_table("Requests", ["", *(f" {phase['phase']}" for phase in summaries)], rows)


_SHARES = {"sent_shares": "sent", "answered_shares": "answered"}


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {count}" for name, count in value.items())
    return "" if value is None else f"{value:,}"
