"""POST /webhooks/mlflow: signed by MLflow, or refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import time
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from serving.settings import SettingsError, load_settings
from serving.webhooks import MAX_BYTES
from tests.serving.registered import MODEL, answers, polls, promote, serving
from tests.serving.test_metrics import value
from tests.serving.tiny import TinyBundle, wait_until

SECRET = "not a secret"


def signed(body: bytes, secret: str = SECRET, at: float | None = None, delivery: str = "d1") -> dict[str, str]:
    """Headers as MLflow sends them."""
    timestamp = str(int(time.time() if at is None else at))
    signature = hmac.digest(secret.encode(), f"{delivery}.{timestamp}.".encode() + body, hashlib.sha256)
    return {
        "X-MLflow-Signature": f"v1,{base64.b64encode(signature).decode()}",
        "X-MLflow-Timestamp": timestamp,
        "X-MLflow-Delivery-Id": delivery,
        "Content-Type": "application/json",
    }


def test_a_signed_webhook_has_the_registry_asked_at_once(sqlite_uri: str, bundles: list[TinyBundle]) -> None:
    body = json.dumps({"entity": "model_version_alias", "action": "created"}).encode()
    with serving(poll_seconds=600, webhook_secret=SECRET) as client:
        assert answers(client, bundles[0], "1")
        promote(sqlite_uri, MODEL, "2")
        answer = client.post("/webhooks/mlflow", content=body, headers=signed(body))
        assert (answer.status_code, answer.json()) == (202, {"status": "accepted"})
        wait_until(lambda: answers(client, bundles[1], "2"))


def test_webhooks_that_mlflow_did_not_sign_lately_are_refused(bundles: list[TinyBundle]) -> None:
    right = signed(b"body")
    forged = [
        {},
        signed(b"body", secret="another"),
        signed(b"other body"),
        signed(b"body", at=time.time() - 3600),
        signed(b"body", at=time.time() + 3600),
        right | {"X-MLflow-Timestamp": str(int(time.time()) + 1)},
        right | {"X-MLflow-Delivery-Id": "d2"},
        right | {"X-MLflow-Signature": right["X-MLflow-Signature"].removeprefix("v1,")},
        right | {"X-MLflow-Signature": "v1,\xe9".encode("latin-1")},
        {name: text for name, text in right.items() if name != "X-MLflow-Signature"},
        unsigned_time(),
    ]
    assert bundles
    with serving(poll_seconds=600, webhook_secret=SECRET) as client:
        wait_until(lambda: polls(client, "swapped") == 1)
        for headers in forged:
            answer = client.post("/webhooks/mlflow", content=b"body", headers=headers)
            assert (answer.status_code, answer.json()["type"]) == (401, "urn:problem:bad-signature"), headers
            assert SECRET not in answer.text
        time.sleep(0.1)
        assert polls(client, "unchanged") == 0
        assert value(client, "emotion_http_request_duration_seconds_count", route="/webhooks/mlflow", status="202") == 0
        client.post("/webhooks/mlflow", content=b"body", headers=right)
        wait_until(lambda: polls(client, "unchanged") == 1)


def unsigned_time() -> dict[str, str]:
    """Rightly signed, but without a time."""
    signature = hmac.digest(SECRET.encode(), b"d1..body", hashlib.sha256)
    encoded = f"v1,{base64.b64encode(signature).decode()}"
    return {"X-MLflow-Signature": encoded, "X-MLflow-Timestamp": "", "X-MLflow-Delivery-Id": "d1"}


def test_a_webhook_that_is_too_large_is_refused(bundles: list[TinyBundle]) -> None:
    assert bundles
    with serving(webhook_secret=SECRET) as client:
        body = b"x" * (MAX_BYTES + 1)
        assert client.post("/webhooks/mlflow", content=body, headers=signed(body)).status_code == 422


def test_its_bytes_are_among_those_that_are_held_and_are_given_back(bundles: list[TinyBundle]) -> None:
    assert bundles
    body = b"x" * 1500
    with serving(webhook_secret=SECRET, max_buffer_bytes=2000) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        uploads = client.app.state.context.uploads
        for _ in range(3):
            assert client.post("/webhooks/mlflow", content=body, headers=signed(body)).status_code == 202
        uploads.release(-1000)  # somebody else's
        refused = client.post("/webhooks/mlflow", content=body, headers=signed(body))
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:problem:overloaded")
        uploads.release(1000)
        assert client.post("/webhooks/mlflow", content=body, headers=signed(body)).status_code == 202


def test_without_a_secret_there_are_no_webhooks(client: TestClient, start: Callable[..., TestClient]) -> None:
    assert client.post("/webhooks/mlflow", content=b"", headers=signed(b"", secret="")).status_code == 404
    of_directory = start(bundle=client.app.state.context.settings.bundle, webhook_secret=SECRET)
    assert of_directory.post("/webhooks/mlflow", content=b"", headers=signed(b"")).status_code == 404


def test_the_secret_comes_from_the_environment_alone_and_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMOTION_WEBHOOK_SECRET", SECRET)
    assert SECRET not in repr(load_settings())
    for option in ("--webhook-secret", "--webhook-secret=x"):
        with pytest.raises(SettingsError, match="set EMOTION_WEBHOOK_SECRET"):
            load_settings([option, "x"])
    assert os.environ["EMOTION_WEBHOOK_SECRET"] == SECRET
