"""The page's files and the model's, as they are handed out; what becomes of them in a browser is in test_browser.py."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from emotion_detection.bundle import INT8_FILE, MODEL_FILE, read_bundle
from serving import page
from tests.serving.processes import ROOT
from tests.serving.test_detect import assert_problem, post_file
from tests.serving.tiny import TinyBundle, encode, write_bundle

WEB = ROOT / "requirements" / "web"


@pytest.fixture
def with_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runtime.mjs").touch()
    monkeypatch.setattr(page, "RUNTIME", tmp_path / "runtime.mjs")


def test_the_page_is_asked_for_again_and_not_sent_again(client: TestClient) -> None:
    first = client.get("/")
    assert first.headers["content-type"] == "text/html; charset=utf-8"
    assert first.headers["cache-control"] == "no-cache"
    again = client.get("/", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.head("/").headers["etag"] == first.headers["etag"]


@pytest.mark.parametrize("name", [file.name for file in sorted(page.STATIC.iterdir()) if file.is_file()])
def test_every_file_of_the_page_has_the_type_that_browsers_insist_on(client: TestClient, name: str) -> None:
    kinds = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}
    answer = client.get(f"/static/{name}")
    assert answer.headers["content-type"].split(";")[0] == kinds[Path(name).suffix]
    assert (answer.headers["cache-control"], answer.status_code) == ("no-cache", 200)


@pytest.mark.parametrize(
    "path", ["/static/no.js", "/static/%2e%2e/page.py", "/static//etc/hosts", "/static/", "/static/a%00b"]
)
def test_nothing_else_is_handed_out(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


def test_nothing_of_the_page_is_written_into_it_or_comes_from_elsewhere() -> None:
    for file in page.STATIC.glob("*.html"):
        text = file.read_text()
        assert "//" not in text.replace("<!--", "")
        assert not any(word in text for word in ("<style", "style=", " onclick", "javascript:"))
        assert len(re.findall("<script", text)) == len(
            re.findall(r'<script (type="module"|defer) src="/?static/', text)
        )


def test_the_page_and_its_files_ask_for_no_key(tiny: TinyBundle, start: Callable[..., TestClient]) -> None:
    from emotion_detection.api_keys import hash_key

    line = f"phone sha256:{hash_key(b'emo_x').hex()}"
    client = start(ready=False, bundle=tiny.directory, api_keys=line)
    statuses = [client.get(path).status_code for path in ("/", "/static/app.js", "/model")]
    assert statuses == [200, 200, 401]


@pytest.mark.usefixtures("with_runtime")
def test_the_model_file_comes_with_its_checksum_and_only_once(client: TestClient, tiny: TinyBundle) -> None:
    answer = client.get("/model/model.onnx")
    assert answer.content == (tiny.directory / MODEL_FILE).read_bytes()
    assert answer.headers["etag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'
    assert answer.headers["x-model-bundle-sha256"] == client.get("/model").json()["bundle_sha256"]
    again = client.get("/model/model.onnx", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", answer.headers["etag"])


@pytest.mark.usefixtures("with_runtime")
@pytest.mark.parametrize(("precision", "name"), [("auto", INT8_FILE), ("fp32", MODEL_FILE)])
def test_browsers_get_the_graph_that_the_server_runs(
    tmp_path: Path, start: Callable[..., TestClient], precision: str, name: str
) -> None:
    tiny = write_bundle(tmp_path, int8=True)
    answer = start(bundle=tiny.directory, precision=precision).get("/model/model.onnx")
    assert answer.content == (tiny.directory / name).read_bytes()
    assert answer.headers["etag"] == f'"{read_bundle(tiny.directory).info.files[name]}"'
    assert answer.headers["x-model-precision"] == ("fp32" if name == MODEL_FILE else "int8")


@pytest.mark.usefixtures("with_runtime")
@pytest.mark.parametrize("becomes", ["nothing", "another"])
def test_no_other_file_goes_out_under_the_models_name(client: TestClient, tiny: TinyBundle, becomes: str) -> None:
    """A training writes into the directory that is served."""
    if becomes == "nothing":
        (tiny.directory / MODEL_FILE).unlink()
    else:
        write_bundle(tiny.directory, seed=9)
    answer = client.get("/model/model.onnx")
    assert_problem(answer, 503, "not-ready", "no longer on the server's disk, or another one")
    assert post_file(client, encode()).status_code == 200


def test_without_the_runtime_nobody_is_offered_the_model(
    tiny: TinyBundle, start: Callable[..., TestClient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "RUNTIME", tmp_path / "none.mjs")
    client = start(bundle=tiny.directory)
    assert "/model/model.onnx" not in client.get("/openapi.json").json()["paths"]
    assert client.get("/model/model.onnx").status_code == 404


def test_the_lock_of_the_runtime_names_no_host_and_has_every_hash() -> None:
    text = (WEB / "package-lock.json").read_text()
    assert "://" not in text
    packages = {name: entry for name, entry in json.loads(text)["packages"].items() if name}
    assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
    wanted = json.loads((WEB / "package.json").read_text())["dependencies"]
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted
