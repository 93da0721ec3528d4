"""A rollout and a scale-down under constant load lose no request: deploy/kubernetes played through without a cluster.

    apt-get install haproxy
    python -m benchmarks.serving.rolling [BUNDLE]            # none: an untrained lenet, needs TensorFlow

Servers stand for pods, and HAProxy for kube-proxy: it hands on connections, at random, repeats nothing, and what is
open stays open. Each of two pods is replaced as a Deployment with maxUnavailable 0 and maxSurge 1 does it: a new one is
started and counts once its readiness probe passes; then an old one is deleted. It waits as `preStop` says, meanwhile
its address is forgotten, it gets SIGTERM, and SIGKILL where its grace period is not enough. Then one of the two is
taken away. Half of the clients keep their connection, half open one for each request; none tries again.
"""

from __future__ import annotations

import http.client
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import httpx
import psutil
import typer
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.serving.bundles import export_untrained, jpeg
from benchmarks.serving.servers import ROOT, Server, ours

BASE = ROOT / "deploy/kubernetes/base"
SLOTS = 6
"""Pods in all that HAProxy can be told of."""
CONFIGURATION = """\
global
  stats socket {directory}/admin level admin
defaults
  mode tcp
  retries 0
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend service
  bind 127.0.0.1:{port}
  default_backend pods
backend pods
  balance random
"""


@dataclass(frozen=True)
class Manifest:
    """What the Deployment says of its pods, in seconds."""

    probe: str
    """Path."""
    period: float
    prestop: float
    drain: int
    grace: float


def read_manifest() -> Manifest:
    """From deploy/kubernetes/base."""
    documents: list[Any] = [
        yaml.safe_load((BASE / f"{name}.yaml").read_text()) for name in ("deployment", "kustomization")
    ]
    pod = documents[0]["spec"]["template"]["spec"]
    server = pod["containers"][0]
    literals = dict(text.split("=", 1) for text in documents[1]["configMapGenerator"][0]["literals"])
    return Manifest(
        probe=server["readinessProbe"]["httpGet"]["path"],
        period=server["readinessProbe"]["periodSeconds"],
        prestop=float(server["lifecycle"]["preStop"]["exec"]["command"][1]),
        drain=int(literals["EMOTION_DRAIN_SECONDS"]),
        grace=pod["terminationGracePeriodSeconds"],
    )


