"""The audit log: a JSON line for each decision and for each end of a command.

    {"time": "...", "decision": "dispatched", "why": "...", "incident": "5f0c...", "alerts": [{"name": ...}], ...}

What is in it: names, labels, fingerprints and times of alerts; never a token, never an annotation's text. Each line is
appended by itself, so that logrotate may move the file at any time.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from monitoring.retrain.payload import Alert

log = logging.getLogger(__name__)
_MOST = 20
"""Alerts that are named in a line."""


class Audit:
    """The file; what is written to it is logged as well."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, decision: str, why: str, incident: str = "", alerts: Sequence[Alert] = (), **more: object) -> None:
        """Add a line.

        Args:
            decision: one word.
            why: for people.
            more: further fields.
        """
        fields = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "decision": decision, "why": why}
        fields |= {"incident": incident} if incident else {}
        line = json.dumps(fields | more | {"alerts": [_described(alert) for alert in alerts[:_MOST]]}) + "\n"
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)
        level = logging.ERROR if decision == "failed" else logging.INFO
        log.log(level, "%s%s: %s", decision, f" ({incident})" if incident else "", why)


def _described(alert: Alert) -> dict[str, object]:
    labels = {name[:100]: value[:200] for name, value in list(alert.labels.items())[:30]}
    return {"fingerprint": alert.fingerprint, "startsAt": alert.starts_at.isoformat(), "labels": labels}
