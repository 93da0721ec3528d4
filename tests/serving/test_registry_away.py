"""Servers as processes and a real MLflow server that is killed, hangs, is cut off, comes back, and calls."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import mlflow
import pytest
from cryptography.fernet import Fernet

from benchmarks.serving.swaps import Clients, expected_answers, swap_under_load
from emotion_detection.registry import Registry
from tests.clone import free_port
from tests.project import mlflow_server, stop
from tests.serving.processes import Server, running
from tests.serving.registered import promote, register
from tests.serving.test_registry_serving import assert_answers
from tests.serving.tiny import TinyBundle, encode, wait_until, write_bundle

pytestmark = pytest.mark.slow
MODEL = "away"
QUICK = {"EMOTION_MODEL": MODEL, "EMOTION_POLL_SECONDS": "0.1", "EMOTION_RETRY_SECONDS": "0.1"}
IMPATIENT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "3"}


@pytest.fixture
def bundles(tmp_path: Path) -> list[TinyBundle]:
    return [write_bundle(tmp_path / str(seed), seed, spread=9) for seed in (1, 2)]


def register_both(uri: str, bundles: list[TinyBundle]) -> None:
    for bundle in bundles:
        register(uri, bundle, MODEL)
    promote(uri, MODEL, "1")


def serves(server: Server, version: str) -> bool:
    answer = server.get("/readyz")
    return answer.status_code == 200 and answer.json()["version"] == version


def metric(server: Server, series: str) -> float:
    found = re.search(rf"^{re.escape(series)} (.*)$", server.get("/metrics").text, re.M)
    assert found, series
    return float(found[1])


@contextmanager
def silence(port: int) -> Iterator[None]:
    """A host that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", port), backlog=128):
        yield


def test_a_server_starts_without_its_registry_and_says_so(
    empty_database: Path, tmp_path: Path, bundles: list[TinyBundle]
) -> None:
    """And follows it once it is back: test_outage.py."""
    port = free_port()
    registry, settings = tmp_path / "mlflow", QUICK | IMPATIENT | {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}
    with mlflow_server(registry, empty_database, port) as (uri, process):
        register_both(uri, bundles)
        with running(tmp_path, **settings) as server:
            wait_until((tmp_path / ".cache/serving" / MODEL / "champion.json").exists)
            stop(process)
            wait_until(lambda: metric(server, "emotion_registry_up") == 0)
            assert_answers(server, bundles[0], "1")

    with silence(port), running(tmp_path, **settings) as server:
        assert serves(server, "1")  # as soon as the port is open
        assert_answers(server, bundles[0], "1")
        assert "from the cache" in server.get("/readyz").json()["detail"]
        assert "answers from the cache" in server.log.read_text()
        wait_until(lambda: metric(server, "emotion_registry_up") == 0)

    with running(tmp_path, **settings) as server:
        assert serves(server, "1")
        wait_until(lambda: "no answer" in (server.get("/readyz").json()["detail"] or ""))
        assert metric(server, 'emotion_registry_polls_total{result="failed"}') >= 1
    assert "Traceback" not in server.log.read_text()


