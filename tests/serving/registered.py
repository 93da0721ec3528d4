"""Tiny bundles in a real registry, and applications in this process that follow it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import numpy as np
import onnx
from fastapi.testclient import TestClient
from onnx import TensorProto, helper, numpy_helper

from emotion_detection.bundle import (
    BUNDLE_FILE,
    GOLDEN_FILE,
    MODEL_FILE,
    OUTPUT_NAME,
    BundleInfo,
    file_sha256,
    read_bundle,
    write_bundle_info,
)
from emotion_detection.registry import Registry
from serving.app import create_app
from serving.settings import Settings
from tests.serving.test_metrics import value
from tests.serving.tiny import LABELS, TinyBundle, encode, wait_until, write_bundle

MODEL = "watched"


def register(uri: str, bundle: TinyBundle, model: str) -> str:
    """Register a bundle; its version."""
    client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiment = client.create_experiment(f"{model}-{bundle.directory.name}")
    run = client.create_run(experiment).info.run_id
    return Registry(model, uri).register(read_bundle(bundle.directory), run).version


def promote(uri: str, model: str, version: str) -> None:
    registry = Registry(model, uri)
    registry.promote(registry.resolve(version))


def challenge(uri: str, model: str, version: str) -> None:
    registry = Registry(model, uri)
    registry.challenge(registry.resolve(version))


def withdraw(uri: str, model: str) -> None:
    Registry(model, uri).withdraw()


def with_foreign_golden_faces(directory: Path) -> TinyBundle:
    """All checksums are right, but the answers are those of another model."""
    bundle, other = write_bundle(directory, seed=8), write_bundle(directory.with_name("other"), seed=9)
    shutil.copy(other.directory / GOLDEN_FILE, directory / GOLDEN_FILE)
    with_new_checksum(directory, GOLDEN_FILE)
    return bundle


def that_fails_on_white(directory: Path) -> TinyBundle:
    """It passes every check, and cannot be run on images that are white all over."""
    bundle = write_bundle(directory, seed=8, spread=9)
    model = onnx.load(directory / MODEL_FILE)
    answers = model.graph.node[-1]
    answers.output[0] = "answers"
    constants = {"only": np.ones(1, np.float32), "most": np.float32(255)}
    model.graph.initializer.extend(numpy_helper.from_array(np.array(array), name) for name, array in constants.items())
    model.graph.node.extend(
        [
            helper.make_node("ReduceMin", ["pixels"], ["darkest"], keepdims=0),
            helper.make_node("Div", ["darkest", "most"], ["share"]),
            helper.make_node("Cast", ["share"], ["place"], to=TensorProto.INT64),
            helper.make_node("Gather", ["only", "place"], ["one"]),  # there is no second place
            helper.make_node("Mul", ["answers", "one"], [OUTPUT_NAME]),
        ]
    )
    onnx.save(model, directory / MODEL_FILE)
    with_new_checksum(directory, MODEL_FILE)
    return bundle


def with_new_checksum(directory: Path, name: str) -> None:
    """Have bundle.json say that a file is as it should be."""
    info = BundleInfo.model_validate_json((directory / BUNDLE_FILE).read_bytes())
    files = info.files | {name: file_sha256(directory / name)}
    write_bundle_info(directory, info.model_copy(update={"files": files}))


@contextmanager
def serving(**settings: object) -> Iterator[TestClient]:
    """An application that follows the champion."""
    usual = {"model": MODEL, "retry_seconds": 0.05, "poll_seconds": 0.05, "face_model": None, "cache": Path("cache")}
    with TestClient(create_app(Settings(**(usual | settings)))) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        yield client


def answers(client: TestClient, bundle: TinyBundle, version: str) -> bool:
    """Whether a version answers now; fails where an answer is not of the version that it names."""
    data = encode(3)
    answer = client.post("/detect", files={"file": data})
    body = answer.json()
    assert answer.headers["X-Model-Version"] == body["model"]["version"]
    if body["model"]["version"] != version:
        return False
    assert body["prediction_id"].startswith(f"{version}-{body['model']['bundle_sha256'][:8]}-")
    found = [body["probabilities"][label] for label in LABELS]
    np.testing.assert_allclose(found, bundle.expected(data), atol=1e-5)
    return True


def polls(client: TestClient, result: str) -> float:
    return value(client, "emotion_registry_polls_total", result=result)
