"""Run the server: `python -m serving --help`.

SIGTERM and Ctrl-C end it: no new connections, requests in flight are answered first.
"""

from __future__ import annotations

import logging
import sys

import uvicorn

from emotion_detection.errors import reported
from serving.app import create_app
from serving.settings import load_settings


def main() -> None:
    """Parse, build, serve."""
    with reported():
        settings = load_settings(sys.argv[1:])
        app = create_app(settings)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(name)s: %(message)s")
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        access_log=False,  # it would hold the callers' addresses
        server_header=False,
        timeout_graceful_shutdown=settings.drain_seconds,
    )


if __name__ == "__main__":
    main()
