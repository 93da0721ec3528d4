"""`emotion feedback list / delete / key`: what people said of the server's answers, and the faces that were kept."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emotion_detection.cli.output import AsJson, print_json, print_table

if TYPE_CHECKING:
    from emotion_detection.feedback import FeedbackStore

feedback = typer.Typer(help="What people said of the server's answers, and the faces that were kept.")
Directory = Annotated[
    Path,
    typer.Option(
        envvar="EMOTION_FEEDBACK_DIRECTORY",
        show_default=True,
        help="The server's directory of feedback.",
        metavar="DIR",
    ),
]
DEFAULT = Path(".cache/feedback")


@feedback.command(name="list")
def list_(directory: Directory = DEFAULT, as_json: AsJson = False) -> None:
    """List what was said, oldest first, and until when faces are kept; what is over is deleted first."""
    found = _opened(directory).judgements()
    if as_json:
        times = ("given_at", "forget_at", "keep_until")
        print_json([asdict(one) | {name: _written(getattr(one, name)) for name in times} for one in found])
        return
    rows = [
        (one.prediction_id, str(one.face), one.predicted, one.label, _shown(one.given_at), _shown(one.keep_until))
        for one in found
    ]
    print_table("Feedback", ("prediction", " face", "predicted", "it is", "said at, UTC", "face kept until"), rows)


@feedback.command()
def delete(
    predictions: Annotated[list[str] | None, typer.Argument(help="Ids of answers.", metavar="ID")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Of all answers.")] = False,
    directory: Directory = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Delete what was said of answers, and their faces. Exit status 1 where there was nothing.

    Data sets that were made with them lose them with the next `emotion run`; docs/privacy.md has the rest.
    """
    from emotion_detection.errors import FeedbackError
    from emotion_detection.prediction_ids import normal_form

    if everything == bool(predictions):
        raise typer.BadParameter("name the ids of answers, or say --all")
    store = _opened(directory)
    counts = {name: store.delete(normal_form(name)) for name in predictions or ()} or {"all": store.delete()}
    if as_json:
        print_json(counts)
    else:
        print(f"deleted: {sum(counts.values())} faces, with what was said of them")
    if missing := [name for name, count in counts.items() if not count]:
        raise FeedbackError(f"{store.file}: there is no feedback on {', '.join(missing)}; `emotion feedback list`")


@feedback.command()
def key() -> None:
    """Make a key with which the server encrypts faces. Whoever trains with them needs it as well."""
    from cryptography.fernet import Fernet

    typer.echo("# For the environment of the server, and of the training: EMOTION_FEEDBACK_KEY", err=True)
    typer.echo(Fernet.generate_key().decode())


def _opened(directory: Path) -> FeedbackStore:
    from emotion_detection.feedback import FeedbackStore

    store = FeedbackStore(directory)
    store.purge()
    return store


def _shown(time: float | None) -> str:
    return "" if time is None else f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M}"


def _written(time: float | None) -> str | None:
    return None if time is None else datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds")
