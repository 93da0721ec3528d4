"""Batches: every image once an epoch, in an order that seed and epoch decide."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from emotion_detection.artifacts import DatasetInfo
from emotion_detection.backend import keras, tf
from emotion_detection.batches import (
    Source,
    class_weights,
    epoch_seed,
    equal_parts,
    training_batches,
    validation_batches,
)
from emotion_detection.errors import ParamsError
from emotion_detection.params import AugmentationParams, TrainingParams
from tests.toy_shards import toy_shards

PLAIN = AugmentationParams(flip=False, rotation=0, zoom=0, shift=0, contrast=0)
TRAINING = TrainingParams(batch_size=10, augmentation=PLAIN, class_weights="balanced")
COUNTS = {"angry": 20, "happy": 10, "sad": 5}


@pytest.fixture(scope="module")
def info(tmp_path_factory: pytest.TempPathFactory) -> DatasetInfo:
    return toy_shards(tmp_path_factory.getbasetemp() / "batches", COUNTS, COUNTS)


@pytest.fixture(params=[2**30, 0], ids=["in memory", "streamed"])
def source(request: pytest.FixtureRequest, info: DatasetInfo, tmp_path_factory: pytest.TempPathFactory) -> Source:
    keras.utils.set_random_seed(0)
    return Source.open(tmp_path_factory.getbasetemp() / "batches", "train", info, memory_limit=request.param)


def arrays(dataset: Any) -> list[np.ndarray]:
    batches = list(dataset.as_numpy_iterator())
    assert len(batches) == dataset.cardinality()
    return [np.concatenate(parts) for parts in zip(*batches, strict=True)]


def test_an_epoch_has_every_image_once(source: Source, info: DatasetInfo) -> None:
    images, one_hot, weights = arrays(training_batches(source, info, TRAINING, seed=5))
    expected, labels = arrays(source.in_order(10))
    assert images.dtype == np.uint8
    assert sorted(image.tobytes() for image in images) == sorted(image.tobytes() for image in expected)
    np.testing.assert_array_equal(one_hot.sum(axis=0), list(COUNTS.values()))
    known = {image.tobytes(): label for image, label in zip(expected, labels, strict=True)}
    np.testing.assert_array_equal(one_hot.argmax(axis=1), [known[image.tobytes()] for image in images])
    np.testing.assert_allclose(weights, np.array([35 / 60, 35 / 30, 35 / 15])[one_hot.argmax(axis=1)], rtol=1e-6)


def test_the_seed_decides_order_and_augmentation(source: Source, info: DatasetInfo) -> None:
    training = TrainingParams(batch_size=10)
    first, again, other = (arrays(training_batches(source, info, training, seed)) for seed in (5, 5, 6))
    for one, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, same)
    assert (first[1] != other[1]).any()


def test_validation_is_in_order_and_unchanged(info: DatasetInfo, tmp_path_factory: pytest.TempPathFactory) -> None:
    source = Source.open(tmp_path_factory.getbasetemp() / "batches", "val", info)
    images, one_hot = arrays(validation_batches(source, info, TrainingParams(batch_size=10)))
    expected, labels = arrays(source.in_order(35))
    np.testing.assert_array_equal(images, expected)
    np.testing.assert_array_equal(one_hot.argmax(axis=1), labels)


def test_class_weights_are_one_unless_asked_for(info: DatasetInfo) -> None:
    assert class_weights(info, TrainingParams()).tolist() == [1, 1, 1]
    assert class_weights(info, TRAINING) == pytest.approx([0.5833, 1.1667, 2.3333], abs=1e-4)


def test_seeds_of_epochs_do_not_meet_those_of_other_seeds() -> None:
    seeds = {epoch_seed(seed, epoch) for seed in range(50) for epoch in range(50)}
    assert len(seeds) == 2500
    assert max(seeds) < 2**31


@pytest.mark.parametrize(("images", "sizes"), [(16, [8, 8]), (23, [8, 8, 6]), (17, [8, 8]), (7, [6]), (24, [8, 8, 8])])
def test_devices_share_each_batch_equally(images: int, sizes: list[int]) -> None:
    batches = tf.data.Dataset.range(images).map(lambda number: (number, -number)).batch(8)
    shared = equal_parts(batches, images, batch_size=8, devices=2)
    assert shared.cardinality() == len(sizes)
    parts = list(shared.as_numpy_iterator())
    assert [len(part) for part, _ in parts] == sizes
    np.testing.assert_array_equal(np.concatenate([part for part, _ in parts]), np.arange(sum(sizes)))
    assert all((first == -second).all() for first, second in parts)


def test_more_devices_than_images() -> None:
    with pytest.raises(ParamsError, match=r"training\.devices: found 4, more than there are images in a split \(3\)"):
        equal_parts(tf.data.Dataset.range(3).batch(8), 3, batch_size=8, devices=4)
