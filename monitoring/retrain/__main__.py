"""Run the retrain webhook: `python -m monitoring.retrain --help`.

    RETRAIN_TOKEN_FILE=retrain-token python -m monitoring.retrain --dry-run

It needs the server's environment only. SIGTERM and Ctrl-C end it, and the command that it has started.
"""

from __future__ import annotations

import logging
import sys

import uvicorn

from emotion_detection.errors import reported
from monitoring.retrain.app import create_app
from monitoring.retrain.settings import load_settings


def main() -> None:
    """Parse, build, serve."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(name)s: %(message)s")
    with reported():
        settings = load_settings(sys.argv[1:])
        app = create_app(settings)
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=15,
    )


if __name__ == "__main__":
    main()
