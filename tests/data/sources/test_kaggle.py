"""Kaggle through the real kagglehub: its cache, and a server of our own in Kaggle's place."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from emotion_detection.data.fingerprint import fingerprint, update_fingerprint
from emotion_detection.data.sources import open_source
from emotion_detection.errors import SourceError
from emotion_detection.params import DataParams
from tests.trees import two_classes, write_tree, write_zip

pytestmark = pytest.mark.filterwarnings("ignore:::kagglesdk", "ignore:::kagglehub")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache, no credentials, and a port where nobody listens in Kaggle's place."""
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache/datasets/someone/faces"


class Kaggle(BaseHTTPRequestHandler):
    """Says that a data set is at version 3, or answers with `status`."""

    status = 200

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.dumps({"currentVersionNumber": 3}).encode()
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def kaggle(monkeypatch) -> Iterator[type[Kaggle]]:
    handler = type("Handler", (Kaggle,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_port}")
    yield handler
    server.shutdown()
    server.server_close()


def fetched(cache: Path, version: int) -> Path:
    """Where kagglehub keeps a version, marked as complete."""
    (cache / "versions").mkdir(parents=True, exist_ok=True)
    marker = cache / f"{version}.complete"
    marker.touch()
    return cache / f"versions/{version}"


def refused(source: str) -> str:
    with pytest.raises(SourceError) as caught:
        open_source(DataParams(source=source), seed=0)
    assert source in str(caught.value)
    assert "set data.source to its path" in str(caught.value)
    return str(caught.value)


def test_a_version_that_was_fetched_needs_no_network(cache):
    write_tree(fetched(cache, 3), two_classes())
    source = open_source(DataParams(source="kaggle:someone/faces/versions/3"), seed=0)
    assert source.kind == "kaggle"
    assert {sample.path: sample.data for sample in source} == two_classes()


@pytest.mark.usefixtures("kaggle")
def test_the_latest_version_is_asked_for(cache):
    fetched(cache, 3).mkdir()
    write_zip(cache / "versions/3/faces.zip", two_classes())
    assert len(open_source(DataParams(source="kaggle:someone/faces"), seed=0)) == len(two_classes())


def test_without_network_the_message_says_so():
    assert "cannot be reached" in refused("kaggle:someone/faces")


@pytest.mark.parametrize("status", [401, 403])
def test_without_rights_the_message_asks_for_credentials(kaggle, status):
    kaggle.status = status
    assert "KAGGLE_USERNAME and KAGGLE_KEY" in refused("kaggle:someone/faces")


def test_an_unknown_data_set_is_named(kaggle):
    kaggle.status = 404
    assert "no such data set" in refused("kaggle:someone/faces")


@pytest.mark.parametrize("name", ["", "faces", "a/b/c"])
def test_what_is_no_name_is_refused(name):
    assert "owner/name" in refused(f"kaggle:{name}")


@pytest.mark.usefixtures("kaggle")
def test_the_fingerprint_is_the_version():
    found = fingerprint(DataParams(source="kaggle:someone/faces"), seed=0)
    assert (found.kind, found.digest) == ("kaggle", "version 3")
    pinned = fingerprint(DataParams(source="kaggle:someone/faces/versions/3"), seed=0)
    assert pinned.digest == found.digest


@pytest.mark.usefixtures("kaggle")
def test_a_known_fingerprint_stays_when_kaggle_cannot_be_reached(tmp_path, monkeypatch, capsys):
    data, path = DataParams(source="kaggle:someone/faces"), tmp_path / "source.json"
    known = update_fingerprint(path, data, seed=0)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert update_fingerprint(path, data, seed=0) == known
    assert "cannot be reached" in capsys.readouterr().err
