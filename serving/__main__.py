"""Run the server: `python -m serving --help`.

SIGTERM and Ctrl-C end it: no new connections, requests in flight are answered first.
"""

from __future__ import annotations

import sys

from emotion_detection.errors import reported
from serving.catalogue import read_catalogue
from serving.processes import serve
from serving.settings import load_settings


def main() -> None:
    """Parse, build, serve."""
    with reported():
        settings = load_settings(sys.argv[1:])
        read_catalogue(settings.catalogue)  # a mistake in it is told before anything starts
        if settings.feedback == "keep":
            settings.open_feedback().create()
    serve(settings)


if __name__ == "__main__":
    main()
