"""`emotion replay`: what it sends, that a real server counts all of it, and what it says where there is no answer."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from emotion_detection.api_keys import create_key
from emotion_detection.face_quality import measure
from emotion_detection.preprocess import decode
from emotion_detection.replay import SCENARIOS, Phase, Pool, drawn_faces, phases, read_pool
from tests.serving.processes import Server, running
from tests.serving.tiny import LABELS, encode, wait_until, write_bundle
from tests.test_cli import as_json, emotion, fail, succeed
from tests.trees import write_tree

SHARES = {"happy": 0.5, "Angry": 0.3, "sad": 0.2, "contempt": 0.0}


@pytest.fixture(scope="module")
def pool() -> Pool:
    return read_pool(face for number, face in enumerate(drawn_faces(seed=0)) if number < 120)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    """A server that wants a key, and the key."""
    directory = tmp_path_factory.mktemp("server")
    bundle = write_bundle(directory / "bundle").directory
    key, kept = create_key("replay")
    with running(
        directory, "--bundle", str(bundle), "--open-paths", "/readyz,/metrics", EMOTION_API_KEYS=str(kept)
    ) as process:
        wait_until(process.is_ready)
        yield process, key


def plan(pool: Pool, scenario: str, seed: int = 0) -> tuple[Phase, Phase]:
    first, second = phases(scenario, pool, SHARES, baseline=400, shifted=400, seed=seed)
    return first, second


def test_the_same_seed_sends_the_same_faces(pool: Pool) -> None:
    for scenario in SCENARIOS:
        first, again, other = ([list(phase.faces()) for phase in plan(pool, scenario, seed)] for seed in (0, 0, 1))
        assert first == again
        assert first[0] != other[0]
        assert first[1] != other[1]


def test_faces_have_the_shift_and_the_baseline_has_none(pool: Pool) -> None:
    seen = {}
    for scenario in SCENARIOS:
        for phase in plan(pool, scenario):
            faces = list(phase.faces())
            shares = Counter(emotion for emotion, _ in faces)
            quality = [measure(decode(data, 1), 64) for _, data in faces[:60]]
            seen[phase.name] = (
                {emotion: count / len(faces) for emotion, count in shares.items()},
                *(np.mean([getattr(one, name) for one in quality]) for name in ("brightness", "contrast", "sharpness")),
            )
    shares, brightness, contrast, sharpness = seen["baseline"]
    assert shares == pytest.approx({"happy": 0.5, "angry": 0.3, "sad": 0.2}, abs=0.08)
    assert seen["happy-hour"][0] == pytest.approx({"happy": 0.8, "angry": 0.12, "sad": 0.08}, abs=0.06)
    assert seen["happy-hour"][1] == pytest.approx(brightness, rel=0.2)
    assert seen["dark-room"][1] == pytest.approx(0.2 * brightness, rel=0.1)
    assert seen["blur"][3] < 0.2 * sharpness
    assert seen["blur"][1] == pytest.approx(brightness, rel=0.05)
    assert seen["new-camera"][2] < 0.6 * contrast
    assert seen["blur"][0] == pytest.approx(shares, abs=0.08)


def test_a_server_answers_all_of_it(server: tuple[Server, str], monkeypatch: pytest.MonkeyPatch) -> None:
    process, key = server
    monkeypatch.setenv("EMOTION_SERVER_KEY", key)
    options = ("--scenario", "dark-room", "--server", process.url, "--rate", "200", "--minutes", "0.01", "--baseline")
    before = counted(process, "emotion_predictions_total")
    baseline, shifted = as_json("replay", *options, "0.005")
    assert (baseline["sent"], shifted["sent"], shifted["phase"]) == (60, 120, "dark-room")
    for phase in (baseline, shifted):
        assert (phase["answered"], phase["failed"], sum(phase["versions"].values())) == (
            phase["sent"],
            {},
            phase["sent"],
        )
        assert 0 < phase["per_second"] <= 200
    assert counted(process, "emotion_predictions_total").total() - before.total() == 180
    [judged] = as_json("replay", *options, "0", "--feedback", "0.25")
    told = counted(process, "emotion_feedback_total")
    assert (judged["judged"], told.total()) == (30, 30)
    right = sum(count for labels, count in told.items() if dict(labels)["predicted"] == dict(labels)["actual"])
    assert 0 < right < 30
    table = succeed("replay", *options, "0")
    assert "baseline" not in table
    assert all(label in table for label in LABELS)


def test_what_does_not_fit_is_told(server: tuple[Server, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    process, key = server
    scenario = ("replay", "--scenario", "happy-hour", "--rate", "50", "--minutes", "0.01", "--server")
    assert "401" in fail(*scenario, process.url)
    assert "no answer" in fail(*scenario, "http://127.0.0.1:1")
    monkeypatch.setenv("EMOTION_SERVER_KEY", key)
    odd = write_tree(tmp_path / "odd", {f"surprise/{number}.png": encode(number) for number in range(3)})
    assert "surprise" in fail(*scenario, process.url, "--faces", str(odd))
    sad = write_tree(tmp_path / "sad", {f"sad/{number}.png": encode(number) for number in range(3)})
    assert "happy" in fail(*scenario, process.url, "--faces", str(sad))
    broken = write_tree(tmp_path / "broken", {f"{label}/0.png": encode(1)[:60] for label in LABELS})
    result = emotion(*scenario, process.url, "--faces", str(broken), "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)[0]["failed"]


def counted(process: Server, name: str) -> Counter[frozenset[tuple[str, str]]]:
    families = text_string_to_metric_families(httpx.get(f"{process.url}/metrics").text)
    samples = (sample for family in families for sample in family.samples if sample.name == name)
    return Counter({frozenset(sample.labels.items()): int(sample.value) for sample in samples})
