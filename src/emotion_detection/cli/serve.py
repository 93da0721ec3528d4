"""`emotion serve`: the HTTP server, in this environment. `make serve` starts it in a slim one of its own."""

from __future__ import annotations

import os
import sys

import typer

OPTIONS = {"ignore_unknown_options": True, "allow_extra_args": True}
"""Of the command: what it does not know goes to the server."""


def serve(context: typer.Context) -> None:
    """Serve the champion, or with --bundle DIR a bundle, at http://127.0.0.1:8000.

    All options go to `python -m serving`, and `python -m serving --help` explains them.
    """
    command = [sys.executable, "-m", "serving", *context.args]
    os.execv(sys.executable, command)  # noqa: S606
