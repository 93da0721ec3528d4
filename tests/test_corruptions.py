"""Corrupted faces: each way at each strength, and what a model makes of them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_detection.artifacts import Robustness
from emotion_detection.corruptions import BY_NAME, CORRUPTIONS, EYES, MOUTH, corrupt
from emotion_detection.data.sources.action_units import EMOTIONS
from emotion_detection.data.sources.synthetic import IMAGES_PER_PERSON, draw
from emotion_detection.params import EvaluationParams, SyntheticParams
from emotion_detection.preprocess import prepare
from emotion_detection.robustness import measure

HOW = EvaluationParams(bootstrap=200, robustness_images=40)
NAMES = list(BY_NAME)


@pytest.fixture(scope="module", params=[1, 3])
def faces(request: pytest.FixtureRequest) -> NDArray[np.uint8]:
    """(14, 48, 48, 1 or 3): drawn people of every emotion."""
    files = [
        draw(0, IMAGES_PER_PERSON * person, label, SyntheticParams()) for person, label in enumerate(list(EMOTIONS) * 2)
    ]
    return np.stack([prepare(file, 48, request.param) for file in files])


def distance(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    return float(np.abs(first.astype(int) - second).mean())


@pytest.mark.parametrize("name", NAMES)
def test_no_strength_changes_nothing_and_more_changes_more(faces: NDArray[np.uint8], name: str) -> None:
    corruption = BY_NAME[name]
    np.testing.assert_array_equal(corrupt(faces, corruption, 0.0, seed=0), faces)
    strengths = (0.0, corruption.strengths[0] / 2, *corruption.strengths)
    corrupted = [corrupt(faces, corruption, strength, seed=0) for strength in strengths]
    assert all((each.shape, each.dtype) == (faces.shape, np.uint8) for each in corrupted)
    distances = [distance(faces, each) for each in corrupted]
    assert np.all(np.diff(distances) > 0), distances
    assert distances[2] > 0.5  # grey values; the weakest that is judged can be seen


@pytest.mark.parametrize("name", NAMES)
def test_a_face_is_corrupted_alike_in_any_batch_and_again(faces: NDArray[np.uint8], name: str) -> None:
    corruption, strength = BY_NAME[name], BY_NAME[name].strengths[1]
    before = faces.copy()
    whole = corrupt(faces, corruption, strength, seed=3)
    parts = [
        corrupt(faces[:5], corruption, strength, seed=3),
        corrupt(faces[5:], corruption, strength, seed=3, start=5),
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(faces, before)
    other = corrupt(faces, corruption, strength, seed=4)
    assert np.array_equal(other, whole) is (name not in {"noise", "part covered", "rotated"})


def test_each_way_does_what_its_name_says() -> None:
    """On a face of which every pixel is known."""
    ramp = np.tile(np.linspace(20, 220, 48).astype(np.uint8), (48, 1))[np.newaxis, ..., np.newaxis]

    def corrupted(name: str, strength: float) -> NDArray[np.float64]:
        return corrupt(ramp, BY_NAME[name], strength, seed=0)[0, ..., 0].astype(float)

    face = ramp[0, ..., 0].astype(float)
    np.testing.assert_allclose(corrupted("darker", 0.4), 0.6 * face, atol=0.51)
    np.testing.assert_allclose(corrupted("brighter", 0.4), np.minimum(1.4 * face, 255), atol=0.51)
    np.testing.assert_allclose(corrupted("low contrast", 0.5).std(), face.std() / 2, rtol=0.01)
    assert np.std(corrupted("noise", 0.04) - face) == pytest.approx(0.04 * 255, rel=0.05)
    assert np.abs(corrupted("blur", 0.05) - face)[:, 10:-10].max() <= 1  # a ramp stays a ramp
    assert len(np.unique(corrupted("low resolution", 0.75)[:, 20:28].round())) > 1
    turned = corrupted("rotated", 45)
    assert np.corrcoef(turned[20:28, 20:28].mean(axis=1), np.arange(8))[0, 1] ** 2 > 0.9  # it now rises downwards, too


@pytest.mark.parametrize(("name", "middle"), [("eyes covered", EYES), ("mouth covered", MOUTH)])
def test_a_band_covers_its_part_of_the_face_and_nothing_else(name: str, middle: tuple[float, float]) -> None:
    white = np.full((1, 48, 48, 1), 255, np.uint8)
    white[0, 0] = 0  # so that the mean is another grey
    rows = np.flatnonzero((corrupt(white, BY_NAME[name], 0.25, seed=0) != white).any(axis=(0, 2, 3)))
    assert rows.mean() + 0.5 == pytest.approx(48 * middle[0], abs=1)
    assert len(rows) == 12


def test_jpeg_is_what_opencv_writes_at_that_quality() -> None:
    noise = np.random.default_rng(0).integers(256, size=(48, 48, 1), dtype=np.uint8)
    data = cv2.imencode(".jpg", noise, [cv2.IMWRITE_JPEG_QUALITY, 30])[1]
    expected = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(corrupt(noise[np.newaxis], BY_NAME["JPEG"], 0.7, seed=0)[0, ..., 0], expected)


def by_brightness(images: NDArray[np.uint8]) -> NDArray[np.intp]:
    """A model that answers 1 for what is not dark."""
    return (images.mean(axis=(1, 2, 3)) > 60).astype(np.intp)


def judged(images: NDArray[np.uint8], limit: int = 40) -> Robustness:
    labels = np.ones(len(images), np.int32)
    found = measure(by_brightness, images, labels, HOW.model_copy(update={"robustness_images": limit}), seed=0)
    assert found is not None
    return found


def test_what_a_model_cannot_stand_is_found() -> None:
    random = np.random.default_rng(0)
    images = random.integers(90, 130, size=(60, 16, 16, 1), dtype=np.uint8)  # means of 110
    found = judged(images)
    assert (found.images, found.clean.value) == (40, 1)
    expected = dict.fromkeys(NAMES, 1.0) | {"darker": 1 / 3}  # 66, 44 and 22 are left
    assert found.by_corruption() == pytest.approx(expected)
    assert found.mean.value == pytest.approx(np.mean(list(expected.values())))
    rows = [(row.corruption, row.strength) for row in found.rows]
    assert rows == [(each.name, strength) for each in CORRUPTIONS for strength in each.strengths]
    assert Robustness.model_validate_json(found.model_dump_json()) == found


def test_intervals_come_from_images_and_not_from_their_copies() -> None:
    """Half of the images are always wrong: with all strengths of them counted apart the interval would be narrow."""
    images = np.full((100, 16, 16, 1), 130, np.uint8)
    images[::2] = 0
    found = judged(images, 100)
    assert found.mean.low < 0.42 < found.mean.value < 0.53 < found.mean.high


def test_only_the_images_that_are_drawn_are_asked_for_and_they_are_the_same_again() -> None:
    images = np.arange(50, dtype=np.uint8).repeat(256).reshape(50, 16, 16, 1)
    seen: list[list[int]] = []

    def predict(faces: NDArray[np.uint8]) -> NDArray[np.intp]:
        seen.append(faces[:, 0, 0, 0].tolist())
        return np.zeros(len(faces), np.intp)

    for seed in (0, 0, 1):
        measure(predict, images, np.zeros(50, np.int32), HOW, seed)
    assert {len(faces) for faces in seen} == {40}
    first, again, other = seen[33], seen[67], seen[101]  # as they are, after 33 changes
    assert first == again
    assert first != other
    assert first == sorted(set(first))


def test_no_images_are_no_robustness_and_few_are_all_taken() -> None:
    images = np.full((5, 16, 16, 1), 100, np.uint8)
    none = HOW.model_copy(update={"robustness_images": 0})
    assert measure(by_brightness, images, np.ones(5, np.int32), none, seed=0) is None
    assert judged(images, 1000).images == 5
