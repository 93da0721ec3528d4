"""Visitors as they come: single faces, whole photos, many images at once, the page, and people who do not wait.

    locust -f benchmarks/serving/locustfile.py --host http://127.0.0.1:8000                     # its page at :8089
    locust -f benchmarks/serving/locustfile.py --host http://127.0.0.1:8000 --headless -u 50 -r 5 -t 5m
    EMOTION_SERVER_KEY=emo_... locust ... --images holiday/      # with an API key; with photos of your own

    FaceUser       10   a face already cut out, again and again, as an application does
    PhotoUser       4   a whole photo, all faces in it
    PageUser        3   opens the page, drops a picture, asks why, gets a song
    BatchUser       2   a form with 4 to 16 images
    ImpatientUser   1   sends a photo and hangs up before the answer is there

The numbers are shares; name classes at the end of the command to have only those. Everybody pauses between two
requests (`--think` makes the pauses longer or shorter). A 503 is a failure, and whoever gets it waits as `Retry-After`
says. An answer counts as failed, too, where it is not what was asked for. Without `--images` our own generator draws.
"""

from __future__ import annotations

import json
import os
import random
import socket
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import cv2
import gevent
import numpy as np
from locust import FastHttpUser, between, events, task
from locust.argument_parser import LocustArgumentParser
from locust.clients import ResponseContextManager
from locust.env import Environment

from emotion_detection.data.sources.synthetic import SyntheticSource
from emotion_detection.detection import KEY_VARIABLE
from emotion_detection.params import SplitParams, SyntheticParams
from emotion_detection.preprocess import Pixels, decode

DRAWN = 20
"""Images of each kind that are drawn."""
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
BOUNDARY = "a-boundary-that-is-in-no-image"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
PAGE = ("/", "/static/app.js", "/static/style.css", "/openapi.json", "/model")


@events.init_command_line_parser.add_listener
def _add_options(parser: LocustArgumentParser) -> None:
    parser.add_argument("--images", default="", help="directory with photos, for all users; none: drawn ones")
    parser.add_argument("--think", type=float, default=1.0, help="factor of all pauses; 0: none")


@events.init.add_listener
def _draw_first(environment: Environment, **_: object) -> None:
    faces(options(environment).images)
    photos(options(environment).images)
    gevent.get_hub().loop.update_now()  # otherwise drawing would count as part of the run time


def options(environment: Environment) -> Any:
    """`images` and `think`."""
    return environment.parsed_options


@cache
def faces(directory: str) -> list[bytes]:
    """Image files with one face each; of a directory, its photos."""
    return photos(directory) if directory else [_jpeg(face) for face in _drawn(48)]


@cache
def photos(directory: str) -> list[bytes]:
    """Image files with several faces.

    Raises:
        FileNotFoundError: the directory has none.
    """
    if not directory:
        return [_jpeg(_photo(_drawn(160), number)) for number in range(DRAWN)]
    found = [path.read_bytes() for path in sorted(Path(directory).rglob("*")) if path.suffix.lower() in SUFFIXES]
    if not found:
        raise FileNotFoundError(f"{directory}: no image in it; expected {', '.join(sorted(SUFFIXES))}")
    return found


@cache
def _drawn(side: int) -> list[Pixels]:
    source = SyntheticSource(SyntheticParams(count=DRAWN, image_size=side), SplitParams(), seed=0)
    return [decode(source.sample(index).data, 3) for index in range(DRAWN)]


def _photo(drawn: list[Pixels], number: int) -> Pixels:
    """One to three people before a wall, uint8 (480, 640, 3), RGB."""
    wall = np.full((480, 640, 3), 90 + number, np.uint8)
    for place in range(1 + number % 3):
        face = drawn[(number + place) % len(drawn)]
        side, left = len(face), 20 + 205 * place
        wall[120 : 120 + side, left : left + side] = face
    return wall


def _jpeg(pixels: Pixels) -> bytes:
    return cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def _form(images: Sequence[bytes]) -> bytes:
    head = 'Content-Disposition: form-data; name="file"; filename="face.jpg"\r\nContent-Type: image/jpeg'
    parts = (f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + image for image in images)
    return b"".join(part + b"\r\n" for part in parts) + f"--{BOUNDARY}--\r\n".encode()


