"""How commands answer: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
WIDE = 160


def console() -> Console:
    """Standard output; wide where nobody looks at a terminal, so that no column is cut in a log."""
    terminal = Console(highlight=False)
    return terminal if terminal.is_terminal else Console(highlight=False, width=WIDE)


def print_json(content: Any) -> None:
    print(json.dumps(content, indent=2, default=str))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns whose names start with a space hold numbers."""
    table = Table(title=title)
    for column in columns:
        table.add_column(column.strip(), justify="right" if column.startswith(" ") else "left")
    for row in rows:
        table.add_row(*row)
    console().print(table)
