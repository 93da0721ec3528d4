"""The same faces through Keras, through the exported graphs and through HTTP give the same answer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest

from emotion_detection.bundle import read_bundle
from emotion_detection.preprocess import prepare
from tests.clone import Clone, free_port, wait_for

FACES = 200
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("whole_path"), pytest.mark.timeout(1200)]


@pytest.fixture(scope="module", params=["lenet", "vit"])
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=["fp32"])
def server(pipeline: Clone, model: str, request: pytest.FixtureRequest) -> Iterator[str]:
    port = free_port()
    settings = {"EMOTION_BUNDLE": f"bundles/{model}", "EMOTION_PRECISION": request.param, "EMOTION_PORT": str(port)}
    environment = pipeline.environment(**settings)
    process = subprocess.Popen([sys.executable, "-m", "serving"], cwd=pipeline.path, env=environment)
    try:
        wait_for(f"http://127.0.0.1:{port}/readyz")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def keras_probabilities(clone: Clone, model: str, images: np.ndarray) -> np.ndarray:
    """Logits of the trained model, then temperature and softmax in NumPy."""
    from emotion_detection.models import load_model

    logits = load_model(model, clone.path / "models" / model / "model.keras").predict(images, verbose=0)
    report = json.loads((clone.path / "reports" / model / "metrics.json").read_text())
    scaled = logits.astype(float) / report["temperature"]
    scaled = np.exp(scaled - scaled.max(1, keepdims=True))
    return np.asarray(scaled / scaled.sum(1, keepdims=True))


def http_probabilities(url: str, faces: list[bytes], labels: tuple[str, ...], at_once: int = 4) -> np.ndarray:
    def ask(client: httpx.Client, data: bytes) -> list[float]:
        answer = client.post(f"{url}/detect", files={"file": ("face.jpg", data, "image/jpeg")})
        assert answer.status_code == 200, answer.text
        return [answer.json()["probabilities"][label] for label in labels]

    with httpx.Client() as client, ThreadPoolExecutor(at_once) as pool:
        return np.array(list(pool.map(lambda data: ask(client, data), faces)))


def test_keras_onnx_and_http_agree(pipeline: Clone, model: str, server: str) -> None:
    import onnxruntime as ort

    info = read_bundle(pipeline.path / "bundles" / model).info
    faces = pq.read_table(pipeline.path / "data/dataset.parquet", columns=["image"])["image"].to_pylist()[:FACES]
    images = np.stack([prepare(face, info.image_size, info.channels) for face in faces])
    session = ort.InferenceSession(pipeline.path / "bundles" / model / "model.onnx")
    answers = {
        "keras": keras_probabilities(pipeline, model, images),
        "onnx": session.run(None, {"image": images})[0],
        "http": http_probabilities(server, faces, info.labels),
    }
    for name in ("onnx", "http"):
        difference = np.abs(answers[name] - answers["keras"]).max()
        assert difference <= 1e-4, (name, difference)
        assert (answers[name].argmax(1) == answers["keras"].argmax(1)).all(), name


@pytest.mark.parametrize("server", ["auto"], indirect=True)
def test_int8_and_http_agree(pipeline: Clone, model: str, server: str) -> None:
    """Each face alone: what a dynamic graph answers depends on the faces beside it."""
    import onnxruntime as ort

    info = read_bundle(pipeline.path / "bundles" / model).info
    faces = pq.read_table(pipeline.path / "data/dataset.parquet", columns=["image"])["image"].to_pylist()[:FACES]
    images = np.stack([prepare(face, info.image_size, info.channels) for face in faces])
    session = ort.InferenceSession(pipeline.path / "bundles" / model / "model.int8.onnx")
    expected = np.concatenate([session.run(None, {"image": image[np.newaxis]})[0] for image in images])
    found = http_probabilities(server, faces, info.labels, at_once=1)
    assert httpx.get(f"{server}/model").json()["precision"] == "int8"
    np.testing.assert_allclose(found, expected, atol=1e-6)
    fp32 = ort.InferenceSession(pipeline.path / "bundles" / model / "model.onnx").run(None, {"image": images})[0]
    assert np.abs(found - fp32).max() > 1e-5


def test_the_shards_hold_what_the_server_would_see(pipeline: Clone) -> None:
    """The stored crop of an image is the crop that serving makes of its bytes."""
    from emotion_detection.data.shards import load_arrays

    arrays = load_arrays(pipeline.path / "data/shards", "test")
    info = json.loads((pipeline.path / "data/shards/dataset.json").read_text())
    table = pq.read_table(pipeline.path / "data/dataset.parquet", columns=["image", "sha256"])
    by_hash = dict(zip(table["sha256"].to_pylist(), table["image"].to_pylist(), strict=True))
    assert len(arrays.sha256) > 0
    for image, sha256 in zip(arrays.images, arrays.sha256, strict=True):
        assert (image == prepare(by_hash[sha256], info["image_size"], info["channels"])).all()


def test_answers_name_the_bundle_they_come_from(pipeline: Clone, model: str, server: str) -> None:
    info = read_bundle(Path(pipeline.path, "bundles", model)).info
    described = httpx.get(f"{server}/model").json()
    assert described["labels"] == list(info.labels)
    assert info.lineage.data_hash in json.dumps(described)
