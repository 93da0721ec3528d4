"""An MLflow server that can be killed at the worst moment, and comes back with what it knew."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

CUT = 512
"""Bytes of an answer after which a download is broken off: within the file, whatever its size."""
PATIENCE = 120.0
"""Seconds after which something that should happen counts as failed."""


class Mlflow:
    """An MLflow server that can be killed, and comes back with what it knew."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--allowed-hosts", "127.0.0.1:*"]
        command += ["--backend-store-uri", f"sqlite:///{self._directory}/mlflow.db", "--port", str(self.port)]
        command += ["--artifacts-destination", str(self._directory / "files")]
        variables = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        self._process = subprocess.Popen(
            command,
            env=os.environ | variables,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # its workers die with it
        )
        wait_for(lambda: httpx.get(f"{self.url}/health").status_code == 200, "MLflow did not start")

    def kill(self) -> None:
        """Without a warning."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


class Tap(threading.Thread):
    """Hands connections on to MLflow; can cut one off in the middle of a file."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._upstream, self._listener = port, socket.create_server(("127.0.0.1", 0), backlog=64)
        self._then: Callable[[], None] | None = None
        self.cut = threading.Event()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut_at(self, then: Callable[[], None]) -> None:
        """Break off the next download of a model, and call `then` first."""
        self._then = then

    def run(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client = self._listener.accept()[0]
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client, socket.create_connection(("127.0.0.1", self._upstream)) as upstream:
            asked = threading.Event()
            threading.Thread(target=self._ask, args=(client, upstream, asked), daemon=True).start()
            while data := upstream.recv(65536):
                if self._then is not None and asked.is_set():
                    client.sendall(data[:CUT])
                    then, self._then = self._then, None
                    then()
                    client.shutdown(socket.SHUT_RDWR)  # `close` alone would leave it open for the other thread
                    self.cut.set()
                    return
                client.sendall(data)

    def _ask(self, client: socket.socket, upstream: socket.socket, asked: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if b"/model.onnx" in data.partition(b"\r\n")[0]:
                    asked.set()
                upstream.sendall(data)
            upstream.shutdown(socket.SHUT_WR)


@contextmanager
def tapped(mlflow: Mlflow) -> Iterator[Tap]:
    """A tap in front of MLflow."""
    tap = Tap(mlflow.port)
    tap.start()
    yield tap
    tap.close()


def seconds_until(condition: Callable[[], bool]) -> float:
    """Until something is true."""
    start = time.perf_counter()
    while not condition() and time.perf_counter() - start < PATIENCE:
        time.sleep(0.02)
    return time.perf_counter() - start


def wait_for(condition: Callable[[], bool], complaint: str) -> None:
    """Fail with a complaint where something does not become true.

    Raises:
        TimeoutError: it did not.
    """

    def tried() -> bool:
        try:
            return condition()
        except httpx.TransportError:
            return False

    if seconds_until(tried) >= PATIENCE:
        raise TimeoutError(complaint)
