"""benchmarks/serving/locustfile.py, for some seconds against a real server with API keys."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from emotion_detection.api_keys import create_key
from tests.serving.processes import ROOT, Server, environment, running
from tests.serving.tiny import encode, wait_until, write_bundle

KEY, LINE = create_key("locust")
KINDS = {"a face", "a photo", "many images", "hangs up", "page: /", "page: a photo", "page: why", "page: a song"}
pytestmark = pytest.mark.slow


def run(server: Server, *options: str, seconds: int = 6, **variables: str) -> tuple[int, dict[str, dict[str, int]]]:
    """Exit status, and the figures of every kind of request."""
    command = [sys.executable, "-m", "locust", "-f", str(ROOT / "benchmarks/serving/locustfile.py"), "--headless"]
    command += ["--host", server.url, "-t", f"{seconds}s", "--think", "0.1", "--json", "--only-summary", *options]
    result = subprocess.run(
        command, env=environment(**variables), cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    return result.returncode, {item["name"]: item for item in json.loads(result.stdout)}


def test_all_kinds_of_visitors_are_answered(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle", spread=3)
    with running(tmp_path, "--bundle", str(bundle.directory), EMOTION_API_KEYS=str(LINE)) as server:
        wait_until(server.is_ready)
        status, seen = run(server, "-u", "12", "-r", "12", EMOTION_SERVER_KEY=KEY)
        assert {name: item["num_failures"] for name, item in seen.items() if item["num_failures"]} == {}
        assert status == 0
        assert seen.keys() >= KINDS

        pictures = tmp_path / "pictures"
        pictures.mkdir()
        (pictures / "notes.txt").write_bytes(b"no image")
        (pictures / "photo.png").write_bytes(encode())
        (pictures / "broken.png").write_bytes(encode()[:50])
        own = ("-u", "2", "--images", str(pictures), "PhotoUser")
        status, seen = run(server, *own, seconds=3, EMOTION_SERVER_KEY=KEY)
        assert (status, list(seen)) == (1, ["a photo"])
        assert 0 < seen["a photo"]["num_failures"] < seen["a photo"]["num_requests"]
