"""Alias swaps under full load: no request fails, and every answer comes from the model that it names.

    python -m benchmarks.serving.swaps                     # 200 swaps; exports untrained models, needs TensorFlow

Two models that answer differently are registered at an MLflow server on this machine. The alias moves from one to the
other as soon as an answer names the version it pointed to, while clients post as fast as they are answered. The
probabilities of every answer tell which model computed it.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.serving.bundles import export_untrained, jpeg
from benchmarks.serving.servers import running
from emotion_detection.bundle import read_bundle
from emotion_detection.registry import Registry
from serving.engine import Engine

Answer = tuple[str, NDArray[np.float64]]
"""Version that is named, and the probabilities (K,)."""
EXACT = 1e-4
"""Largest difference of a probability between an answer and its model's; a batch sums in another order."""
PATIENCE = 60.0
"""Seconds after which a swap counts as failed."""


@dataclass
class Outcome:
    """What the clients saw."""

    answers: int = 0
    failed: list[str] = field(default_factory=list)
    wrong: int = 0
    """Answers that another model computed than the one that they name."""
    seconds: list[float] = field(default_factory=list)
    """From moving the alias to the first answer of the new version, for each swap."""
    elapsed: float = 0.0


class Clients:
    """Threads that post an image over connections that are kept, and check every answer."""

    def __init__(
        self, url: str, image: bytes, expected: Mapping[str, NDArray[np.float64]], count: int, pause: float = 0.0
    ) -> None:
        """Args:
        expected: right answer of each version.
        pause: seconds that each waits after an answer.
        """
        self._address, self._image, self._expected = url.removeprefix("http://"), image, expected
        self._pause = pause
        self.outcome, self.latest = Outcome(), ""
        self._lock, self._end = threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=PATIENCE)
        while not self._end.wait(self._pause):
            try:
                self._note(*_post(connection, self._image))
            except Exception as error:
                with self._lock:
                    self.outcome.failed.append(repr(error))
                connection.close()  # after half an exchange it would refuse every other request
        connection.close()

    def _note(self, version: str, probabilities: NDArray[np.float64]) -> None:
        right = float(np.abs(self._expected[version] - probabilities).max()) < EXACT
        with self._lock:
            self.outcome.answers += 1
            self.outcome.wrong += not right
            self.latest = version


def swap_under_load(clients: Clients, registry: Registry, swaps: int) -> Outcome:
    """Move the champion from version 2 to version 1, and to and fro, while the clients post."""
    infos = [registry.resolve(version) for version in ("1", "2")]
    began = time.perf_counter()
    with clients:
        for number in range(swaps):
            info, start = infos[number % 2], time.perf_counter()
            registry.promote(info)
            while clients.latest != info.version and time.perf_counter() - start < PATIENCE:
                time.sleep(0.002)
            if clients.latest != info.version:
                clients.outcome.failed.append(f"version {info.version} did not answer")
            clients.outcome.seconds.append(time.perf_counter() - start)
    clients.outcome.elapsed = time.perf_counter() - began
    return clients.outcome


def register(uri: str, model: str, bundles: Sequence[Path]) -> Registry:
    """Register bundles as versions 1, 2, ...; the last one becomes champion."""
    registry = Registry(model, uri)
    from mlflow import MlflowClient  # noqa: PLC0415

    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    run = client.create_run(client.create_experiment(model)).info.run_id
    infos = [registry.register(read_bundle(bundle), run) for bundle in bundles]
    registry.promote(infos[-1])
    return registry


def expected_answers(bundles: Sequence[Path], image: bytes) -> dict[str, NDArray[np.float64]]:
    """By version, as `register` numbers them.

    Raises:
        ValueError: two models answer alike, so that nothing could be told.
    """
    engines = [Engine(read_bundle(bundle)) for bundle in bundles]
    answers = [engine.predict(engine.crops(image))[0].astype(np.float64) for engine in engines]
    if np.abs(answers[0] - answers[1]).max() < 10 * EXACT:
        raise ValueError(f"the models answer alike: {answers}")
    return {str(number): answer for number, answer in enumerate(answers, 1)}


@contextmanager
def mlflow_server(directory: Path) -> Iterator[str]:
    """Its URL."""
    os.environ |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    options = ["--workers", "1", "--allowed-hosts", "127.0.0.1:*", "--backend-store-uri"]
    options += [f"sqlite:///{directory}/mlflow.db", "--artifacts-destination", str(directory / "files")]
    with running("-m", "mlflow", "server", *options, "--port", ready="/health") as server:
        yield server.url


def _post(connection: http.client.HTTPConnection, image: bytes) -> Answer:
    connection.request("POST", "/detect?faces=none", image, {"Content-Type": "image/jpeg"})
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise ValueError(f"{answer.status}: {body[:200]!r}")
    content = json.loads(body)
    version = content["model"]["version"]
    if answer.getheader("X-Model-Version") != version or not content["prediction_id"].startswith(f"{version}-"):
        raise ValueError(f"header, body and id name different versions: {answer.headers} {content}")
    return version, np.array(list(content["probabilities"].values()))


def main(
    swaps: Annotated[int, typer.Option(min=1)] = 200,
    clients: Annotated[int, typer.Option(min=1, help="connections")] = 16,
    poll_seconds: Annotated[float, typer.Option(help="of the server")] = 0.1,
) -> None:
    """Print one table; exit status 1 if anything failed."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        bundles = [directory / architecture for architecture in ("emotion_cnn", "lenet")]
        for bundle in bundles:
            export_untrained(bundle.name, bundle)
        image = jpeg(48, 48)
        with mlflow_server(directory) as uri:
            registry = register(uri, "swaps", bundles)
            options = ["--model", "swaps", "--cache", f"{directory}/cache", "--poll-seconds", str(poll_seconds)]
            os.environ["MLFLOW_TRACKING_URI"] = uri
            with running("-m", "serving", *options, "--port") as server:
                expected = expected_answers(bundles, image)
                swap_under_load(Clients(server.url, image, expected, clients), registry, 4)  # warm
                before = server.process.memory_info().rss
                outcome = swap_under_load(Clients(server.url, image, expected, clients), registry, swaps)
                growth = server.process.memory_info().rss - before
    _report(outcome, growth)


def _report(outcome: Outcome, growth: int) -> None:
    table = Table(show_header=False)
    table.add_row("swaps", str(len(outcome.seconds)))
    table.add_row("answers, and per second", f"{outcome.answers:,}, {outcome.answers / outcome.elapsed:,.0f}")
    table.add_row("failed", str(len(outcome.failed)))
    table.add_row("computed by another model than named", str(outcome.wrong))
    table.add_row(
        "s from alias to answer, median and largest", f"{median(outcome.seconds):.2f}, {max(outcome.seconds):.2f}"
    )
    table.add_row("growth of the server's memory, MiB", f"{growth / 2**20:.0f}")
    Console().print(table, *outcome.failed[:5])
    if outcome.failed or outcome.wrong:
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
