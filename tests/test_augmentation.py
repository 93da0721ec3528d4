"""Augmentation: bounded, repeatable, and nothing else than it says."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_detection.augmentation import augment
from emotion_detection.backend import tf
from emotion_detection.params import AugmentationParams

NOTHING = AugmentationParams(flip=False, rotation=0, zoom=0, shift=0, contrast=0)


def pictures(count: int = 64, size: int = 16, channels: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, channels), dtype=np.uint8)


def changed(images: NDArray[np.uint8], seed: tuple[int, int] = (1, 2), **params: object) -> NDArray[np.uint8]:
    values = NOTHING.model_copy(update=params)
    return np.asarray(augment(tf.constant(images), tf.constant(seed), values))


@pytest.mark.parametrize("channels", [1, 3])
def test_without_any_change_the_images_stay_as_they_are(channels: int) -> None:
    images = pictures(channels=channels)
    result = changed(images)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, images)


def test_flip_mirrors_about_half_of_the_images() -> None:
    images = pictures(count=200)
    result = changed(images, flip=True)
    same = (result == images).all(axis=(1, 2, 3))
    mirrored = (result == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (same ^ mirrored).all()
    assert 70 < mirrored.sum() < 130


def test_equal_seeds_give_equal_images_and_others_do_not() -> None:
    images, everything = pictures(), AugmentationParams().model_dump()
    first = changed(images, (1, 2), **everything)
    np.testing.assert_array_equal(first, changed(images, (1, 2), **everything))
    assert (first != changed(images, (1, 3), **everything)).any(axis=(1, 2, 3)).all()


def test_images_of_a_batch_are_changed_differently() -> None:
    copies = np.repeat(pictures(count=1), 16, axis=0)
    assert len(np.unique(changed(copies, rotation=20.0).reshape(16, -1), axis=0)) == 16


@pytest.mark.parametrize("fraction", [0.25, 0.1])
def test_shift_stays_within_its_bound(fraction: float) -> None:
    images = np.zeros((100, 33, 33, 1), np.uint8)
    images[:, 16, 16] = 255
    row, column = np.indices((33, 33))
    weights = changed(images, shift=fraction)[..., 0].astype(float)
    total = weights.sum(axis=(1, 2))
    offsets = np.stack([(weights * axis).sum(axis=(1, 2)) / total - 16 for axis in (row, column)])
    assert np.abs(offsets).max() <= fraction * 33 + 0.1
    assert np.abs(offsets).max() > fraction * 33 * 0.8


def test_rotation_and_zoom_keep_the_centre() -> None:
    images = np.zeros((50, 33, 33, 1), np.uint8)
    images[:, 13:20, 13:20] = 200
    result = changed(images, rotation=45.0, zoom=0.3)
    assert (result[:, 16, 16] == 200).all()
    assert (result[:, 0, 0] == 0).all()
    areas = (result > 100).sum(axis=(1, 2, 3))
    assert areas.min() < 40
    assert areas.max() > 60


def test_contrast_scales_about_the_mean() -> None:
    images = pictures(count=100) // 2 + 64
    result = changed(images, contrast=0.3).astype(float)
    np.testing.assert_allclose(result.mean(axis=(1, 2, 3)), images.mean(axis=(1, 2, 3)), atol=0.5)
    ratio = result.std(axis=(1, 2, 3)) / images.std(axis=(1, 2, 3))
    assert 0.69 < ratio.min() < 0.75
    assert 1.25 < ratio.max() < 1.31
