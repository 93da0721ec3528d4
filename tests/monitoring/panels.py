"""What the dashboards ask, as Grafana would send it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from monitoring.dashboards.__main__ import FOLDER

BOARDS: Mapping[str, dict[str, Any]] = {
    name: json.loads((FOLDER / f"{name}.json").read_text()) for name in ("service", "model", "pipeline", "runbook")
}
VARIABLES = {
    "job": "emotion-server",
    "version": ".*",
    "model": ".*",
    "window": "1h",
    "source": "prometheus",
    "__rate_interval": "20s",
    "__range": "1h",
}


def panels(name: str) -> list[dict[str, Any]]:
    """Of a dashboard, without the titles of rows."""
    return [panel for panel in BOARDS[name]["panels"] if panel["type"] != "row"]


def queries(name: str) -> list[tuple[str, str]]:
    """Title and expression of every query of a dashboard, annotations included."""
    asked = [(panel["title"], target["expr"]) for panel in panels(name) for target in panel.get("targets", [])]
    return asked + [(one["name"], one["expr"]) for one in BOARDS[name]["annotations"].get("list", [])]


def expressions(*names: str) -> list[str]:
    """Of these dashboards, or of all."""
    return [expression for name in names or BOARDS for _, expression in queries(name)]


def written(expression: str) -> str:
    """With values for the variables."""
    for name, value in VARIABLES.items():
        expression = expression.replace(f"${name}", value)
    return expression
