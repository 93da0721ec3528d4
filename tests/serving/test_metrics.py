"""/metrics: what moves, and what stands at zero from the start."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import prometheus_client
import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.utils import floatToGoString

from emotion_detection.face_quality import measure
from emotion_detection.reference import EDGES, Feature, Reference, entropy_bits
from emotion_detection.reference import histogram as binned
from serving.access import Visit
from serving.histograms import Histogram
from serving.http_metrics import EXAMPLE_SECONDS, Examples, HttpMetrics, example_of
from serving.loading_metrics import FAILURES, POLLS
from serving.problems import REASONS
from tests.monitoring.prometheus import promtool
from tests.serving.tiny import LABELS, SIZE, encode, some_reference, wait_until, write_bundle


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
    stages = {"queue": 3, "decode": 2}
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
    assert value(client, "emotion_reference_share", emotion="happy", model_version="2") == pytest.approx(1 / 3)


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


def test_openmetrics_has_an_example_of_a_latency_with_the_ids_of_request_and_prediction(client: TestClient) -> None:
    answer = client.post("/detect", files={"file": encode()}, headers={"X-Request-Id": "r-17"})
    client.get("/labels", headers={"X-Request-Id": "a" * 64})
    page = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert page.headers["content-type"].startswith("application/openmetrics-text")
    [latency] = [f for f in parse_openmetrics(page.text) if f.name == "emotion_http_request_duration_seconds"]
    examples = {sample.labels["route"]: sample.exemplar.labels for sample in latency.samples if sample.exemplar}
    assert examples["/detect"] == {"request_id": "r-17", "prediction_id": answer.json()["prediction_id"]}
    assert examples["/labels"] == {"request_id": "a" * 64}


def test_a_bucket_keeps_its_example_for_a_second() -> None:
    latency = HttpMetrics(CollectorRegistry(), {}, ()).latency
    series = Examples(latency.labels("/detect", "200"))
    for identity, wait, expected in (("1", 0, "1"), ("2", 0, "1"), ("3", EXAMPLE_SECONDS, "3")):
        time.sleep(wait)
        series.observe(time.perf_counter(), {"visit": Visit(identity)}, ())
        [example] = [sample.exemplar for sample in latency.collect()[0].samples if sample.exemplar]
        assert example.labels == {"request_id": expected}
    long = {"visit": Visit("x" * 64)}
    assert example_of(long, [(b"x-prediction-id", b"y" * 60)]) == {"request_id": "x" * 64}  # 128 characters at most


@given(st.lists(st.floats(-10, 10) | st.sampled_from((0.1, 0.2, 0.3))))
def test_the_bisecting_histogram_counts_as_the_library_does(values: list[float]) -> None:
    pages = []
    for kind in (Histogram, prometheus_client.Histogram):
        registry = CollectorRegistry()
        histogram = kind("h", "h", buckets=(0.1, 0.2, 0.3), registry=registry)
        for number in values:
            histogram.observe(number)
        pages.append(prometheus_client.generate_latest(registry))
    assert pages[0] == pages[1]


def test_faces_and_answers_are_counted_in_the_bins_of_the_reference(
    start: Callable[..., TestClient], tmp_path: Path
) -> None:
    reference = some_reference()
    client = start(bundle=write_bundle(tmp_path / "with", reference=reference).directory)
    faces = [client.post("/detect", files={"file": encode(seed)}).json()["faces"][0] for seed in range(5)]
    version = client.get("/readyz").json()["version"]
    for feature in ("brightness", "contrast", "sharpness"):
        assert_bins(client, f"emotion_face_{feature}", feature, [face["quality"][feature] for face in faces])
    rows = np.array([list(face["probabilities"].values()) for face in faces])
    assert_bins(client, "emotion_prediction_confidence", "confidence", rows.max(axis=1), model_version=version)
    assert_bins(client, "emotion_prediction_entropy", "entropy", entropy_bits(rows), model_version=version)
    assert value(client, "emotion_faces_per_image_sum") == value(client, "emotion_face_size_pixels_count") == 5
    for feature in EDGES:
        np.testing.assert_allclose(shown_shares(client, feature), reference.histogram(feature).shares())
    assert value(client, "emotion_reference_share", emotion="happy", model_version=version) == 30.5 / 101.5
    assert value(client, "emotion_reference_accuracy", model_version=version) == 0.8
    assert value(client, "emotion_reference_confidence", model_version=version) == 0.78


def assert_bins(client: TestClient, name: str, feature: Feature, values: object, **labels: str) -> None:
    counts = np.cumsum(binned(feature, values).counts)
    for edge, count in zip((*EDGES[feature], math.inf), counts, strict=True):
        assert value(client, f"{name}_bucket", le=floatToGoString(edge), **labels) == count
    assert value(client, f"{name}_sum", **labels) == pytest.approx(np.sum(values), rel=1e-4)


def shown_shares(client: TestClient, feature: Feature) -> list[float]:
    found = samples(client).items()
    return [
        share
        for (name, labels), share in found
        if name == "emotion_reference_bin_share" and ("feature", feature) in labels
    ]


def test_a_bundle_without_a_reference_or_with_other_bins_is_served_without_their_series(
    start: Callable[..., TestClient], tmp_path: Path
) -> None:
    without = start(bundle=write_bundle(tmp_path / "without").directory)
    assert not any(shown_shares(without, feature) for feature in EDGES)
    changed = some_reference().model_dump() | {"contrast": {"edges": (1, 2), "counts": (1, 2, 3)}}
    other = start(bundle=write_bundle(tmp_path / "other", reference=Reference.model_validate(changed)).directory)
    assert [feature for feature in EDGES if not shown_shares(other, feature)] == ["contrast"]


def test_faces_that_come_as_tensors_are_measured_too(client: TestClient) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 1), np.uint8)
    tensor = {"name": "image", "datatype": "UINT8", "shape": list(pixels.shape), "data": pixels.ravel().tolist()}
    assert client.post("/v2/models/tiny/infer", json={"inputs": [tensor]}).status_code == 200
    brightness = [measure(face, SIZE).brightness for face in pixels]
    assert value(client, "emotion_face_brightness_sum") == pytest.approx(sum(brightness))
    assert value(client, "emotion_face_size_pixels_count") == 0


def test_what_computes_and_how_much_of_it_there_is(client: TestClient) -> None:
    context = client.app.state.context
    assert value(client, "emotion_queue_capacity") == context.settings.queue_size
    assert value(client, "emotion_worker_threads") == context.settings.worker_threads
    assert value(client, "emotion_onnxruntime_info", version=onnxruntime.__version__, device="CPU") == 1
    assert value(client, "emotion_model_bytes") == context.slot.current().engine.graph.stat().st_size
    assert value(client, "process_resident_memory_bytes") > 1e7
    assert value(client, "emotion_registry_last_poll_timestamp_seconds") == 0  # a directory is not polled
    assert value(client, "emotion_model_created_timestamp_seconds") == 0


def test_promtool_has_nothing_to_say_about_names_types_and_help(client: TestClient) -> None:
    client.post("/detect", files={"file": encode()})
    result = promtool("check", "metrics", text=client.get("/metrics").text)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
