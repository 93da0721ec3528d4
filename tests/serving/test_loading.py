"""From a bundle directory to a model that answers, and every way in which that fails."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from emotion_detection.bundle import BUNDLE_FILE, MODEL_FILE, file_sha256, read_bundle, write_bundle_info
from emotion_detection.errors import BundleError
from emotion_detection.preprocess import prepare
from serving.engine import Engine
from serving.settings import Settings
from serving.sources import DirectorySource, load_directory
from tests.serving.tiny import LABELS, TinyBundle, encode, wait_until, write_bundle


def refusal(client: TestClient) -> Response:
    """The answer of /readyz once loading has been tried."""
    wait_until(lambda: "being loaded" not in client.get("/readyz").text)
    return client.get("/readyz")


def test_predictions_of_a_batch_equal_those_of_single_images(tiny: TinyBundle) -> None:
    engine = Engine(read_bundle(tiny.directory), threads=2)
    files = [encode(seed) for seed in range(5)]
    batch = engine.predict(np.stack([prepare(data, 8, 1) for data in files]))
    assert (batch.shape, batch.dtype) == ((5, len(LABELS)), np.float32)
    for row, data in zip(batch, files, strict=True):
        np.testing.assert_allclose(row, tiny.expected(data), atol=1e-5)
        np.testing.assert_allclose(row, engine.predict(engine.crops(data), alone=True)[0], atol=1e-6)


def test_a_bundle_directory_needs_no_registry(tiny: TinyBundle) -> None:
    model = load_directory(Settings(bundle=tiny.directory))
    assert (model.name, model.run_id, model.labels) == ("tiny", None, LABELS)
    assert model.version == f"bundle-{model.bundle.info.digest()[:12]}"


@pytest.mark.parametrize("name", [BUNDLE_FILE, MODEL_FILE])
def test_a_corrupted_file_keeps_the_server_from_being_ready(
    start: Callable[..., TestClient], tiny: TinyBundle, name: str
) -> None:
    file = tiny.directory / name
    file.write_bytes(file.read_bytes()[:-5])
    client = start(bundle=tiny.directory, ready=False)
    answer = refusal(client)
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:problem:not-ready")
    assert name in answer.json()["detail"]
    assert int(answer.headers["Retry-After"]) >= 1
    assert client.get("/healthz").status_code == 200
    for path in ("/model", "/labels"):
        assert client.get(path).status_code == 503
    assert client.post("/detect", files={"file": encode()}).json()["type"] == "urn:problem:not-ready"


def test_the_server_becomes_ready_once_the_bundle_is_there(start: Callable[..., TestClient], tmp_path: Path) -> None:
    client = start(bundle=tmp_path / "bundle", ready=False)
    assert "bundle.json: No such file" in refusal(client).json()["detail"]
    write_bundle(tmp_path / "elsewhere").directory.rename(tmp_path / "bundle")
    wait_until(lambda: client.get("/readyz").status_code == 200)
    assert client.post("/detect", files={"file": encode()}).status_code == 200


def test_an_unforeseen_failure_is_reported_and_tried_again(
    start: Callable[..., TestClient], tiny: TinyBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a secret")

    with monkeypatch.context() as patched:
        patched.setattr(DirectorySource, "newer", fail)
        client = start(bundle=tiny.directory, ready=False)
        detail = refusal(client).json()["detail"]
    assert "RuntimeError" in detail
    assert "secret" not in detail
    wait_until(lambda: client.get("/readyz").status_code == 200)


def test_a_graph_with_other_outputs_than_labels_is_refused(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle", labels=("happy", "sad"))
    with pytest.raises(BundleError, match=r"model\.onnx: answers with \(1, 3\) float32, expected \(1, 2\)"):
        load_directory(Settings(bundle=bundle.directory))


def test_a_graph_that_answers_with_logits_is_refused(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle", softmax=False)
    with pytest.raises(BundleError, match="no probabilities"):
        load_directory(Settings(bundle=bundle.directory))


def test_a_graph_that_takes_other_images_is_refused(tiny: TinyBundle) -> None:
    info = read_bundle(tiny.directory).info
    write_bundle_info(tiny.directory, info.model_copy(update={"channels": 3}))
    with pytest.raises(BundleError, match=r"cannot be run on \(1, 8, 8, 3\) uint8"):
        load_directory(Settings(bundle=tiny.directory))


def test_what_is_no_graph_is_refused_even_with_a_right_checksum(tiny: TinyBundle) -> None:
    info = read_bundle(tiny.directory).info
    shutil.copy(tiny.directory / BUNDLE_FILE, tiny.directory / MODEL_FILE)
    files = info.files | {MODEL_FILE: file_sha256(tiny.directory / MODEL_FILE)}
    write_bundle_info(tiny.directory, info.model_copy(update={"files": files}))
    with pytest.raises(BundleError, match="ONNX Runtime cannot load it"):
        load_directory(Settings(bundle=tiny.directory))
