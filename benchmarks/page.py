"""The page in Chromium against a server with a bundle: how far apart browser and server are, and pictures of it.

python -m benchmarks.page parity --bundle bundles/lenet          # drawn faces, judged here and there
python -m benchmarks.page screenshots --bundle bundles/lenet     # docs/images/page-light.png, page-dark.png
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import cv2
import httpx
import numpy as np
import typer
from PIL import Image
from playwright.sync_api import Browser, Page

from emotion_detection.data.sources.synthetic import SyntheticSource
from emotion_detection.params import SplitParams, SyntheticParams
from emotion_detection.preprocess import Pixels, decode
from tests.drawn_photos import encoded
from tests.serving.browser import browser, judge_on_device, open_page, write_film
from tests.serving.processes import Server, running
from tests.serving.tiny import wait_until

Bundle = Annotated[Path, typer.Option(help="Directory of a bundle.")]
Scheme = Literal["light", "dark"]
IMAGES = Path("docs/images")
SIDES = {"as the model sees them": 48, "shrunk": 128, "shrunk to the half": 96, "enlarged": 40}
PEOPLE = (46, 63, 19, 50, 60, 56)
"""Drawn images in the picture that is shown."""
ACTS = (47, 46, 42, 41, 45, 40)
"""Drawn images of one person, before the camera one after the other."""
app = typer.Typer(add_completion=False, help=__doc__)


@contextmanager
def serving(bundle: Path, *options: str) -> Iterator[Server]:
    options = ("--bundle", str(bundle.resolve()), *options)
    with TemporaryDirectory() as folder, running(Path(folder), *options) as server:
        wait_until(server.is_ready)
        yield server


def faces(side: int, count: int, difficulty: float = 0.5) -> list[bytes]:
    """Drawn faces, as JPEG files of `side` pixels."""
    params = SyntheticParams(count=count, image_size=side, difficulty=difficulty)
    source = SyntheticSource(params, SplitParams(), seed=0)
    return [source.sample(index).data for index in range(count)]


@app.command()
def parity(bundle: Bundle, count: int = 50) -> None:
    """Print the largest difference of any probability, and how often the most probable emotion is the same."""
    with serving(bundle) as server, browser() as chromium:
        page = chromium.new_page()
        open_page(page, server.url)
        for name, side in SIDES.items():
            jpegs = faces(side, count)
            pngs = [encoded(decode(data, 3)) for data in jpegs]
            for kind, files in (("JPEG", jpegs), ("PNG", pngs)):
                difference, same = compare(server, page, files)
                print(f"{name:24} {side:4} px {kind:5} {difference:.1e}  top-1 identical: {same} of {count}")


def compare(server: Server, page: Page, files: list[bytes]) -> tuple[float, int]:
    """Largest difference, and number of faces with the same most probable emotion."""
    here = np.array([list(answer.values()) for answer in judge_on_device(page, files)])
    answers = [httpx.post(f"{server.url}/detect?faces=none", files={"file": data}).json() for data in files]
    there = np.array([list(answer["probabilities"].values()) for answer in answers])
    return float(np.abs(here - there).max()), int((here.argmax(1) == there.argmax(1)).sum())


@app.command()
def screenshots(bundle: Bundle) -> None:
    """Write the pictures of the README: a photo of drawn people, and a stream with its time line."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder, serving(bundle, "--face-scale", "1.25") as server:
        film = write_film(Path(folder) / "film.mjpeg", list(scenes()))
        with browser(film) as chromium:
            photo = encoded(people())
            with shot(chromium, server, "light") as page:
                page.set_input_files("#file", {"name": "people.png", "mimeType": "image/png", "buffer": photo})
                page.wait_for_selector("#song:visible")
                with page.expect_response("**/detect?explain=true"):
                    page.check("#heat")
                page.wait_for_timeout(2_000)
            with shot(chromium, server, "dark") as page:
                page.click("#camera")
                page.wait_for_timeout(13_000)


@contextmanager
def shot(chromium: Browser, server: Server, scheme: Scheme) -> Iterator[Page]:
    """A page of which a picture is taken at the end."""
    page = chromium.new_page(color_scheme=scheme, viewport={"width": 1180, "height": 800}, reduced_motion="reduce")
    open_page(page, server.url)
    yield page
    path = IMAGES / f"page-{scheme}.png"
    page.screenshot(path=path, full_page=True)
    page.close()
    Image.open(path).convert("RGB").quantize(256, kmeans=1).save(path, optimize=True)
    print(path, path.stat().st_size)


def people() -> Pixels:
    """Six drawn people, uint8 (696, 1039, 3)."""
    tiles = [np.pad(drawn(index, 333), ((0, 10), (0, 10), (0, 0)), constant_values=250) for index in PEOPLE]
    rows = np.vstack([np.hstack(tiles[:3]), np.hstack(tiles[3:])])
    return np.pad(rows, ((10, 0), (10, 0), (0, 0)), constant_values=250)


def scenes() -> Iterator[Pixels]:
    """One emotion after the other, two seconds each, blended into the next: uint8 (480, 640, 3)."""
    for now, after in zip(ACTS, (*ACTS[1:], ACTS[0]), strict=True):
        first, second = scene(now), scene(after)
        yield from [first] * 50
        yield from (cv2.addWeighted(first, 1 - step / 10, second, step / 10, 0).astype(np.uint8) for step in range(10))


def scene(index: int) -> Pixels:
    """A drawn person before the camera, uint8 (480, 640, 3)."""
    picture = cv2.copyMakeBorder(drawn(index, 400), 80, 0, 120, 120, cv2.BORDER_REPLICATE)
    return np.asarray(picture, np.uint8)


def drawn(index: int, side: int) -> Pixels:
    """A drawn face, uint8 (side, side, 3)."""
    source = SyntheticSource(SyntheticParams(count=400, difficulty=0, image_size=256), SplitParams(), seed=0)
    face = decode(source.sample(index).data, 3)
    return cv2.resize(face, (side, side), interpolation=cv2.INTER_CUBIC).astype(np.uint8)


if __name__ == "__main__":
    app()
