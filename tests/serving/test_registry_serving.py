"""The champion of a real MLflow server, pulled over HTTP."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx
import numpy as np
import pytest

from emotion_detection.registry import Registry
from tests.clone import free_port
from tests.serving.processes import ROOT, Server, running
from tests.serving.registered import register
from tests.serving.tiny import LABELS, TinyBundle, encode, wait_until, write_bundle

SLIM = ROOT / ".venv-serve" / "bin" / "python"
pytestmark = pytest.mark.slow


def assert_answers(server: Server, bundle: TinyBundle, version: str) -> None:
    data = encode(3)
    answer = httpx.post(f"{server.url}/detect", files={"file": data}, timeout=20).json()
    assert answer["model"]["version"] == version
    found = [answer["probabilities"][label] for label in LABELS]
    np.testing.assert_allclose(found, bundle.expected(data), atol=1e-5)


def test_the_champion_is_pulled_as_soon_as_there_is_one(server_url: str, tmp_path: Path) -> None:
    model = "served"
    bundle, later = (write_bundle(tmp_path / str(seed), seed) for seed in (1, 2))
    python = str(SLIM) if SLIM.exists() else sys.executable
    settings = {"MLFLOW_TRACKING_URI": server_url, "EMOTION_MODEL": model, "EMOTION_RETRY_SECONDS": "0.2"}
    with running(tmp_path, python=python, **settings) as server:
        wait_until(lambda: "has no versions yet" in server.get("/readyz").text)
        version = register(server_url, bundle, model)
        register(server_url, later, model)
        wait_until(lambda: "has no alias 'champion'" in server.get("/readyz").text)
        registry = Registry(model, server_url)
        registry.promote(registry.resolve(version))
        wait_until(server.is_ready)
        assert_answers(server, bundle, version)
        card = server.get("/model").json()
    assert card["name"] == model
    assert card["run_id"] == registry.resolve(version).run_id
    assert (tmp_path / ".cache/serving" / model / version / "model.onnx").exists()


def test_another_alias_or_version_can_be_asked_for(server_url: str, tmp_path: Path) -> None:
    model = "served-by-number"
    bundles = [write_bundle(tmp_path / str(seed), seed) for seed in (3, 4)]
    versions = [register(server_url, bundle, model) for bundle in bundles]
    options = ("--model", model, "--alias", versions[0], "--cache", str(tmp_path / "cache"))
    with running(tmp_path, *options, MLFLOW_TRACKING_URI=server_url) as server:
        wait_until(server.is_ready)
        assert_answers(server, bundles[0], versions[0])


def test_a_registry_that_does_not_answer_keeps_the_server_alive_but_not_ready(tmp_path: Path) -> None:
    silent = f"http://127.0.0.1:{free_port()}"
    with running(tmp_path, MLFLOW_TRACKING_URI=silent, EMOTION_RETRY_SECONDS="0.2") as server:
        wait_until(lambda: "no answer" in server.get("/readyz").text)
        assert server.get("/healthz").status_code == 200
        answer = httpx.post(f"{server.url}/detect", files={"file": encode()})
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:problem:not-ready")
