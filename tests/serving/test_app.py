"""The application as a whole: what it imports, its other routes, its documentation."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from openapi_spec_validator import validate

from tests.serving.tiny import LABELS, TinyBundle, encode, write_bundle

ROOT = Path(__file__).parents[2]
HEAVY = (
    "tensorflow", "keras", "great_expectations", "dvc", "pandas", "pyarrow", "matplotlib", "sklearn", "ruamel",
    "mlflow", "onnx",
)  # fmt: skip


def test_importing_the_app_imports_nothing_of_training() -> None:
    code = f"import sys, serving.app, serving.__main__; print([name for name in {HEAVY} if name in sys.modules])"
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert result.stdout.strip() == "[]"


def test_healthy_and_ready(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    ready = client.get("/readyz").json()
    assert ready["status"] == "ready"
    assert ready["version"].startswith("bundle-")


def test_the_model_card_shows_what_the_bundle_says(client: TestClient, tiny: TinyBundle) -> None:
    card = client.get("/model").json()
    assert card["labels"] == list(LABELS)
    assert card["input"] == {"image_size": 8, "channels": 1}
    assert card["metrics"] == {"test_accuracy": 0.5}
    assert card["parameters"] == tiny.weights.size
    assert card["lineage"]["commit"] == card["commit"] == "c0ffee"
    assert card["version"] == client.get("/readyz").json()["version"]
    assert client.get("/labels").json() == {"labels": list(LABELS)}


def test_unknown_paths_are_problems(client: TestClient) -> None:
    answer = client.get("/nothing/here")
    assert answer.headers["content-type"] == "application/problem+json"
    problem = {"type": "about:blank", "title": "Not Found", "status": 404, "detail": "GET /nothing/here: Not Found"}
    assert answer.json() == problem


def test_wrong_methods_are_problems_that_name_the_right_one(client: TestClient) -> None:
    answer = client.get("/detect")
    assert (answer.status_code, answer.json()["status"]) == (405, 405)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["allow"] == "POST"


def test_arguments_that_do_not_validate_are_problems(client: TestClient) -> None:
    client.app.get("/half/{number}")(_half)
    answer = client.get("/half/x")
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:problem:invalid-request")
    assert "path.number" in answer.json()["detail"]


async def _half(number: int) -> float:
    return number / 2


def test_failures_inside_are_problems_that_tell_nothing(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(client.app.state.context.slot.current().engine, "predict", fail)
    answer = client.post("/detect", files={"file": encode()})
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:problem:internal-error")
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text


def test_several_apps_live_side_by_side(start: Callable[..., TestClient], tmp_path: Path) -> None:
    one, two = (start(bundle=write_bundle(tmp_path / str(seed), seed).directory) for seed in (1, 2))
    one.post("/detect", files={"file": encode()})
    assert one.get("/readyz").json() != two.get("/readyz").json()
    assert 'route="/detect",status="200"} 1.0' in one.get("/metrics").text
    assert 'route="/detect",status="200"} 1.0' not in two.get("/metrics").text


def test_openapi_is_valid_and_documents_both_bodies_and_every_problem(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    validate(schema)
    detect = schema["paths"]["/detect"]["post"]
    assert {"multipart/form-data", "image/*", "application/octet-stream"} == set(detect["requestBody"]["content"])
    assert {"200", "400", "413", "415", "422", "503"} == set(detect["responses"])
    assert "application/problem+json" in detect["responses"]["415"]["content"]
    assert "X-Prediction-Id" in detect["responses"]["200"]["headers"]
    assert schema["components"]["schemas"]["Detection"]["examples"][0]["label"] == "happy"


def test_the_documented_headers_are_those_sent(client: TestClient) -> None:
    detect = client.get("/openapi.json").json()["paths"]["/detect"]["post"]
    documented = {name.lower() for name in detect["responses"]["200"]["headers"]}
    sent = set(client.post("/detect", files={"file": encode()}).headers)
    assert documented - sent == {"x-model-run-id"}  # a bundle from a directory has no run
