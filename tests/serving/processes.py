"""The server as a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.serving.tiny import wait_until

ROOT = Path(__file__).parents[2]


def environment(**extra: str) -> dict[str, str]:
    """This process's environment without settings of the server or of MLflow."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("EMOTION_", "MLFLOW_"))}
    return clean | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"} | extra


@dataclass(frozen=True)
class Server:
    """A running server."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=20)

    def is_ready(self) -> bool:
        return self.get("/readyz").status_code == 200


@contextmanager
def running(directory: Path, *options: str, python: str = sys.executable, **variables: str) -> Iterator[Server]:
    """Run `python -m serving OPTIONS` in a directory, on a free port, until the block ends."""
    log = directory / "server.log"
    with log.open("wb") as stream:
        command = [python, "-m", "serving", "--port", "0", *options]
        process = subprocess.Popen(command, cwd=directory, env=environment(**variables), stdout=stream, stderr=stream)
    try:
        yield Server(process, log, _port(process, log))
    finally:
        process.terminate()
        try:
            process.wait(timeout=40)
        finally:
            process.kill()


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    def announced() -> re.Match[str] | None:
        assert process.poll() is None, log.read_text()
        return re.search(r"running on http://127\.0\.0\.1:(\d+)", log.read_text())

    wait_until(lambda: announced() is not None, seconds=60)
    match = announced()
    assert match is not None
    return int(match[1])
