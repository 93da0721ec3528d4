"""Servers as processes of their own, and the load on them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import typer

ROOT = Path(__file__).parents[2]
BOUNDARY = "benchmark-boundary"


@dataclass(frozen=True)
class Load:
    """What wrk saw."""

    seconds: float
    requests: int
    good: int
    """Answers with status 200."""
    refused: int
    """Answers with status 503."""
    lost: int
    """Connections that failed, and answers that did not come."""
    p50_ms: float
    p99_ms: float
    cpu_seconds: float
    """Of the server, during the load."""

    @property
    def rate(self) -> float:
        """Good answers per second."""
        return self.good / self.seconds


@dataclass(frozen=True)
class Server:
    """A server that is ready."""

    process: psutil.Process
    url: str
    ready_seconds: float
    """From its start."""
    route: str = "/detect"
    """Where images are posted to."""
    content_type: str = f"multipart/form-data; boundary={BOUNDARY}"

    def post(self, image: bytes, query: str = "") -> dict[str, float]:
        """Probabilities by label."""
        answer = httpx.post(f"{self.url}/detect{query}", files={"file": ("face.jpg", image, "image/jpeg")}, timeout=60)
        answer.raise_for_status()
        return dict(answer.json()["probabilities"])

    def cpu_seconds(self) -> float:
        """User and system time so far, of the server and all its processes."""
        times = [process.cpu_times() for process in self.processes()]
        return float(sum(one.user + one.system for one in times))

    def processes(self) -> list[psutil.Process]:
        """The server's own, and those that it started."""
        return [self.process, *self.process.children(recursive=True)]

    def megabytes(self) -> float:
        """Memory now, of all its processes, what they share counted once (PSS)."""
        return float(sum(process.memory_full_info().pss for process in self.processes()) / 2**20)

    def peak_megabytes(self) -> float:
        """Largest resident size so far, of each process, added up."""
        statuses = [Path(f"/proc/{process.pid}/status").read_text() for process in self.processes()]
        return sum(int(status.partition("VmHWM:")[2].split()[0]) for status in statuses) / 1024

    def under_load(self, form: Path, connections: int, seconds: int, pause_ms: float = 0, query: str = "") -> Load:
        """Post a form over and over.

        Args:
            pause_ms: of each connection between two requests; none: as fast as it goes.
            query: of the URL, with its question mark.
        """
        variables = {"BODY": str(form), "CONTENT_TYPE": self.content_type}
        variables["PAUSE_MS"] = str(pause_ms)
        threads = "2" if pause_ms else "1"
        command = ["wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s"]
        command += ["-s", str(Path(__file__).with_name("post.lua")), f"{self.url}{self.route}{query}"]
        before = self.cpu_seconds()
        output = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=True).stdout
        spent = self.cpu_seconds() - before
        return Load(**json.loads(output.strip().splitlines()[-1]), cpu_seconds=spent)


def write_form(image: bytes, path: Path) -> Path:
    """A form with the image in the field `file`, as curl would send it."""
    head = 'Content-Disposition: form-data; name="file"; filename="face.jpg"\r\nContent-Type: image/jpeg'
    path.write_bytes(f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + image + f"\r\n--{BOUNDARY}--\r\n".encode())
    return path


def require_wrk() -> None:
    """Say how to install the load generator where it is missing."""
    if shutil.which("wrk") is None:
        raise typer.BadParameter("wrk is missing; install it with `apt-get install wrk`")


@contextmanager
def ours(bundle: Path, **settings: object) -> Iterator[Server]:
    """`python -m serving --bundle BUNDLE`."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    with running("-m", "serving", "--bundle", str(bundle.resolve()), *options, "--port") as server:
        yield server


@contextmanager
def plain(bundle: Path) -> Iterator[Server]:
    """`benchmarks.serving.plain`."""
    with running("-m", "benchmarks.serving.plain", str(bundle.resolve())) as server:
        yield server


@contextmanager
def running(
    *arguments: str, ready: str = "/readyz", variables: Mapping[str, str] | None = None, python: str = sys.executable
) -> Iterator[Server]:
    """`python ARGUMENTS PORT` with these variables besides our own, once it answers to the path `ready`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EMOTION_")}
    environment |= {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"} | dict(variables or {})
    start = time.perf_counter()
    process = subprocess.Popen(
        [python, *arguments, str(port)], env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(url + ready, process)
        yield Server(psutil.Process(process.pid), url, time.perf_counter() - start)
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Of some servers the processes survive the first of them."""
    children: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        children = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    try:
        process.wait(timeout=40)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.kill()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.02)
    raise RuntimeError(f"{' '.join(map(str, process.args))} ended")  # type: ignore[arg-type]
