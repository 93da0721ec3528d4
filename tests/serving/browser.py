"""Chromium with a camera that plays drawn faces; whoever opens a page in it is told what went wrong there."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, sync_playwright

from emotion_detection.preprocess import Pixels
from tests.drawn_photos import encoded

CHROMIUM = which("chromium")
_QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
_FAKE_CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
_WATCH = (
    "addEventListener('securitypolicyviolation', e => console.error(`CSP: ${e.violatedDirective} ${e.blockedURI}`))"
)
_JUDGE = """async (faces) => {
  const { load } = await import('/static/device.js');
  const model = await load();
  const answers = [];
  for (const text of faces) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const { answer } = await model.judgeFile(new Blob([bytes]));
    answers.push(answer.faces[0].probabilities);
  }
  return answers;
}"""


@contextmanager
def browser(film: Path | None = None) -> Iterator[Browser]:
    """Run Chromium; its camera plays `film`, see `write_film`."""
    camera = [*_FAKE_CAMERA, f"--use-file-for-fake-video-capture={film}"] if film else []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=[*_QUIET, *camera])
        yield chromium
        chromium.close()


def write_film(path: Path, pictures: Sequence[Pixels]) -> Path:
    """A film as Chromium's fake camera plays it, over and over: JPEGs of one size, one after the other."""
    path.write_bytes(b"".join(encoded(picture, "JPEG", quality=95) for picture in pictures))
    return path


def watch(page: Page, url: str, wrong: list[str]) -> None:
    """Note what is wrong with a page from now on: errors, broken rules of its CSP, requests to other hosts."""
    page.add_init_script(_WATCH)
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))

    def check(address: str) -> None:
        if urlsplit(address).scheme not in ("data", "blob") and urlsplit(address).netloc != urlsplit(url).netloc:
            wrong.append(f"asked another host: {address}")

    page.on("request", lambda request: check(request.url))
    page.on("websocket", lambda socket: check(socket.url))


def open_page(page: Page, url: str) -> None:
    """Open the page and wait until it knows what the server can do."""
    page.goto(url)
    page.wait_for_selector("body[data-ready]")


def judge_on_device(page: Page, files: Sequence[bytes]) -> list[dict[str, float]]:
    """What the model in the browser says of image files, each a face already cut out."""
    answers: list[dict[str, Any]] = page.evaluate(_JUDGE, [base64.b64encode(data).decode() for data in files])
    return answers
