"""How the log looks: text or JSON lines, uvicorn's own messages included; a line for each request.

    INFO access: request=4f1c-1 method=POST route=/detect status=200 ms=3.1 bytes=512 key=phone
    {"time": "...", "level": "INFO", "logger": "access", "request": "4f1c-1", "method": "POST", ...}

No line holds an image, an address (unless asked), a query, or a path that the server does not know: the route stands
for it. Messages and traces are cut, and bytes in them are left out, since an exception may quote what it was given.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TextIO

from serving.safety import SafetySettings

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Of the request that is being answered here."""
LONGEST = 500
"""Characters of a message, or of one line of a trace."""
FLUSH_SECONDS = 0.2
_BYTES = re.compile(r"""\bb(['"]).*?(?<!\\)\1|\bb['"].*""", re.DOTALL)


def configure(settings: SafetySettings) -> None:
    """Send everything that is logged to standard error, in one form; once per process."""
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter(settings.log_format))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # what is wrong with an image is told to who sent it


class Formatter(logging.Formatter):
    """Text or JSON."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self._json = form == "json"

    def format(self, record: logging.LogRecord) -> str:
        fields = {"message": discreet(record.getMessage())}
        if identity := request_id.get():
            fields["request"] = identity
        if record.exc_info:
            fields["trace"] = discreet(self.formatException(record.exc_info))
        if self._json:
            return _json(record.created, record.levelname, record.name, fields)
        trace = fields.pop("trace", "")
        request = f" (request {identity})" if identity else ""
        return f"{record.levelname}: {record.name}: {fields['message']}{request}{trace and chr(10)}{trace}"


def discreet(text: str) -> str:
    """A text without quoted bytes, its lines no longer than `LONGEST`."""
    lines = _BYTES.sub("b'...'", text).splitlines()
    return "\n".join(line if len(line) <= LONGEST else f"{line[:LONGEST]}..." for line in lines)


class AccessLog:
    """Lines about requests, several written at once: each write would stop the event loop for a moment."""

    def __init__(self, settings: SafetySettings, stream: TextIO | None = None) -> None:
        """Args:
        stream: standard error where there is none.
        """
        self._json, self._stream = settings.log_format == "json", stream
        self._lines: list[str] = []

    def add(self, now: float, fields: Mapping[str, Any]) -> None:
        """Write a line soon.

        Args:
            now: seconds since 1970.
        """
        if self._json:
            line = _json(now, "INFO", "access", fields)
        else:
            line = f"INFO: access: {'=%s '.join(fields)}=%s" % tuple(fields.values())
        if not self._lines:
            asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
        self._lines.append(line)

    def flush(self) -> None:
        """Write what waits; to be called at the end as well."""
        if self._lines:
            lines, self._lines = self._lines, []
            stream = self._stream or sys.stderr
            stream.write("\n".join(lines) + "\n")
            stream.flush()


def _json(created: float, level: str, logger: str, fields: Mapping[str, Any]) -> str:
    time = f"{_second(int(created))}.{int(created % 1 * 1000):03d}+00:00"
    return json.dumps({"time": time, "level": level, "logger": logger, **fields})


@lru_cache(maxsize=2)
def _second(since_1970: int) -> str:
    return datetime.fromtimestamp(since_1970, UTC).strftime("%Y-%m-%dT%H:%M:%S")
