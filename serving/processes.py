"""The server's process, or processes.

One process is all that a machine needs as a rule: its threads use every core. Several share one listening socket, each
with a model of its own; what they count, each writes to a directory, and whichever is asked for /metrics adds it up.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from functools import partial
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from prometheus_client.multiprocess import mark_process_dead
from uvicorn.supervisors import Multiprocess

from serving.app import create_app
from serving.logs import configure
from serving.protocol import Protocol, StreamProtocol
from serving.settings import Settings


def serve(settings: Settings) -> None:
    """Until SIGTERM or Ctrl-C."""
    configure(settings)
    config = uvicorn.Config(
        partial(_application, settings),
        factory=True,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=partial(Protocol, head_seconds=settings.head_seconds, body_seconds=settings.body_seconds),  # type: ignore[arg-type]
        ws=StreamProtocol,
        ws_max_size=settings.max_frame_bytes,
        ws_per_message_deflate=False,  # images are compressed already
        workers=settings.processes,
        log_config=None,  # logs.py configures uvicorn's as well
        access_log=False,  # it would hold the callers' addresses; access.py logs requests
        server_header=False,
        proxy_headers=False,  # nor is there any other use for them here
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=settings.drain_seconds,
    )
    if settings.processes == 1:
        uvicorn.Server(config).run()
    else:
        _supervise(config)


def _application(settings: Settings) -> FastAPI:
    configure(settings)  # again: this may be a process of its own
    # The event loop and the workers hand Python's lock to one another all the time; 5 ms is long to wait for it.
    sys.setswitchinterval(0.001)
    app = create_app(settings)
    gc.freeze()  # all that was imported is here to stay, and need not be looked through again and again
    return app


def _supervise(config: uvicorn.Config) -> None:
    with tempfile.TemporaryDirectory(prefix="emotion-metrics-") as directory:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory  # read when the children import prometheus_client
        _Supervisor(config, [config.bind_socket()]).run()


class _Supervisor(Multiprocess):
    def keep_subprocess_alive(self) -> None:
        """Replace processes that died; what they counted stays, what they showed of their state goes.

        The files tell which those are: signals replace and end processes too (HUP, TTOU), and give up new ones that
        are not ready in time.
        """
        super().keep_subprocess_alive()
        alive = {str(process.pid) for process in self.processes}
        shown = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).glob("gauge_live*_*.db")
        for pid in {file.stem.rpartition("_")[2] for file in shown} - alive:
            mark_process_dead(pid)  # type: ignore[no-untyped-call]
