"""The runbook inside Grafana, alert by alert, so that a panel can link to what is to be done."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from monitoring.dashboards.alerts import entries
from monitoring.dashboards.boards import assemble
from monitoring.dashboards.parts import words


def board() -> Dashboard:
    """The dashboard: a panel for each entry, with the id that `alerts.place_of` gives."""
    about = "What each alert means, how to look, what to do: docs/runbook.md."
    board = assemble("runbook", about, [])
    for place, (title, content) in enumerate(entries().items()):
        board = board.with_panel(words(title, content).id(place + 1))
    return board