class Service:
    """HAProxy in front of pods that come and go."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._slots = directory, iter(range(SLOTS))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        pods = "".join(f"  server pod{slot} 127.0.0.1:1 disabled\n" for slot in range(SLOTS))
        text = CONFIGURATION.format(directory=directory, port=self.port) + pods
        (directory / "haproxy.cfg").write_text(text)

    @contextmanager
    def running(self) -> Iterator[None]:
        command = ["haproxy", "-db", "-f", str(self._directory / "haproxy.cfg")]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)  # it tells of every pod that comes and goes
        try:
            while not (self._directory / "admin").exists():
                if process.poll() is not None:
                    raise ChildProcessError(f"haproxy ended at once with status {process.returncode}")
                time.sleep(0.02)
            yield
        finally:
            process.terminate()
            process.wait()

    def add(self, pod: Server) -> str:
        """From now on new connections may go there; its name."""
        name = f"pods/pod{next(self._slots)}"
        self._tell(f"set server {name} addr 127.0.0.1 port {pod.url.rpartition(':')[2]}")
        self._tell(f"set server {name} state ready")
        return name

    def remove(self, name: str) -> None:
        """No more new connections; those that are open stay."""
        self._tell(f"set server {name} state maint")

    def _tell(self, command: str) -> None:
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(str(self._directory / "admin"))
            admin.sendall(f"{command}\n".encode())
            admin.recv(4096)


@dataclass
class Outcome:
    """What the clients saw."""

    statuses: Counter[int] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    """Requests without an answer, and why."""
    slowest: float = 0.0

    @property
    def lost(self) -> int:
        """All that was not answered with 200."""
        return self.statuses.total() - self.statuses[200] + len(self.failed)


class Clients:
    """Threads that post an image at a steady pace, the even ones over a connection that they keep."""

    def __init__(self, port: int, image: bytes, count: int, rate: float) -> None:
        """Args:
        rate: requests per second of all together.
        """
        self.outcome = Outcome()
        self._address, self._image, self._pause = f"127.0.0.1:{port}", image, count / rate
        self._end, self._lock = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(number % 2 == 0,)) for number in range(count)]

    def __enter__(self) -> Outcome:
        for thread in self._threads:
            thread.start()
        return self.outcome

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _run(self, kept: bool) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=60)
        while not self._end.wait(self._pause):
            start = time.perf_counter()
            try:
                connection.request("POST", "/detect?faces=none", self._image, {"Content-Type": "image/jpeg"})
                answer = connection.getresponse()
                answer.read()
                self._note(answer.status, "", time.perf_counter() - start)
            except (OSError, http.client.HTTPException) as error:
                self._note(None, repr(error), time.perf_counter() - start)
                connection.close()
            if not kept:
                connection.close()
        connection.close()

    def _note(self, status: int | None, failure: str, seconds: float) -> None:
        with self._lock:
            self.outcome.slowest = max(self.outcome.slowest, seconds)
            if status is None:
                self.outcome.failed.append(failure)
            else:
                self.outcome.statuses[status] += 1


@dataclass
class Deployment:
    """Pods behind a service."""

    bundle: Path
    manifest: Manifest
    service: Service
    lag: float
    """Seconds from a pod's deletion until no node sends anybody there."""
    stack: ExitStack
    killed: int = 0
    pods: list[tuple[Server, str]] = field(default_factory=list)

    def start(self) -> None:
        """One more pod; it counts once its probe has passed."""
        pod = self.stack.enter_context(ours(self.bundle, drain_seconds=self.manifest.drain))
        while httpx.get(pod.url + self.manifest.probe).status_code != 200:
            time.sleep(self.manifest.period)
        self.pods.append((pod, self.service.add(pod)))

    def delete(self) -> None:
        """The oldest pod, until its process has ended."""
        pod, name = self.pods.pop(0)
        forgetting = threading.Timer(self.lag, self.service.remove, (name,))
        forgetting.start()
        time.sleep(self.manifest.prestop)
        pod.process.send_signal(signal.SIGTERM)
        try:
            pod.process.wait(self.manifest.grace - self.manifest.prestop)
        except psutil.TimeoutExpired:
            pod.process.kill()
            self.killed += 1
        forgetting.join()

    def roll(self) -> None:
        """Replace every pod, a new one first."""
        for _ in range(len(self.pods)):
            self.start()
            self.delete()


def run(bundle: Path, manifest: Manifest, lag: float, clients: int, rate: float) -> dict[str, Outcome]:
    """What clients see during a rollout of two pods, and during a scale-down to one."""
    outcomes = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        service = Service(Path(name))
        stack.enter_context(service.running())
        deployment = Deployment(bundle, manifest, service, lag, stack)
        deployment.start()
        deployment.start()
        for title, change in {"rollout": deployment.roll, "scale-down": deployment.delete}.items():
            with Clients(service.port, jpeg(48, 48), clients, rate) as outcomes[title]:
                change()
                time.sleep(2)
        if deployment.killed:
            raise typer.BadParameter(f"{deployment.killed} pods did not end within {manifest.grace} s")
    return outcomes


def main(
    bundle: Annotated[Path | None, typer.Argument()] = None,
    lag: Annotated[float, typer.Option(help="s until no node sends anybody to a pod that goes")] = 3,
    clients: Annotated[int, typer.Option(min=2)] = 16,
    rate: Annotated[float, typer.Option(min=1, help="requests per second in all")] = 200,
    prestop: Annotated[
        float | None, typer.Option(help="s in place of the manifest's, such as 0 to see what it is for")
    ] = None,
) -> None:
    """Print one table; exit status 1 if a request was lost."""
    if shutil.which("haproxy") is None:
        raise typer.BadParameter("haproxy is missing; install it with `apt-get install haproxy`")
    manifest = read_manifest()
    manifest = manifest if prestop is None else replace(manifest, prestop=prestop)
    with tempfile.TemporaryDirectory() as name:
        if bundle is None:
            bundle = Path(name) / "lenet"
            export_untrained("lenet", bundle)
        outcomes = run(bundle, manifest, lag, clients, rate)
    table = Table("", "requests", "lost", "slowest, s")
    for title, outcome in outcomes.items():
        requests = outcome.statuses.total() + len(outcome.failed)
        table.add_row(title, f"{requests:,}", str(outcome.lost), f"{outcome.slowest:.2f}")
        Console().print(
            *Counter(outcome.failed).most_common(3), *({} if outcome.lost == 0 else outcome.statuses.items())
        )
    Console().print(table)
    sys.exit(any(outcome.lost for outcome in outcomes.values()))


if __name__ == "__main__":
    typer.run(main)
