"""/metrics: what moves, and what stands at zero from the start."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from serving.loading_metrics import FAILURES, POLLS
from serving.problems import REASONS
from tests.serving.tiny import LABELS, encode, wait_until


def samples(client: TestClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by name and labels."""
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse_text(answer.text)
        for sample in family.samples
    }


def value(client: TestClient, name: str, **labels: str) -> float:
    return samples(client)[name, frozenset(labels.items())]


def test_series_stand_at_zero_before_the_first_request(client: TestClient) -> None:
    version = client.get("/readyz").json()["version"]
    for emotion in LABELS:
        assert value(client, "emotion_predictions_total", emotion=emotion, model_version=version) == 0
    for reason in REASONS:
        assert value(client, "emotion_rejected_total", reason=reason) == 0
    assert value(client, "emotion_http_request_duration_seconds_count", route="/detect", status="200") == 0
    assert value(client, "emotion_prediction_confidence_count", model_version=version) == 0
    for reason in FAILURES:
        assert value(client, "emotion_model_load_failures_total", reason=reason) == 0
    for result in POLLS:
        assert value(client, "emotion_registry_polls_total", result=result) == 0
    assert value(client, "emotion_model_swaps_total") == 0
    assert value(client, "emotion_registry_up") == 1
    assert time.time() - 60 < value(client, "emotion_model_since_timestamp_seconds") <= time.time()
    for stage in ("queue", "decode", "inference"):
        assert value(client, "emotion_stage_duration_seconds_count", stage=stage) == 0
    assert value(client, "emotion_queue_length") == value(client, "emotion_batch_size_count") == 0


def test_every_status_that_is_documented_has_its_series_from_the_start(client: TestClient) -> None:
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for status in {"500", *(status for method in methods.values() for status in method["responses"])}:
            assert value(client, "emotion_http_request_duration_seconds_count", route=path, status=status) >= 0


def test_a_prediction_moves_its_own_series(client: TestClient) -> None:
    answer = client.post("/detect", files={"file": encode()}).json()
    version = answer["model"]["version"]
    for emotion in LABELS:
        count = value(client, "emotion_predictions_total", emotion=emotion, model_version=version)
        assert count == (emotion == answer["label"])
    assert value(client, "emotion_prediction_confidence_sum", model_version=version) == pytest.approx(
        answer["confidence"]
    )
    assert value(client, "emotion_http_request_duration_seconds_count", route="/detect", status="200") == 1
    assert value(client, "emotion_http_requests_in_flight") == 1  # this one


def test_a_rejection_is_counted_by_reason_and_status(client: TestClient) -> None:
    client.post("/detect", files={"file": b"no image"})
    client.post("/detect", content=b"x", headers={"Content-Type": "text/plain"})
    assert value(client, "emotion_rejected_total", reason="not-an-image") == 1
    assert value(client, "emotion_rejected_total", reason="unsupported-body") == 1
    assert value(client, "emotion_http_request_duration_seconds_count", route="/detect", status="415") == 2


def test_every_stage_of_a_prediction_is_measured(client: TestClient) -> None:
    client.post("/detect", files=[("file", encode(1)), ("file", b"no image"), ("file", encode(2))])
    stages = {"queue": 3, "decode": 3}
    for stage, count in stages.items():
        assert value(client, "emotion_stage_duration_seconds_count", stage=stage) == count
    assert value(client, "emotion_stage_duration_seconds_count", stage="inference") >= 1
    assert value(client, "emotion_batch_size_sum") == 2
    assert value(client, "emotion_queue_length") == 0


def test_unknown_paths_share_one_series(client: TestClient) -> None:
    for number in range(3):
        client.get(f"/nothing/{number}")
    assert value(client, "emotion_http_request_duration_seconds_count", route="unmatched", status="404") == 3


def test_a_failure_inside_counts_as_500(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.app.state.context.slot.current().engine, "predict", None)
    client.post("/detect", files={"file": encode()})
    assert value(client, "emotion_http_request_duration_seconds_count", route="/detect", status="500") == 1
    assert value(client, "emotion_rejected_total", reason="internal-error") == 1
    assert value(client, "emotion_http_requests_in_flight") == 1


def test_model_info_names_the_model_that_answers_and_no_other(client: TestClient) -> None:
    context = client.app.state.context
    context.metrics.show_model(replace(context.slot.current(), version="2"))
    infos = [dict(labels) for name, labels in samples(client) if name == "emotion_model_info"]
    assert len(infos) == 1
    assert infos[0]["version"] == "2"
    assert (infos[0]["architecture"], infos[0]["commit"], infos[0]["data_hash"]) == ("linear", "c0ffee", "da7a")
    assert value(client, "emotion_reference_share", emotion="happy") == pytest.approx(1 / 3)


def test_failed_loads_are_counted_and_probes_are_no_rejections(
    start: Callable[..., TestClient], tmp_path: Path
) -> None:
    client = start(bundle=tmp_path, ready=False)
    wait_until(lambda: value(client, "emotion_model_load_failures_total", reason="bundle") >= 2)
    assert value(client, "emotion_registry_polls_total", result="refused") == 0  # nobody was asked
    client.get("/readyz")
    assert value(client, "emotion_model_ready") == 0
    assert value(client, "emotion_rejected_total", reason="not-ready") == 0
    client.post("/detect", files={"file": encode()})
    assert value(client, "emotion_rejected_total", reason="not-ready") == 1


def test_openmetrics_is_spoken_where_it_is_asked_for(client: TestClient) -> None:
    answer = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert "emotion_predictions" in {family.name for family in parse_openmetrics(answer.text)}
