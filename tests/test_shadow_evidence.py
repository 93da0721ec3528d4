"""Promotion that asks what a challenger has shown: a real registry, a real server, and the models themselves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest

from emotion_detection.bundle import read_bundle
from emotion_detection.errors import DetectionError
from emotion_detection.preprocess import encode_png
from emotion_detection.registry import Registry
from emotion_detection.scoring import predictor
from emotion_detection.shadow_evidence import DISAGREEMENT, SCORED, Demand
from tests.clone import free_port
from tests.serving.processes import Server, running
from tests.serving.test_processes import total
from tests.serving.tiny import wait_until
from tests.test_cli import as_json, emotion, fail, succeed
from tests.workspace import faces

pytestmark = pytest.mark.slow


def test_a_challenger_is_promoted_with_what_it_has_shown(project: Path, sqlite_uri: str) -> None:
    succeed("promote", "fair")
    assert "challenger: version 2 (good)" in succeed("challenge", "good")
    settings = ("--model", "detector", "--shadow-share", "1", "--poll-seconds", "0.2", "--retry-seconds", "0.2")
    images, _ = faces("test")
    with running(project, *settings, MLFLOW_TRACKING_URI=sqlite_uri) as server:
        wait_until(lambda: server.is_ready() and total(server, "emotion_challenger_ready") == 1)
        asked = ("promote", "2", "--shadow-url", server.url, "--min-scored")
        message = fail(*asked, "1")
        assert f"shadow: faces judged 0, required ≥ 1 (beside version 1 in {server.url}: wait for more" in message
        post(server, images)
        apart = disagreement(images)
        assert 0 < apart < 0.9
        message = fail(*asked, "60", "--max-disagreement", str(apart - 0.01))
        assert f"shadow: disagreement {apart:.4g}, required ≤" in message
        assert " → " in message
        assert "faces judged" not in message
        succeed("gate", "2")  # by itself it passes: what follows is the shadow's word alone
        found = json.loads(emotion("gate", "2", "--shadow-url", server.url, "--json").stdout)["checks"][-2:]
        assert [(check["name"], check["value"], check["passed"]) for check in found] == [
            (SCORED, 60, False),
            (DISAGREEMENT, pytest.approx(apart), True),
        ]
        assert_other_registries_are_noticed(server, sqlite_uri)
        assert "version 2 (good) is champion now" in succeed(*asked, "60", "--max-disagreement", str(apart))
        assert Registry("detector", sqlite_uri).resolve("champion").aliases == ("champion",)
        wait_until(lambda: server.get("/readyz").json()["version"] == "2")
        assert f"{server.url} tries no version: `emotion challenge 1`" in fail("promote", "1", *asked[2:], "60")


def post(server: Server, images: np.ndarray) -> None:
    """One face after the other, until the challenger has judged them all."""
    with httpx.Client(timeout=20) as client:
        for image in images:
            answer = client.post(f"{server.url}/detect?faces=none", files={"file": encode_png(image)})
            assert answer.json()["model"]["version"] == "1"
    wait_until(lambda: total(server, "emotion_shadow_faces_total", result="scored") == len(images))


def disagreement(images: np.ndarray) -> float:
    """Share of the faces that the two models, run here, judge otherwise."""
    one, other = (predictor(read_bundle(Path("bundles", name)))(images).argmax(axis=1) for name in ("fair", "good"))
    return float((one != other).mean())


def assert_other_registries_are_noticed(server: Server, uri: str) -> None:
    champion, challenger = (Registry("detector", uri).resolve(version) for version in ("1", "2"))
    stranger = replace(challenger, tags={**challenger.tags, "bundle_sha256": "0" * 64})
    with pytest.raises(DetectionError, match="follows another registry"):
        Demand((server.url,), 1, None).checks(champion, stranger)


def test_a_challenger_is_chosen_and_withdrawn(project: Path) -> None:
    assert project == Path.cwd()
    succeed("promote", "good")
    assert "is champion already" in fail("challenge", "good")
    assert as_json("challenge", "fair") == {"challenger": "2"}
    assert Registry("detector").resolve("challenger").model == "fair"
    assert "version 2 (fair) challenges no more" in succeed("challenge", "--stop")
    assert "there was no challenger" in succeed("challenge", "--stop")
    assert "no alias 'challenger'; `emotion challenge` sets it" in fail("gate", "challenger")
    assert "name it with --shadow-url" in fail("promote", "2", "--min-scored", "10")
    nobody = f"http://127.0.0.1:{free_port()}"
    assert f"{nobody}/metrics: no answer" in fail("promote", "2", "--shadow-url", nobody)
