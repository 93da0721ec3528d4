"""Damaged images, made by hypothesis: each ends as an answer or as an ImageError, and harms nobody else.

FUZZ_IMAGES=1000000 pytest tests/serving/test_fuzz.py       # more than the 20,000 of CI
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emotion_detection.bundle import read_bundle
from emotion_detection.crops import Cutter
from emotion_detection.errors import ImageError
from emotion_detection.preprocess import read_header
from serving.engine import Engine
from tests.serving.processes import Server, running
from tests.serving.tiny import LABELS, SIZE, TinyBundle, encode, write_bundle

IMAGES = int(os.environ.get("FUZZ_IMAGES", "20000"))
OVER_HTTP = IMAGES // 40
AT_ONCE = 20
MAX_PIXELS = 250_000
ORIGINALS = [
    encode(1, "JPEG", mode="RGB"),
    encode(2, "JPEG", mode="L", progressive=True),
    encode(3, "JPEG", mode="CMYK"),
    encode(4, "JPEG", mode="RGB", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"),
    encode(5, "PNG"),
    encode(6, "PNG", mode="RGBA"),
    encode(7, "PNG", mode="P"),
    encode(8, "WEBP", mode="RGB"),
    encode(9, "WEBP", mode="RGBA", lossless=True),
    encode(10, "GIF", mode="P"),
    encode(11, "TIFF", mode="RGB"),
    encode(12, "BMP", mode="RGB"),
]
TELLING = bytes([0, 1, 0x7F, 0x80, 0xD8, 0xD9, 0xDA, 0xFE, 0xFF])
"""Bytes that mean something in most formats."""


def damaged(original: bytes, seed: int) -> bytes:
    """Some bytes replaced, cut out, doubled or swapped; most of the changes in the head, where they do most."""
    random, data = np.random.default_rng(seed), bytearray(original)
    for _ in range(random.integers(1, 12)):
        place = int(len(data) * random.random() ** random.choice((1, 4)))
        length = int(random.integers(1, 9))
        match random.integers(0, 6):
            case 0:
                data[place : place + 1] = random.bytes(1)
            case 1:
                data[place : place + length] = bytes(random.choice(list(TELLING), length).astype(np.uint8))
            case 2:
                del data[place : place + length]
            case 3:
                data[place:place] = data[place : place + 8 * length]
            case 4 if place < len(data):
                data[place] ^= 1 << int(random.integers(0, 8))
            case _ if random.random() < 0.1:
                del data[place:]
    return bytes(data)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> TinyBundle:
    return write_bundle(tmp_path_factory.mktemp("server") / "bundle")


def test_a_damaged_image_is_an_answer_or_an_image_error(bundle: TinyBundle) -> None:
    engine, cutter = Engine(read_bundle(bundle.directory)), Cutter(lambda _: [])
    ends = {"answer": 0, "error": 0}

    @settings(max_examples=IMAGES, deadline=None, database=None, derandomize=True, suppress_health_check=[*HealthCheck])
    @given(st.integers(0, len(ORIGINALS) - 1), st.integers(0, 2**63))
    def judge(original: int, seed: int) -> None:
        data = damaged(ORIGINALS[original], seed)
        try:
            cut = cutter.cut_file(data, SIZE, 1, "auto", MAX_PIXELS)
        except ImageError:
            ends["error"] += 1
            return
        header = read_header(data, MAX_PIXELS)
        assert header.width * header.height <= MAX_PIXELS
        row = engine.predict(cut.images)[0]
        assert np.isfinite(row).all()
        assert row.sum() == pytest.approx(1, abs=1e-4)
        ends["answer"] += 1

    judge()
    print(ends)
    assert min(ends.values()) > IMAGES // 20  # both ways are gone


@pytest.fixture(scope="module")
def server(bundle: TinyBundle) -> Iterator[Server]:
    limit = {"EMOTION_MAX_PIXELS": str(MAX_PIXELS)}
    with running(bundle.directory.parent, "--bundle", str(bundle.directory), **limit) as server:
        assert server.is_ready()
        yield server
        assert server.process.poll() is None
        assert "Traceback" not in server.log.read_text()


def test_damaged_images_harm_no_neighbours_over_http(server: Server, bundle: TinyBundle) -> None:
    good = encode(99)
    expected = bundle.expected(good)
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for start in range(0, OVER_HTTP, AT_ONCE):
            bad = [damaged(ORIGINALS[number % len(ORIGINALS)], number) for number in range(start, start + AT_ONCE)]
            answer = client.post("/detect", files=[("file", ("f", data)) for data in (good, *bad, good)])
            assert answer.status_code == 200, answer.text
            first, *others, last = answer.json()
            for item in (first, last):
                np.testing.assert_allclose([item["probabilities"][label] for label in LABELS], expected, atol=1e-5)
            for item in others:
                assert "probabilities" in item or 400 <= item["status"] < 500, item