class Visitor(FastHttpUser):
    """What all have in common."""

    abstract = True
    pauses: ClassVar[tuple[float, float]] = (1.0, 3.0)
    """Seconds between two requests, at least and at most."""

    def wait_time(self) -> float:
        """Seconds until the next task."""
        return float(between(*self.pauses)(self)) * self.think

    def on_start(self) -> None:
        """Take the key along."""
        key = os.environ.get(KEY_VARIABLE)
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}

    @property
    def think(self) -> float:
        return float(options(self.environment).think)

    def face(self) -> bytes:
        return random.choice(faces(options(self.environment).images))

    def photo(self) -> bytes:
        return random.choice(photos(options(self.environment).images))

    def ask(self, method: str, path: str, name: str, images: Sequence[bytes] = ()) -> Any:
        """Send a request, with images as a form; what its JSON says, other bytes as they are, None where it failed."""
        form = {"data": _form(images), "headers": self.headers | FORM} if images else {"headers": self.headers}
        with self.client.request(method, path, name=name, catch_response=True, **form) as answer:
            if answer.status_code != 200:
                return self._fail(answer)
            kind = answer.headers.get("content-type", "")
            return json.loads(answer.content) if kind == "application/json" else answer.content

    def _fail(self, answer: ResponseContextManager) -> None:
        answer.failure(f"{answer.status_code}: {(answer.text or '')[:200]}")
        pause = (answer.headers or {}).get("retry-after", "")
        gevent.sleep(float(pause) if pause.isdigit() else 0)

    def expect(self, name: str, good: bool, what: str) -> None:
        """Count an answer that is not what was asked for."""
        if not good:
            error = ValueError(f"the answer has {what}")
            events.request.fire(
                request_type="CHECK", name=name, response_time=0, response_length=0, exception=error, context={}
            )


class FaceUser(Visitor):
    """An application that has cut the faces out itself."""

    weight = 10
    pauses = (0.2, 1.0)

    @task
    def detect(self) -> None:
        answer = self.ask("POST", "/detect?faces=none", "a face", images=[self.face()])
        self.expect("a face", answer is None or answer["label"] in answer["probabilities"], "no label of its own")


class PhotoUser(Visitor):
    """Somebody with holiday pictures."""

    weight = 4

    @task
    def detect(self) -> None:
        answer = self.ask("POST", "/detect?faces=all", "a photo", images=[self.photo()])
        self.expect("a photo", answer is None or isinstance(answer["faces"], list), "no list of faces")


class BatchUser(Visitor):
    """A job that works through an archive."""

    weight = 2
    pauses = (2.0, 6.0)

    @task
    def detect(self) -> None:
        count = random.randint(4, 16)
        answer = self.ask("POST", "/detect", "many images", images=[self.face() for _ in range(count)])
        good = answer is None or [item.get("status", 200) for item in answer] == [200] * count
        self.expect("many images", good, "fewer answers than images")


class PageUser(Visitor):
    """Somebody who plays with the page."""

    weight = 3

    @task
    def visit(self) -> None:
        for path in PAGE:
            self.ask("GET", path, f"page: {path}")
        gevent.sleep(self.wait_time())
        answer = self.ask("POST", "/detect", "page: a photo", images=[self.photo()])
        gevent.sleep(self.wait_time())
        picture = self.ask("POST", "/explain?format=png", "page: why", images=[self.face()])
        self.expect("page: why", picture is None or picture[:4] == b"\x89PNG", "no PNG")
        if answer and answer["label"]:
            self.ask("GET", f"/recommend?emotion={answer['label']}", "page: a song")


class ImpatientUser(Visitor):
    """Sends a photo, and has gone before it is looked at. It counts as failed only where nobody listens."""

    weight = 1

    @task
    def leave(self) -> None:
        start, error = time.perf_counter(), None
        address = urlsplit(self.host)
        try:
            with socket.create_connection((address.hostname, address.port or 80), timeout=10) as connection:
                connection.sendall(self._request(address.netloc, self.photo()))
                gevent.sleep(random.uniform(0, 0.05))
        except OSError as raised:
            error = raised
        seconds = time.perf_counter() - start
        events.request.fire(
            request_type="POST", name="hangs up", response_time=1000 * seconds, response_length=0, exception=error,
            context={},
        )  # fmt: skip

    def _request(self, host: str, photo: bytes) -> bytes:
        lines = ["POST /detect?faces=all HTTP/1.1", f"Host: {host}", "Content-Type: image/jpeg"]
        lines += [f"Content-Length: {len(photo)}", *(f"{name}: {text}" for name, text in self.headers.items())]
        return "\r\n".join([*lines, "\r\n"]).encode() + photo
