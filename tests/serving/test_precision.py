"""Which of a bundle's graphs answers: the settings decide, and every answer says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from emotion_detection.bundle import INT8_FILE, INT8_GOLDEN_FILE, Precision, file_sha256, read_bundle
from emotion_detection.bundle import write_bundle_info as write_info
from emotion_detection.errors import BundleError, GoldenMismatch
from emotion_detection.golden import read_golden, write_golden
from serving.engine import Engine
from serving.settings import SettingsError, load_settings
from tests.serving.tiny import TinyBundle, encode, wait_until, write_bundle


@pytest.fixture
def both(tmp_path: Path) -> TinyBundle:
    """A bundle with int8, whose answers differ."""
    tiny, face = write_bundle(tmp_path / "both", int8=True), encode(1)
    assert np.abs(tiny.expected(face) - tiny.expected(face, "int8")).max() > 1e-2
    return tiny


@pytest.mark.parametrize(("wanted", "found"), [("auto", "int8"), ("int8", "int8"), ("fp32", "fp32")])
def test_the_wanted_graph_answers_and_is_named(
    both: TinyBundle, start: Callable[..., TestClient], wanted: str, found: Precision
) -> None:
    client, face = start(bundle=both.directory, precision=wanted), encode(1)
    answer = client.post("/detect?faces=none", files={"file": face})
    np.testing.assert_allclose(list(answer.json()["probabilities"].values()), both.expected(face, found), atol=1e-3)
    assert answer.headers["x-model-precision"] == answer.json()["model"]["precision"] == found
    card = client.get("/model").json()
    assert (card["precision"], card["quantisation"]["speedup"]) == (found, 2.0)
    assert f'precision="{found}"' in client.get("/metrics").text
    explained = client.post("/explain?faces=none&format=json", files={"file": face})
    assert explained.json()["detection"]["probabilities"] == answer.json()["probabilities"]


def test_a_bundle_without_int8_answers_in_fp32_and_is_refused_by_who_insists(
    tiny: TinyBundle, start: Callable[..., TestClient]
) -> None:
    assert start(bundle=tiny.directory).get("/model").json()["precision"] == "fp32"
    client = start(bundle=tiny.directory, precision="int8", ready=False)
    wait_until(lambda: "has no model.int8.onnx" in client.get("/readyz").json()["detail"])
    assert client.get("/readyz").status_code == 503


def test_int8_that_this_machine_computes_otherwise_gives_way_to_fp32(
    both: TinyBundle, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = read_bundle(both.directory)
    golden = read_golden(both.directory / INT8_GOLDEN_FILE, bundle.info)
    wrong = golden.probabilities.copy()
    wrong[0, 0] += 0.04
    write_golden(both.directory / INT8_GOLDEN_FILE, golden.images, wrong)
    files = bundle.info.files | {INT8_GOLDEN_FILE: file_sha256(both.directory / INT8_GOLDEN_FILE)}
    write_info(both.directory, bundle.info.model_copy(update={"files": files}))
    bundle = read_bundle(both.directory)
    assert Engine(bundle, precision="fp32").precision == "fp32"
    with pytest.raises(
        GoldenMismatch, match=r"model\.int8\.onnx: its answers to the golden faces differ by up to 0\.04"
    ):
        Engine(bundle, precision="int8")
    assert Engine(bundle).precision == "fp32"
    assert "fp32 answers instead" in caplog.text


def test_a_damaged_int8_graph_is_refused_even_where_fp32_would_answer(both: TinyBundle) -> None:
    path = both.directory / INT8_FILE
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match=r"model\.int8\.onnx: SHA-256 is"):
        read_bundle(both.directory)


def test_the_setting_has_three_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMOTION_PRECISION", "int8")
    assert load_settings().precision == "int8"
    assert load_settings(["--precision", "fp32"]).precision == "fp32"
    monkeypatch.setenv("EMOTION_PRECISION", "fp16")
    with pytest.raises(SettingsError, match="EMOTION_PRECISION or --precision: found 'fp16'"):
        load_settings()
