"""What the pipeline tells a real Pushgateway, and that nothing which goes wrong there ends it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from emotion_detection.errors import EmotionError
from emotion_detection.params import SPLITS
from emotion_detection.pushing import PASSWORD, URL, USERNAME, measured
from tests.clone import ROOT, free_port
from tests.monitoring.programs import pushgateway
from tests.monitoring.pushed import DROPPED, write_validation
from tests.project import ACCURACY
from tests.test_cli import succeed
from tests.workspace import COUNTS, LABELS

HASHED = "$2b$04$1Eb51yqGrHdwmKJmCNb./exAcZzU5.cgC8jiISzB5B0dcugMNAuma"
"""Of `secret`, by bcrypt."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pushgateway(tmp_path_factory.mktemp("pushgateway")) as url:
        yield url


@pytest.fixture
def told(gateway: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a Pushgateway that knows nothing yet, and that the pipeline is to tell."""
    httpx.put(f"{gateway}/api/v1/admin/wipe").raise_for_status()
    monkeypatch.setenv(URL, gateway)
    return gateway


def known(url: str, stage: str, model: str = "") -> dict[tuple[str, tuple[str, ...]], float]:
    """What a Pushgateway has of a stage, by name and sorted values of the other labels."""
    samples = [s for family in text_string_to_metric_families(httpx.get(f"{url}/metrics").text) for s in family.samples]
    group = {"job": "emotion-pipeline", "instance": "", "stage": stage, "model": model}
    return {
        (sample.name, tuple(value for name, value in sorted(sample.labels.items()) if name not in group)): sample.value
        for sample in samples
        if sample.name.startswith("emotion_") and group.items() <= sample.labels.items()
    }


@pytest.mark.usefixtures("project")
def test_a_stage_tells_how_long_it_took_and_what_it_made(told: str) -> None:
    write_validation()
    for stage in ("validate", "shards", "ingest"):
        with measured(stage):
            pass
    for stage in ("train", "evaluate"):
        with measured(stage, "good"):
            pass
    for stage, model in (("ingest", ""), ("train", "good")):
        assert 0 <= known(told, stage, model)["emotion_pipeline_duration_seconds", ()] < 5
    images = {labels: count for (name, labels), count in known(told, "shards").items() if name.endswith("_images")}
    assert images == {(label, split): COUNTS[split] / len(LABELS) for label in LABELS for split in COUNTS}
    dropped = {
        labels: count for (name, labels), count in known(told, "validate").items() if name.endswith("_images_dropped")
    }
    assert {labels: count for labels, count in dropped.items() if count} == {("duplicate", "train"): DROPPED}
    assert len(dropped) == len(SPLITS) * len(["class", "duplicate", "unreadable"])
    trained = known(told, "train", "good")
    assert trained["emotion_pipeline_training_seconds", ()] == 5
    assert trained["emotion_pipeline_training_epochs", ()] == 2
    judged = known(told, "evaluate", "good")
    value = ACCURACY["good"]
    for name, expected in (("accuracy", value), ("accuracy_low", value - 0.1), ("accuracy_high", value + 0.1)):
        assert judged[f"emotion_pipeline_{name}", ("test",)] == pytest.approx(expected)


@pytest.mark.usefixtures("project")
def test_a_stage_that_fails_says_so_and_keeps_what_was_known(told: str) -> None:
    with measured("evaluate", "good"):
        pass
    before = known(told, "evaluate", "good")
    with pytest.raises(EmotionError, match="broken"), measured("evaluate", "good"):
        raise EmotionError("broken")
    after = known(told, "evaluate", "good")
    failed = ("emotion_pipeline_failure_timestamp_seconds", ())
    assert after[failed] >= before["emotion_pipeline_success_timestamp_seconds", ()]
    assert {name: value for name, value in after.items() if name != failed} == before
    with pytest.raises(KeyboardInterrupt), measured("train", "good"):
        raise KeyboardInterrupt
    assert known(told, "train", "good") == {}


@pytest.mark.usefixtures("project")
def test_the_gate_tells_its_verdict_check_by_check(told: str) -> None:
    succeed("promote", "fair")
    succeed("promote", "good")
    fair, good = known(told, "gate", "fair"), known(told, "gate", "good")
    assert fair["emotion_gate_outcome", ("promoted", "1")] == 1
    assert good["emotion_gate_outcome", ("promoted", "2")] == 1
    assert sum(value for (name, _), value in good.items() if name == "emotion_gate_outcome") == 1
    checks = {labels[0] for (name, labels) in good if name == "emotion_gate_check_passed"}
    assert {"accuracy", "recall per class", "ms per face"} < checks
    assert {value for (name, _), value in good.items() if name == "emotion_gate_check_passed"} == {1}
    assert good["emotion_gate_check_required", ("at least", "accuracy", "2")] == 0.5
    assert good["emotion_gate_check_value", ("accuracy", "2")] > 0.5


def test_every_stage_is_measured_under_its_own_name() -> None:
    for file in (ROOT / "pipeline").glob("[a-z]*.py"):
        assert re.findall(r'measured\("(\w+)"', file.read_text()) == [file.stem]


def test_a_real_stage_tells_it_and_without_a_url_nothing_is_told(told: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("models: {lenet: {architecture: lenet}}\n")
    stage = [sys.executable, "-m", "pipeline.fingerprint"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}

    def run(**variables: str) -> str:
        result = subprocess.run(
            stage, cwd=tmp_path, env=environment | variables, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr
        return result.stderr

    assert run() == ""
    assert known(told, "fingerprint") == {}
    assert run(PUSHGATEWAY_URL=told) == ""
    assert known(told, "fingerprint")["emotion_pipeline_duration_seconds", ()] > 0
    assert "PUSHGATEWAY_URL" in run(PUSHGATEWAY_URL=f"http://127.0.0.1:{free_port()}")


def test_what_goes_wrong_is_a_warning(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def warning(url: str, stage: str = "ingest", **secrets: str) -> str:
        monkeypatch.setenv(URL, url)
        for name, value in secrets.items():
            monkeypatch.setenv(name, value)
        with measured(stage, "good"):
            pass
        return capsys.readouterr().err

    (tmp_path / "web.yml").write_text(f"basic_auth_users: {{pipeline: '{HASHED}'}}\n")
    with pushgateway(tmp_path / "locked", "--web.config.file", str(tmp_path / "web.yml")) as url:
        assert "401" in warning(url)
        assert "401" in warning(url, **{USERNAME: "pipeline", PASSWORD: "wrong"})
        assert warning(url, **{USERNAME: "pipeline", PASSWORD: "secret"}) == ""
        refused = warning(url.replace("//", "//pipeline:secret@"))
        assert PASSWORD in refused
        assert "secret@" not in refused
        (project / "models/good/history.json").write_text("{")
        assert "history.json" in warning(url, "train")
    assert f"correct {URL}" in warning(url)
    assert f"correct {URL}" in warning("http:// nowhere")
