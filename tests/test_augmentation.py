"""Augmentation: bounded, repeatable, and nothing else than it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_detection.augmentation import ERASED_AREA, augment, mix
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


def test_brightness_moves_all_pixels_of_an_image_alike() -> None:
    images = pictures(count=200) // 2 + 64
    moved = changed(images, brightness=0.2).astype(int) - images
    assert (moved == moved[:, :1, :1]).all()
    assert -52 < moved.min() < -45
    assert 45 < moved.max() < 52


def test_erasing_fills_a_rectangle_with_the_mean_and_leaves_the_rest() -> None:
    images = pictures(count=300, size=24)
    result = changed(images, erasing=0.5)
    erased = (result != images).any(axis=(1, 2, 3))
    assert 110 < erased.sum() < 190
    areas = []
    for before, after in zip(images[erased], result[erased], strict=True):
        rows, columns = (np.flatnonzero((before != after).any(axis=(axis, 2))) for axis in (1, 0))
        inside = after[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert (inside == np.round(before.mean())).all()
        areas.append(inside.size / after.size)
    assert min(areas) == pytest.approx(ERASED_AREA[0], abs=0.015)
    assert max(areas) == pytest.approx(ERASED_AREA[1], abs=0.02)


def test_other_changes_stay_the_same_when_one_is_switched_on() -> None:
    images, settings = pictures(), AugmentationParams()
    plain = changed(images, **settings.model_dump())
    erased = changed(images, **settings.model_copy(update={"erasing": 1.0}).model_dump())
    assert 0.75 < (plain == erased).mean() < 0.98


def mixed(images: NDArray[np.uint8], **params: float) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[Any]]:
    """The images of a batch mixed, with their targets (each is a class of its own) and weights (its number)."""
    targets, weights = np.eye(len(images), dtype=np.float32), np.arange(len(images), dtype=np.float32)
    parts = mix(tf.constant(images), targets, weights, tf.constant((1, 2)), NOTHING.model_copy(update=params))
    return tuple(np.asarray(part) for part in parts)


def test_without_mixing_a_batch_stays_as_it_is() -> None:
    images = pictures()
    result, targets, _ = mixed(images)
    np.testing.assert_array_equal(result, images)
    np.testing.assert_array_equal(targets, np.eye(64))


@pytest.mark.parametrize("method", ["mixup", "cutmix"])
def test_labels_and_weights_are_mixed_as_the_pixels_are(method: str) -> None:
    images = pictures(count=64, size=32)
    result, targets, weights = mixed(images, **{method: 1.0})
    share = np.diag(targets)
    np.testing.assert_allclose(share + targets[range(64), range(63, -1, -1)], 1, atol=1e-6)
    np.testing.assert_allclose(weights, targets @ np.arange(64), rtol=1e-5)
    assert share.min() < 0.1
    assert share.max() > 0.9
    if method == "mixup":
        blend = share[:, None, None, None]
        np.testing.assert_allclose(result, blend * images + (1 - blend) * images[::-1], atol=0.51)
    else:
        own, other = result == images, result == images[::-1]
        assert (own | other).all()
        np.testing.assert_allclose((own & ~other).mean(axis=(1, 2, 3)) + (own & other).mean() / 2, share, atol=0.01)


def test_a_coin_decides_between_mixup_and_cutmix() -> None:
    images, both = pictures(count=8), NOTHING.model_copy(update={"mixup": 1.0, "cutmix": 1.0})
    seeds = [tf.constant((1, step)) for step in range(40)]
    batches = [np.asarray(mix(tf.constant(images), np.eye(8), np.ones(8), seed, both)[0]) for seed in seeds]
    rectangular = sum(((batch == images) | (batch == images[::-1])).all() for batch in batches)
    assert 10 < rectangular < 30


def test_a_small_alpha_leaves_most_images_nearly_whole() -> None:
    _, targets, _ = mixed(pictures(count=200), mixup=0.05)
    share = np.diag(targets)
    assert np.mean((share < 0.05) | (share > 0.95)) > 0.7
