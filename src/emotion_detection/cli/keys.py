"""`emotion keys new`: API keys of the server."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

keys = typer.Typer(help="API keys of the server.", no_args_is_help=True)


@keys.callback()
def _keys() -> None:
    """API keys of the server."""


@keys.command()
def new(
    name: Annotated[str, typer.Option(help="whose it is; stands in the server's log")],
    last_day: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="valid up to this day, UTC")] = None,
) -> None:
    """Make a key: it is shown this once, and the server gets only its hash."""
    from emotion_detection.api_keys import create_key

    key, kept = create_key(name, last_day.date() if last_day else None)
    typer.echo(f"# The key, for the caller; it cannot be shown again:\n{key}", err=True)
    typer.echo("# The line for the file that EMOTION_API_KEYS_FILE names:", err=True)
    typer.echo(str(kept))
