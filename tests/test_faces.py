"""Finding faces: drawn ones with the cascade, real ones with YuNet where its file is at hand."""

from __future__ import annotations

import csv
import io
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from emotion_detection.errors import FaceModelError
from emotion_detection.face_model import NAME
from emotion_detection.faces import Box, Face, FaceFinder
from emotion_detection.preprocess import decode
from tests.drawn_photos import PLACES, encoded, photo, turned

REAL = Path(os.environ.get("REAL_DATA_DIR", "."))
needs_real_data = pytest.mark.skipif(
    not (REAL / NAME).exists() or not (REAL / "photos.zip").exists(),
    reason=f"REAL_DATA_DIR names no folder with photos.zip and {NAME}",
)


@pytest.fixture(scope="module")
def find() -> FaceFinder:
    return FaceFinder()


def near(found: Box, expected: Box, pixels: int) -> bool:
    return max(abs(a - b) for a, b in zip(found, expected, strict=True)) <= pixels


def test_every_drawn_face_is_found_where_it_is_largest_first(find: FaceFinder) -> None:
    faces = find(photo())
    assert len(faces) == len(PLACES)
    assert all(face.detector == "cascade" and face.score is None for face in faces)
    for face, (x, y, side) in zip(faces, sorted(PLACES, key=lambda place: -place[2]), strict=True):
        box = face.box
        assert x <= box.x < box.x + box.width <= x + side
        assert y <= box.y < box.y + box.height <= y + side
        assert min(box.width, box.height) > side * 0.6


def test_no_faces_are_found_where_there_are_none(find: FaceFinder) -> None:
    assert find(photo(places=())) == []
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    assert find(noise) == []


@pytest.mark.parametrize("orientation", range(2, 9))
def test_an_exif_turned_file_has_the_same_boxes(find: FaceFinder, orientation: int) -> None:
    picture = photo()
    assert find(decode(turned(picture, orientation), 3)) == find(picture)


@pytest.mark.parametrize(("form", "mode"), [("PNG", "RGBA"), ("PNG", "L"), ("PNG", "I;16"), ("TIFF", "CMYK")])
def test_boxes_do_not_depend_on_the_mode_of_the_file(find: FaceFinder, form: str, mode: str) -> None:
    expected = find(photo())
    for channels in (1, 3):
        faces = find(decode(encoded(photo(), form, mode), channels))
        assert len(faces) == len(expected)
        assert all(near(face.box, other.box, 8) for face, other in zip(faces, expected, strict=True))


def test_a_large_picture_is_searched_small_and_answered_large(find: FaceFinder) -> None:
    small = find(photo())
    large = find(cv2.resize(photo(), None, fx=5, fy=5, interpolation=cv2.INTER_CUBIC))
    assert len(large) == len(small)
    for face, other in zip(large, small, strict=True):
        assert near(face.box, Box(*(5 * edge for edge in other.box)), 40)


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (15, 15), (16, 16), (40, 5000)])
def test_tiny_and_narrow_pictures_are_no_error(find: FaceFinder, size: tuple[int, int]) -> None:
    for channels in (1, 3):
        assert find(np.zeros((*size, channels), np.uint8)) == []


def test_threads_find_what_one_finds_alone(find: FaceFinder) -> None:
    pictures = [photo(), np.ascontiguousarray(photo()[:, ::-1]), photo(PLACES[:1], (320, 320)), photo(())]
    alone = [find(picture) for picture in pictures]
    assert [len(faces) for faces in alone] == [3, 3, 1, 0]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(find, pictures * 6))
    assert together == alone * 6


def test_a_wrong_model_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FaceModelError, match="No such file"):
        FaceFinder(tmp_path / NAME)
    (tmp_path / NAME).write_bytes(b"not a model")
    with pytest.raises(FaceModelError, match=r"SHA-256 is .*, expected 8f2383e4"):
        FaceFinder(tmp_path / NAME)


def index() -> list[dict[str, str]]:
    with zipfile.ZipFile(REAL / "photos.zip") as archive:
        return list(csv.DictReader(io.TextIOWrapper(archive.open("index.csv"))))


def count_faces(find: FaceFinder) -> dict[str, int]:
    with zipfile.ZipFile(REAL / "photos.zip") as archive:
        return {
            row["file"]: len(find(decode(archive.read(f"photos/{row['file']}"), 3)))
            for row in index()
            if int(row["width"]) * int(row["height"]) < 1_100_000  # seconds
        }


def yunet(side: int) -> FaceFinder:
    return FaceFinder(REAL / NAME, side)


@needs_real_data
def test_yunet_finds_in_real_photos_what_their_index_says() -> None:
    """Pictures of up to 1280 pixels are searched as they are, as they were for the index."""
    found = count_faces(yunet(1280))
    assert len(found) > 20
    assert found == {row["file"]: int(row["yunet_faces_at_0.7"]) for row in index() if row["file"] in found}


@needs_real_data
def test_scaled_down_as_by_default_yunet_misses_at_most_one() -> None:
    found = count_faces(yunet(640))
    expected = {row["file"]: int(row["yunet_faces_at_0.7"]) for row in index() if row["file"] in found}
    assert sum(abs(found[name] - expected[name]) for name in found) <= 1


@needs_real_data
def test_yunet_has_scores_and_takes_every_shape() -> None:
    find = yunet(640)
    faces: list[Face] = find(photo())
    assert len(faces) == len(PLACES)
    assert all(face.detector == "yunet" and face.score is not None and 0.7 <= face.score <= 1 for face in faces)
    for size in [(1, 1), (1, 3000), (16, 16), (17, 640), (333, 77)]:
        for channels in (1, 3):
            assert find(np.zeros((*size, channels), np.uint8)) == []
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(find, [photo()] * 8)) == [faces] * 8


@needs_real_data
def test_yunet_finds_no_faces_in_memory_that_nobody_wrote() -> None:
    find, rng = yunet(640), np.random.default_rng(0)
    for _ in range(40):
        for size in [(16, 16), (17, 640), (640, 20)]:
            for _ in range(6):
                np.full(1 << rng.integers(8, 22), rng.normal() * 1e6, np.float32)  # what is freed is not emptied
            assert find(np.zeros((*size, 3), np.uint8)) == []
