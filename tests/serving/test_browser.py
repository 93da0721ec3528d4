"""The page in Chromium, against a real server: what a visitor does, sees and hears."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect

from emotion_detection.api_keys import hash_key
from emotion_detection.bundle import MODEL_FILE, BundleInfo, Lineage, file_sha256, write_bundle_info
from emotion_detection.data.sources.synthetic import SyntheticSource
from emotion_detection.golden import INT8_TOLERANCE
from emotion_detection.params import Int8Params, SplitParams, SyntheticParams
from emotion_detection.preprocess import encode_png
from emotion_detection.quantisation import Validation, add_int8, answers, open_session
from serving.page import RUNTIME
from tests import small_graphs
from tests.drawn_photos import PLACES, drawn, encoded, photo, turned
from tests.serving.browser import CHROMIUM, browser, judge_on_device, open_page, watch, write_film
from tests.serving.processes import Server, running
from tests.serving.tiny import LABELS, wait_until, write_bundle

pytestmark = [
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium"),
]
needs_runtime = pytest.mark.skipif(not RUNTIME.is_file(), reason="needs onnxruntime-web: make web (with npm)")
PHOTO = encoded(photo())
FACE = encoded(drawn(3))
_ACCESSIBLE = (Path(__file__).parent / "accessible.js").read_text()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("page")
    bundle = write_bundle(directory / "bundle", spread=3)
    with running(directory, "--bundle", str(bundle.directory), EMOTION_STREAM_RATE="1000") as server:
        wait_until(server.is_ready)
        yield server


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    places = ((200, 100, 240),), ((240, 140, 240),)
    film = write_film(tmp_path_factory.mktemp("film") / "faces.mjpeg", [photo(place) for place in places])
    with browser(film) as chromium:
        yield chromium


@pytest.fixture
def wrong() -> list[str]:
    """What went wrong in the page; a test that means it to removes it."""
    return []


@pytest.fixture
def page(chromium: Browser, server: Server, wrong: list[str]) -> Iterator[Page]:
    context = chromium.new_context(permissions=["camera", "clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.set_default_timeout(20_000)
    watch(page, server.url, wrong)
    open_page(page, server.url)
    yield page
    context.close()
    assert wrong == []


def api(server: Server, data: bytes, query: str = "") -> dict[str, Any]:
    answer: dict[str, Any] = httpx.post(f"{server.url}/detect{query}", files={"file": data}, timeout=20).json()
    return answer


def choose(page: Page, data: bytes, name: str = "photo.png") -> None:
    page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": data})
    page.wait_for_selector("#result:visible")


def bars(page: Page) -> dict[str, float]:
    """Probabilities as they are shown."""
    items = page.locator("#bars li")
    expect(items).to_have_count(len(LABELS))
    return {item.get_attribute("data-label"): float(item.get_attribute("data-value")) for item in items.all()}  # type: ignore[misc, arg-type]


def shown(page: Page) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The picture as it is drawn, uint8 (height, width, 3)."""
    data = page.evaluate("() => picture.toDataURL().split(',')[1]")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def test_a_photo_gets_the_boxes_and_bars_of_the_api(page: Page, server: Server) -> None:
    choose(page, PHOTO)
    expected = api(server, PHOTO)
    assert len(expected["faces"]) == 3
    assert page.locator("#faces button").all_inner_texts() == [
        f"{number} {face['label']}" for number, face in enumerate(expected["faces"], 1)
    ]
    picture, plain = shown(page).astype(int), photo().astype(int)
    for index, face in enumerate(expected["faces"]):
        page.locator("#faces button").nth(index).click()
        assert bars(page) == face["probabilities"]
        box = face["box"]
        edge = picture[box["y"] + box["height"], box["x"] + box["width"] // 2]
        assert np.abs(edge - plain[box["y"] + box["height"], box["x"] + box["width"] // 2]).max() > 20
    inside = expected["faces"][0]["box"]
    middle = inside["y"] + inside["height"] // 2, inside["x"] + inside["width"] // 2
    np.testing.assert_array_equal(picture[middle], plain[middle])
    assert page.inner_text("#summary").startswith("3 faces: ")
    assert page.inner_text("#latency").endswith(" ms")


def test_heat_lies_on_the_faces_and_nowhere_else(page: Page) -> None:
    choose(page, PHOTO)
    before = shown(page).astype(int)
    with page.expect_response("**/detect?explain=true"):
        page.check("#heat")
    expect(page.locator("#summary")).to_contain_text("3 faces")
    changed = np.abs(shown(page).astype(int) - before).max(axis=2) > 8
    x, y, side = PLACES[0]
    assert changed[y : y + side, x : x + side].mean() > 0.05
    assert not changed[400:, :200].any()


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_a_face_is_pasted_or_dropped(page: Page, server: Server, way: str) -> None:
    page.evaluate(
        """([way, text]) => {
          const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
          const transfer = new DataTransfer();
          transfer.items.add(new File([bytes], 'face.png', { type: 'image/png' }));
          dispatchEvent(way === 'paste' ? new ClipboardEvent('paste', { clipboardData: transfer })
                                        : new DragEvent('drop', { dataTransfer: transfer, cancelable: true }));
        }""",
        [way, base64.b64encode(FACE).decode()],
    )
    page.wait_for_selector("#result:visible")
    assert bars(page) == api(server, FACE)["probabilities"]


def test_everything_can_be_done_from_the_keyboard(page: Page, server: Server) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    with page.expect_file_chooser() as chooser:
        while page.evaluate("document.activeElement.id") != "choose":
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")
    chooser.value.set_files({"name": "photo.png", "mimeType": "image/png", "buffer": PHOTO})
    page.wait_for_selector("#faces:visible")
    while page.evaluate("document.activeElement.parentElement.id") != "faces":
        page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    focused = page.locator("#faces button:focus")
    assert (focused.get_attribute("aria-pressed"), focused.inner_text()[0]) == ("true", "2")
    assert bars(page) == api(server, PHOTO)["faces"][1]["probabilities"]


def test_the_model_in_view_is_the_one_that_answers_and_can_be_copied(page: Page, server: Server) -> None:
    card = server.get("/model").json()
    assert page.locator("#lineage code").all_inner_texts()[1:] == [
        card["version"], card["commit"], card["data_hash"], card["bundle_sha256"], card["precision"],
    ]  # fmt: skip
    page.get_by_role("button", name="Copy bundle").click()
    expect(page.get_by_role("status")).to_have_text("Bundle copied")
    assert page.evaluate("navigator.clipboard.readText()") == card["bundle_sha256"]


def test_a_song_is_suggested_and_another_one(page: Page) -> None:
    choose(page, FACE)
    page.wait_for_selector("#song:visible")
    first = page.inner_text("#song-title")
    with page.expect_response("**/recommend?*session=*"):
        page.click("#another")
    expect(page.locator("#song-title")).not_to_have_text(first)


def test_a_visitor_says_what_a_face_shows(page: Page, server: Server) -> None:
    choose(page, PHOTO)
    expected = api(server, PHOTO)["faces"]
    page.locator("#faces button").nth(1).click()
    actual = next(label for label in LABELS if label != expected[1]["label"])
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("status")).to_have_text("")  # nothing is sent before something is chosen
    page.get_by_label("No, it is").select_option(actual)
    with page.expect_request("**/feedback") as request:
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
    assert request.value.post_data_json | {"prediction_id": ""} == {"prediction_id": "", "face": 1, "label": actual}
    expect(page.get_by_role("status")).to_have_text("Thank you.")
    expect(page.locator("#feedback")).to_be_hidden()
    assert page.evaluate("document.activeElement.id") == "answer"
    page.locator("#faces button").nth(0).click()
    with page.expect_request("**/feedback") as request:
        page.get_by_role("button", name="Yes").click()
    assert request.value.post_data_json["label"] == expected[0]["label"]
    page.locator("#faces button").nth(1).click()
    expect(page.locator("#feedback")).to_be_hidden()
    series = f'emotion_feedback_total{{actual="{actual}",model_version="{server.get("/model").json()["version"]}",'
    assert f'{series}predicted="{expected[1]["label"]}"}} 1.0' in server.get("/metrics").text
    expect(page.locator("#not-stored-note")).to_be_visible()
    expect(page.locator("#stored-note")).to_be_hidden()


def test_a_visitor_is_told_where_faces_are_kept(page: Page, server: Server) -> None:
    def keeping(route: Route) -> None:
        described = httpx.get(f"{server.url}/openapi.json").json()
        described["paths"]["/feedback"]["post"]["x-keeps-faces-for-days"] = 30
        route.fulfill(body=json.dumps(described), content_type="application/json")

    page.route("**/openapi.json", keeping)
    open_page(page, server.url)
    choose(page, FACE)
    expect(page.locator("#feedback-keeps")).to_contain_text("the server keeps this face for 30 days")
    expect(page.locator("footer")).to_contain_text("is kept, cut out, for 30 days")
    expect(page.locator("#not-stored-note")).to_be_hidden()


def test_the_camera_draws_a_time_line_until_it_is_stopped(page: Page) -> None:
    with page.expect_websocket() as socket:
        page.click("#camera")
    assert socket.value.url.endswith("/stream")
    points = "Number(timeline.dataset.points)"
    page.wait_for_function(f"() => {points} > 3")
    assert page.inner_text("#where") == "over a WebSocket, newest frame first"
    assert sum(bars(page).values()) == pytest.approx(1, abs=1e-3)
    first = page.evaluate(points)
    page.wait_for_function(f"() => {points} > {first + 3}")
    assert page.locator("#timeline path").count() == len(LABELS)
    assert "Emotions over time: mostly" in str(page.get_attribute("#timeline", "aria-label"))
    page.click("#camera")
    assert page.get_attribute("#camera", "aria-pressed") == "false"
    page.wait_for_timeout(300)
    last = page.evaluate(points)
    page.wait_for_timeout(500)
    assert page.evaluate(points) == last


def test_a_camera_that_is_stopped_while_the_browser_still_asks_stays_off(page: Page) -> None:
    page.evaluate(
        """() => {
          const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
          window.asked = [];
          navigator.mediaDevices.getUserMedia = (wish) => new Promise((allow, deny) =>
            asked.push({ allow: () => allow(ask(wish)), deny: () => deny(new Error('denied')) }));
        }"""
    )
    for _ in range(2):  # on and off, twice; and on again
        page.click("#camera")
        page.click("#camera")
    page.click("#camera")
    page.evaluate("asked[0].allow()")
    page.wait_for_timeout(300)
    expect(page.locator("#summary")).to_have_text("Starting the camera …")
    page.evaluate("asked[2].allow()")
    points = "Number(timeline.dataset.points)"
    page.wait_for_function(f"() => {points} > 2")
    page.evaluate("asked[1].deny()")
    now = page.evaluate(points)
    page.wait_for_function(f"() => {points} > {now + 2}")
    expect(page.locator("#problem")).to_be_hidden()


def test_what_a_server_does_not_have_is_not_offered(page: Page, server: Server) -> None:
    def without(route: Route) -> None:
        described = httpx.get(f"{server.url}/openapi.json").json()
        for path in ("/stream", "/recommend", "/feedback", "/model/model.onnx"):
            described["paths"].pop(path, None)
        described["paths"]["/detect"]["post"]["parameters"] = []
        route.fulfill(body=json.dumps(described), content_type="application/json")

    page.route("**/openapi.json", without)
    open_page(page, server.url)
    expect(page.locator("#heat-switch")).to_be_hidden()
    expect(page.locator("#device-switch")).to_be_hidden()
    page.click("#camera")
    page.wait_for_function("() => Number(timeline.dataset.points) > 2")
    assert page.inner_text("#where") == "one request per frame"
    page.click("#camera")
    choose(page, FACE)
    expect(page.locator("#song")).to_be_hidden()
    expect(page.locator("#feedback")).to_be_hidden()


def test_an_error_is_told_in_words(page: Page, wrong: list[str]) -> None:
    page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": b"no image"})
    expect(page.get_by_role("alert")).to_contain_text("Not an image: the bytes are no image; expected one of JPEG")
    expect(page.locator("#result")).to_be_hidden()
    choose(page, FACE)
    expect(page.locator("#problem")).to_be_hidden()
    assert wrong.pop().endswith("status of 415 (Unsupported Media Type)")


@needs_runtime
def test_the_browser_says_what_the_server_says(page: Page, server: Server) -> None:
    faces = [
        SyntheticSource(SyntheticParams(count=200, image_size=48), SplitParams(), 0).sample(i).data for i in range(50)
    ]
    faces += [encoded(drawn(index)[:, :100]) for index in range(5)]  # colour, another size, PNG
    faces += [encoded(drawn(index), form) for index in range(5) for form in ("JPEG", "WEBP", "BMP")]
    faces += [turned(drawn(index), 6) for index in range(3)] + [encoded(drawn(0)[30:36, 30:36])]  # EXIF; to be enlarged
    expected = [api(server, face, "?faces=none")["probabilities"] for face in faces]
    found = judge_on_device(page, faces)
    assert [max(one, key=one.__getitem__) for one in found] == [max(one, key=one.__getitem__) for one in expected]
    np.testing.assert_allclose(*([list(one.values()) for one in side] for side in (found, expected)), atol=1e-5)


@needs_runtime
def test_the_browser_says_what_the_server_says_in_int8(chromium: Browser, tmp_path: Path) -> None:
    """Sums are exact in both; an activation may be rounded to the neighbouring step, seldom, and moves little."""
    faces = [encode_png(image) for image in small_graphs.IMAGES[:40]]
    with running(tmp_path, "--bundle", str(quantised_bundle(tmp_path / "bundle"))) as server:
        wait_until(server.is_ready)
        assert httpx.get(f"{server.url}/model").json()["precision"] == "int8"
        page = chromium.new_page()
        open_page(page, server.url)
        found = [list(one.values()) for one in judge_on_device(page, faces)]
        expected = [list(api(server, face, "?faces=none")["probabilities"].values()) for face in faces]
        page.close()
    difference = np.abs(np.subtract(found, expected)).max(axis=1)
    assert np.median(difference) < 1e-6
    assert difference.max() < INT8_TOLERANCE
    assert np.argmax(found, axis=1).tolist() == np.argmax(expected, axis=1).tolist()


def quantised_bundle(directory: Path) -> Path:
    """Convolutions, as export quantises them."""
    directory.mkdir()
    images, graph = small_graphs.IMAGES, small_graphs.convolutions(directory / MODEL_FILE)
    labels = answers(open_session(graph), images).argmax(axis=1).astype(np.int32)
    params = Int8Params(tolerance=1.0, min_speedup=0.0)
    tried = add_int8(directory, images[:32], Validation(images, labels, 10), images[:14], params)
    info = BundleInfo(
        model="small",
        architecture="convolutions",
        parameters=1,
        labels=("angry", "fear", "happy", "neutral", "sad"),
        image_size=small_graphs.SIZE,
        channels=1,
        temperature=1.0,
        reference_shares={},
        metrics={},
        quantisation=tried,
        lineage=Lineage(commit=None, dirty=False, dvc_lock=None, data_hash="d", training_id="t"),
        files={file.name: file_sha256(file) for file in directory.iterdir()},
    )
    write_bundle_info(directory, info)
    return directory


@needs_runtime
def test_on_this_device_no_image_leaves_it_and_the_visitor_says_where_the_face_is(page: Page, server: Server) -> None:
    posts: list[str] = []
    page.on("request", lambda request: posts.append(request.url) if request.method == "POST" else None)
    page.check("#device")
    choose(page, PHOTO)
    whole = bars(page)
    assert whole == pytest.approx(api(server, PHOTO, "?faces=none")["probabilities"], abs=1e-3)
    page.focus("#picture")
    for key in ("-", "-", "ArrowLeft"):
        page.keyboard.press(key)
    page.wait_for_function("(share) => Number(bars.children[0].dataset.value) !== share", arg=whole[LABELS[0]])
    page.keyboard.press("Escape")
    page.wait_for_function("(share) => Number(bars.children[0].dataset.value) === share", arg=whole[LABELS[0]])
    page.click("#camera")
    page.wait_for_function("() => Number(timeline.dataset.points) > 2")
    assert page.inner_text("#where") == "on this device"
    assert posts == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_names_roles_and_contrast(page: Page, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    choose(page, PHOTO)
    page.wait_for_selector("#song:visible")
    assert page.evaluate(_ACCESSIBLE) == []
    assert page.evaluate("getComputedStyle(document.querySelector('.track i')).transitionDuration") == "0s"


def test_a_phone_has_no_sideways_scrolling(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    choose(page, PHOTO)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_who_has_a_key_is_let_in_with_the_camera_too(chromium: Browser, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    line = f"page sha256:{hash_key(b'emo_secret').hex()}"
    with running(tmp_path, "--bundle", str(bundle.directory), EMOTION_API_KEYS=line) as server:
        context = chromium.new_context(permissions=["camera"])
        page = context.new_page()
        page.goto(server.url)
        expect(page.get_by_role("alert")).to_contain_text("API key")
        page.get_by_label("API key").fill("emo_secret")
        page.get_by_role("button", name="Use this key").click()
        page.wait_for_selector("body[data-ready]")
        expect(page.locator("#key-form")).to_be_hidden()
        page.click("#camera")
        page.wait_for_function("() => Number(timeline.dataset.points) > 2")
        assert page.inner_text("#where") == "over a WebSocket, newest frame first"
        context.close()
