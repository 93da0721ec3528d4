"""docs/runbook.md, alert by alert: each is a panel of the dashboard `runbook`, and what panels about it link to."""

from __future__ import annotations

import re
from pathlib import Path

RUNBOOK = Path(__file__).parents[2] / "docs/runbook.md"


def entries() -> dict[str, str]:
    """Text of each entry by its title; of what stands before the first one the title is empty."""
    start, *parts = re.split(r"^## ", RUNBOOK.read_text(), flags=re.M)
    introduction = start.partition("\n")[2].strip()
    return {"": introduction} | {title: body.strip() for title, _, body in (part.partition("\n") for part in parts)}


def place_of(alert: str) -> int:
    """Id of an alert's panel in the dashboard `runbook`.

    Raises:
        ValueError: docs/runbook.md has no entry for it.
    """
    return list(entries()).index(alert) + 1