class Cutter(BaseHTTPRequestHandler):
    """Hands requests on to MLflow, but breaks off in the middle of model.onnx while `cutting`."""

    upstream = ""
    cutting = threading.Event()
    cuts = 0

    def do_GET(self) -> None:
        answer = httpx.get(self.upstream + self.path, timeout=60)
        cut = self.path.endswith("model.onnx") and self.cutting.is_set()
        self.send_response(answer.status_code)
        self.send_header("Content-Type", answer.headers["content-type"])
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content[: len(answer.content) // 2] if cut else answer.content)
        Cutter.cuts += cut

    def log_message(self, *_: object) -> None:
        pass


def test_a_registry_that_dies_during_a_swap_costs_no_answer(
    server_url: str, tmp_path: Path, bundles: list[TinyBundle]
) -> None:
    register_both(server_url, bundles)
    Cutter.upstream = server_url
    with ThreadingHTTPServer(("127.0.0.1", 0), Cutter) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{proxy.server_address[1]}"
        with running(tmp_path, MLFLOW_TRACKING_URI=uri, **QUICK) as server:
            wait_until(lambda: serves(server, "1"))
            Cutter.cutting.set()
            promote(server_url, MODEL, "2")
            wait_until(lambda: Cutter.cuts >= 2)
            assert_answers(server, bundles[0], "1")
            assert metric(server, 'emotion_registry_polls_total{result="refused"}') == 0
            Cutter.cutting.clear()
            wait_until(lambda: serves(server, "2"))
            assert_answers(server, bundles[1], "2")
        proxy.shutdown()


def test_swaps_under_load_fail_no_request_and_name_the_model_that_answered(
    server_url: str, tmp_path: Path, bundles: list[TinyBundle]
) -> None:
    model, image = "swaps", encode(3)
    for bundle in bundles:
        register(server_url, bundle, model)
    registry = Registry(model, server_url)
    registry.promote(registry.resolve("2"))
    settings = QUICK | {"EMOTION_MODEL": model, "MLFLOW_TRACKING_URI": server_url}
    with running(tmp_path, **settings) as server:
        wait_until(lambda: serves(server, "2"))
        expected = expected_answers([bundle.directory for bundle in bundles], image)
        outcome = swap_under_load(Clients(server.url, image, expected, 8), registry, 30)
        assert metric(server, "emotion_model_swaps_total") == 30
    assert (outcome.failed, outcome.wrong) == ([], 0)
    assert len(outcome.seconds) == 30
    assert outcome.answers > 30


def test_mlflows_own_webhook_is_understood(
    empty_database: Path, tmp_path: Path, bundles: list[TinyBundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY", Fernet.generate_key().decode())
    monkeypatch.setenv("MLFLOW_WEBHOOK_ALLOWED_SCHEMES", "http")
    monkeypatch.setenv("MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS", "true")
    monkeypatch.setenv("MLFLOW_WEBHOOK_CACHE_TTL", "0")  # by default a new webhook is unknown for a minute
    settings = QUICK | {"EMOTION_POLL_SECONDS": "600", "EMOTION_WEBHOOK_SECRET": "from the test"}
    with mlflow_server(tmp_path / "mlflow", empty_database) as (uri, _):
        register_both(uri, bundles)
        with running(tmp_path, MLFLOW_TRACKING_URI=uri, **settings) as server:
            wait_until(lambda: serves(server, "1"))
            hook = f"{server.url}/webhooks/mlflow"
            client = mlflow.MlflowClient(uri, uri)
            client.create_webhook("server", hook, ["model_version_alias.created"], secret="from the test")
            promote(uri, MODEL, "2")
            wait_until(lambda: serves(server, "2"))
            assert_answers(server, bundles[1], "2")


def test_sigterm_under_load_loses_no_request(tiny: TinyBundle, tmp_path: Path) -> None:
    data, ending = encode(5), threading.Event()

    def post_until_the_end(server: Server) -> list[int]:
        """Statuses of all answers; only a connection that is refused ends it."""
        statuses: list[int] = []
        with httpx.Client(base_url=server.url, timeout=30) as client:
            while True:
                try:
                    statuses.append(client.post("/detect", content=data).status_code)
                except httpx.ConnectError:
                    assert ending.is_set()
                    return statuses

    with running(tmp_path, "--bundle", str(tiny.directory)) as server, ThreadPoolExecutor(16) as pool:
        clients = [pool.submit(post_until_the_end, server) for _ in range(16)]
        wait_until(lambda: metric(server, "emotion_batch_size_sum") > 200)
        ending.set()
        server.process.terminate()
        statuses = [client.result(timeout=60) for client in clients]
    assert all(found and set(found) == {200} for found in statuses)
