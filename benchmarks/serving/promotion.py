"""From typing `emotion promote` or `emotion rollback` to the server's first answer by that version.

    make run && python -m benchmarks.serving.promotion          # or, of another project: ... promotion DIRECTORY

Two of the project's bundles are registered at an MLflow server on this machine, the one with lower validation accuracy
is champion, and a server follows it: once polling as it does by default, once told by MLflow's webhook. The other one
is promoted through the gate, and taken back, over and over. The moment at which the alias moves is seen in MLflow's
database; it divides the command's seconds from the server's.
"""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import httpx
import typer
from cryptography.fernet import Fernet
from rich.console import Console
from rich.table import Table

from benchmarks.serving.servers import running
from benchmarks.serving.swaps import mlflow_server, register
from emotion_detection.bundle import read_bundle
from emotion_detection.params import load_params
from serving.settings import Settings

EMOTION = str(Path(sys.executable).with_name("emotion"))
POLLED: float = Settings.model_fields["poll_seconds"].default
PATIENCE = 120.0
"""Seconds after which a change counts as failed."""
SHARED_WORD = "between MLflow and the server"
WEBHOOKS = {
    "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http",
    "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
    "MLFLOW_WEBHOOK_CACHE_TTL": "0",  # by default a new webhook is unknown for a minute
}


@dataclass(frozen=True)
class Change:
    """Seconds of one change of the champion."""

    command: float
    """From the command line to the moved alias."""
    server: float
    """From there to the first answer that names the version."""

    @property
    def total(self) -> float:
        return self.command + self.server


@dataclass(frozen=True)
class Stack:
    """A registry with two versions, and the server that follows it."""

    model: str
    database: Path
    url: str

    def aliased(self) -> str:
        """The champion, as MLflow's database has it."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=10)) as database:
            query = "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = 'champion'"
            return str(database.execute(query, (self.model,)).fetchone()[0])

    def answering(self) -> str:
        """The version that the server names."""
        return str(httpx.get(f"{self.url}/model").json()["version"])

    def change(self, version: str, *command: str) -> Change:
        """Run a command after which this version is champion.

        Raises:
            TimeoutError: it did not become so.
            CalledProcessError: the command failed.
        """
        start = time.perf_counter()
        with subprocess.Popen([EMOTION, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            moved = _until(lambda: self.aliased() == version or _failed(process))
            answered = _until(lambda: self.answering() == version or _failed(process))
            output, _ = process.communicate()
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command, output)
        return Change(moved - start, answered - moved)


def _failed(process: subprocess.Popen[bytes]) -> bool:
    return bool(process.poll())


def _until(condition: Callable[[], bool]) -> float:
    """When it became true."""
    end = time.perf_counter() + PATIENCE
    while not condition():
        if time.perf_counter() > end:
            raise TimeoutError(f"nothing changed in {PATIENCE:.0f} s")
        time.sleep(0.005)
    return time.perf_counter()


@contextmanager
def stack(bundles: list[Path], model: str, directory: Path, *, webhook: bool) -> Iterator[Stack]:
    """Bundles as versions 1 and 2 of a model, the first of them champion and answering."""
    directory.mkdir()
    os.environ.update(WEBHOOKS, MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY=Fernet.generate_key().decode())
    with mlflow_server(directory) as uri:
        os.environ["MLFLOW_TRACKING_URI"] = uri
        registry = register(uri, model, bundles)
        registry.promote(registry.resolve("1"))
        options = ["--model", model, "--cache", f"{directory}/cache"]
        variables = {"EMOTION_WEBHOOK_SECRET": SHARED_WORD} if webhook else {}
        with running("-m", "serving", *options, "--port", variables=variables) as server:
            if webhook:
                _announce(uri, f"{server.url}/webhooks/mlflow")
            yield Stack(model, directory / "mlflow.db", server.url)


def _announce(uri: str, hook: str) -> None:
    from mlflow import MlflowClient  # noqa: PLC0415

    MlflowClient(uri, uri).create_webhook("server", hook, ["model_version_alias.created"], secret=SHARED_WORD)


def measure(stack: Stack, rounds: int, pause: float) -> dict[str, list[Change]]:
    """Promotions and rollbacks in turn, by command, at most `pause` seconds between them."""
    changes: dict[str, list[Change]] = {"emotion promote": [], "emotion rollback": []}
    for _ in range(rounds):
        changes["emotion promote"].append(stack.change("2", "promote", "2"))
        time.sleep(random.uniform(0, pause))  # the next poll is at any distance
        changes["emotion rollback"].append(stack.change("1", "rollback"))
        time.sleep(random.uniform(0, pause))
    return changes


def two_bundles() -> list[Path]:
    """Those of the project's two best models, the better one last.

    Raises:
        BadParameter: there are not two.
    """
    found = [read_bundle(path.parent) for path in Path("bundles").glob("*/bundle.json")]
    if len(found) < 2:
        raise typer.BadParameter(f"{Path.cwd()} has not two bundles; run `make run` there")
    best = sorted(found, key=lambda bundle: bundle.info.metrics["val_accuracy"])[-2:]
    return [bundle.directory.absolute() for bundle in best]


def main(
    project: Annotated[Path, typer.Argument(help="after `make run`")] = Path(),
    rounds: Annotated[int, typer.Option(min=1, help="of one promotion and one rollback")] = 5,
) -> None:
    """Print one table: medians, and the largest in all."""
    os.chdir(project)
    bundles, model = two_bundles(), load_params().registry.model
    table = Table("s", "to the moved alias", "from there to the answer", "in all", "at most")
    with tempfile.TemporaryDirectory() as name:
        for told in (False, True):
            with stack(bundles, model, Path(name) / str(told), webhook=told) as followed:
                for command, changes in measure(followed, rounds, POLLED).items():
                    parts = zip(*((one.command, one.server, one.total) for one in changes), strict=True)
                    figures = [f"{median(part):.1f}" for part in parts] + [f"{max(one.total for one in changes):.1f}"]
                    table.add_row(f"{command}, {'webhook' if told else f'polled every {POLLED:g} s'}", *figures)
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
