"""The servers that `peers.py` compares ours with: their environments, how they are started, how they are spoken to."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import httpx

from benchmarks.serving.servers import BOUNDARY, ROOT, Server, ours, running, write_form

HERE = Path(__file__).with_name("peers")
ENVIRONMENTS = ROOT / ".cache" / "peers"
Setting = Mapping[str, str]


@dataclass(frozen=True)
class Peer:
    """Another server: how to start it, and how to speak to it."""

    name: str
    command: tuple[str, ...]
    """After `python`; the port follows. BUNDLE, WORKERS and SAVED are filled in."""
    ready: str
    settings: tuple[Setting, ...] = ({},)
    """What is tried; see `peers/`."""
    route: str = "/detect"
    content_type: str = f"multipart/form-data; boundary={BOUNDARY}"
    parse: Callable[[Any], dict[str, float]] = lambda answer: dict(answer["probabilities"])
    saved: str = ""
    """Script that writes the model in a form of its own."""

    @property
    def python(self) -> Path:
        return ENVIRONMENTS / self.name / "bin" / "python"


def _grid(workers: tuple[int, ...], batches: tuple[tuple[int, int], ...]) -> tuple[Setting, ...]:
    """Processes, and most images in a batch with the milliseconds to wait for them."""
    return tuple(
        {"PEER_WORKERS": str(count), "PEER_BATCH": str(batch), "PEER_WAIT_MS": str(wait)}
        for count, (batch, wait) in product(workers, batches)
    )


_BENTOML = ("-m", "bentoml", "serve", "bentoml_service:Emotions", "--working-dir", str(HERE), "--port")
_MLFLOW = ("-m", "mlflow", "models", "serve", "-m", "SAVED", "--env-manager", "local", "--workers", "WORKERS", "-p")
PEERS = (
    Peer("fastapi", ("-m", "benchmarks.serving.plain", "BUNDLE"), "/readyz"),
    Peer(
        "litserve",
        (str(HERE / "litserve_app.py"),),
        "/health",
        _grid((1, 2), ((1, 0), (16, 1), (16, 5))),
        content_type="application/json",
    ),
    Peer(
        "bentoml",
        _BENTOML,
        "/readyz",
        _grid((1, 2), ((1, 0), (32, 1000), (32, 10000))),
        content_type="application/json",
        parse=lambda answer: dict(answer[0]),
    ),
    Peer(
        "mlflow",
        _MLFLOW,
        "/ping",
        tuple({"PEER_WORKERS": str(count)} for count in (1, 2)),
        route="/invocations",
        content_type="application/json",
        parse=lambda answer: dict(answer["predictions"][0]),
        saved="mlflow_model.py",
    ),
)


def build(peer: Peer) -> None:
    """Make the environment of a peer, unless it is that of the lock already."""
    lock, directory = HERE / f"{peer.name}.txt", ENVIRONMENTS / peer.name
    digest, stamp = hashlib.sha256(lock.read_bytes()).hexdigest(), directory / ".lock"
    if stamp.is_file() and stamp.read_text() == digest:
        return
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv"
    subprocess.run([uv, "venv", "-q", "--clear", "--python", sys.executable, str(directory)], check=True)
    install = [uv, "pip", "install", "-q", "--python", str(directory), "--require-hashes", "-r", str(lock)]
    subprocess.run(install, check=True)
    stamp.write_text(digest)


@dataclass(frozen=True)
class Model:
    """What all of them serve, and the files that hold a request for each."""

    bundle: Path
    images: list[bytes]
    directory: Path
    """For files."""

    def form(self, peer: Peer | None, number: int = 0) -> Path:
        """The body of a request with an image."""
        image = self.images[number]
        if peer is None or peer.content_type.startswith("multipart"):
            return write_form(image, self.directory / f"form-{number}")
        path = self.directory / f"json-{number}"
        path.write_text(json.dumps({"inputs": [base64.b64encode(image).decode()]}))
        return path

    def saved(self, peer: Peer) -> Path:
        """The model as the peer wants it, which is written once."""
        path = self.directory / peer.name
        if peer.saved and not path.exists():
            command = [str(peer.python), str(HERE / peer.saved), str(self.bundle), str(path)]
            subprocess.run(command, check=True, capture_output=True, env=_variables(peer))
        return path


@contextmanager
def serving(peer: Peer | None, model: Model, setting: Setting) -> Iterator[Server]:
    """A peer, or our own server where there is none."""
    if peer is None:
        with ours(model.bundle) as server:
            yield server
        return
    words = {"BUNDLE": str(model.bundle), "WORKERS": setting.get("PEER_WORKERS", ""), "SAVED": str(model.saved(peer))}
    command = [words.get(word, word) for word in peer.command]
    variables = _variables(peer) | {"PEER_BUNDLE": str(model.bundle)} | dict(setting)
    with running(*command, ready=peer.ready, variables=variables, python=str(peer.python)) as server:
        yield replace(server, route=peer.route, content_type=peer.content_type)


def _variables(peer: Peer) -> dict[str, str]:
    """Its own programs first; nothing is reported to anybody."""
    quiet = {"BENTOML_DO_NOT_TRACK": "True", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1"}
    path = f"{peer.python.parent}:/usr/local/bin:/usr/bin:/bin"
    return quiet | {"PATH": path, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "HOME": str(ENVIRONMENTS)}


def ask(server: Server, peer: Peer | None, form: Path) -> dict[str, float]:
    """Probabilities by label."""
    headers = {"Content-Type": server.content_type}
    answer = httpx.post(server.url + server.route, content=form.read_bytes(), headers=headers, timeout=60)
    return (
        peer.parse(answer.raise_for_status().json())
        if peer
        else dict(answer.raise_for_status().json()["probabilities"])
    )
