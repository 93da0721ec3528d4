"""Threads that step back for those that answer."""

from __future__ import annotations

import os
import sys
import threading

NICENESS = 10


def step_back() -> None:
    """Let other threads go first from now on, as far as the system knows such a thing: Linux does."""
    if sys.platform == "linux":  # where a thread has a niceness of its own
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS)
