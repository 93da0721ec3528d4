"""/docs: Swagger UI in Chromium, from this server alone; and what stands there where it is not installed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import Page, expect

from serving import docs
from tests.serving.browser import CHROMIUM, browser, watch
from tests.serving.processes import running
from tests.serving.tiny import LABELS, encode, wait_until, write_bundle

installed = all(asset.is_file() for asset in docs.ASSETS)


@pytest.mark.xdist_group("browser")
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium")
@pytest.mark.skipif(not installed, reason="needs swagger-ui-dist: make web (with npm)")
def test_the_operations_can_be_read_and_tried_and_no_other_host_is_asked(tmp_path: Path) -> None:
    bundle, wrong, data = write_bundle(tmp_path / "bundle", spread=3), [], encode(3)
    with running(tmp_path, "--bundle", str(bundle.directory)) as server, browser() as chromium:
        wait_until(server.is_ready)
        page = chromium.new_page()
        page.set_default_timeout(20_000)
        watch(page, server.url, wrong)
        page.goto(f"{server.url}/docs")
        documented = [
            (method, path)
            for path, methods in server.get("/openapi.json").json()["paths"].items()
            for method in methods
        ]
        expect(page.locator(".opblock")).to_have_count(len(documented))
        detected = try_detect(page, data)
    assert detected["label"] == LABELS[int(bundle.expected(data).argmax())]
    assert wrong == []


def try_detect(page: Page, data: bytes) -> dict[str, object]:
    """Send a file with the form that Swagger UI makes for /detect; the answer that it shows."""
    operation = page.locator(".opblock-post", has=page.locator("[data-path='/detect']"))
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("combobox", name="Request content type").select_option("image/*")
    operation.locator("input[type=file]").set_input_files({"name": "face.png", "mimeType": "image/png", "buffer": data})
    operation.get_by_role("button", name="Execute").click()
    live = operation.locator(".live-responses-table")
    expect(live.locator(".response-col_status").nth(1)).to_contain_text("200")
    answer: dict[str, object] = json.loads(live.locator(".microlight, pre code").first.inner_text())
    return answer


@pytest.mark.parametrize("complete", [True, False])
def test_the_page_is_made_of_our_own_files_under_any_prefix(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, complete: bool
) -> None:
    (tmp_path / "there").touch()
    monkeypatch.setattr(docs, "ASSETS", (tmp_path / ("there" if complete else "missing"),))
    for page in (client.get("/docs"), TestClient(client.app, root_path="/emotions").get("/emotions/docs")):
        assert page.status_code == 200
        addresses = re.findall(r'(?:src|href)="([^"]*)"', page.text)
        assert all(address.startswith(("static/", "openapi.json")) for address in addresses)
        assert re.findall(r"<script[^>]*>([^<]+)", page.text) == []
        assert ("make web" in page.text) == (not complete)
        assert "openapi.json" in addresses
    for address in addresses:
        if "vendor" not in address:
            assert client.get(f"/{address}").status_code == 200


def test_the_description_is_as_closed_as_the_settings_say(start: Callable[..., TestClient], tmp_path: Path) -> None:
    from emotion_detection.api_keys import hash_key

    bundle = write_bundle(tmp_path / "bundle")
    client = start(ready=False, bundle=bundle.directory, api_keys=f"phone sha256:{hash_key(b'emo_x').hex()}")
    assert [client.get(path).status_code for path in ("/docs", "/openapi.json", "/static/docs.js")] == [401, 401, 200]
