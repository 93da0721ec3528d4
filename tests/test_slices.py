"""Parts of a split: they add up to the whole, and hold what they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import binomtest

from emotion_detection.slices import (
    UNKNOWN,
    accuracy_by_slice,
    by_class,
    by_value,
    face_slicings,
    share,
    terciles,
)


@given(
    hnp.arrays(np.float64, st.integers(1, 40), elements=st.floats(-5, 5) | st.just(np.nan)),
    st.lists(st.floats(-5, 5), max_size=4, unique=True),
    st.integers(0, 2**31 - 1),
)
def test_slices_add_up_to_the_whole(values: np.ndarray, edges: list[float], seed: int) -> None:
    right = np.random.default_rng(seed).random(len(values)) < 0.5
    slicing = by_value("figure", values, sorted(edges))
    rows = accuracy_by_slice([slicing], right, 0.95)
    assert sum(row.images for row in rows) == len(values)
    assert sum(row.images * row.accuracy.value for row in rows) == pytest.approx(right.sum())
    assert sum(row.images for row in rows if row.title == UNKNOWN) == np.isnan(values).sum()


def test_a_value_stands_in_the_slice_that_its_title_says() -> None:
    slicing = by_value("agreement", [0.1, 0.5, 0.7, 0.9, np.nan, 0.8], (0.5, 0.8))
    assert slicing.titles == ("≤ 0.5", "0.5 to 0.8", "> 0.8", "unknown")
    assert slicing.places.tolist() == [0, 0, 1, 2, 3, 1]
    assert by_value("sharpness", [1200.0], (773.4, 1191.2)).titles[1:3] == ("773 to 1,191", "> 1,191")


def test_each_class_has_its_own_accuracy_and_one_without_images_no_row() -> None:
    labels = np.array([0, 0, 0, 2, 2])
    rows = accuracy_by_slice([by_class(labels, ("angry", "fear", "sad"))], np.array([1, 1, 0, 0, 1], bool), 0.95)
    assert [(row.slicing, row.title, row.images) for row in rows] == [("class", "angry", 3), ("class", "sad", 2)]
    assert [row.accuracy.value for row in rows] == pytest.approx([2 / 3, 1 / 2])


def test_thirds_of_the_images_by_light_contrast_and_sharpness() -> None:
    random = np.random.default_rng(0)
    noise = random.integers(0, 60, size=(90, 48, 48, 1))
    light = np.repeat([20, 90, 160], 30)
    images = (noise + light[:, np.newaxis, np.newaxis, np.newaxis]).astype(np.uint8)
    brightness, contrast, sharpness = face_slicings(images)
    assert [slicing.name for slicing in (brightness, contrast, sharpness)] == ["brightness", "contrast", "sharpness"]
    assert brightness.places.tolist() == np.repeat([0, 1, 2], 30).tolist()
    for slicing in (contrast, sharpness):
        assert np.bincount(slicing.places).tolist() == [30, 30, 30]
    flat = face_slicings(np.full((10, 48, 48, 3), 77, np.uint8))
    assert all(np.bincount(slicing.places).tolist() == [10] for slicing in flat)  # ties stay together


def test_terciles_cut_into_three() -> None:
    assert np.bincount(by_value("x", range(9), terciles(range(9))).places).tolist() == [3, 3, 3]


@pytest.mark.parametrize(("hits", "images"), [(0, 3), (3, 3), (7, 10), (240, 251)])
def test_the_interval_of_a_share_is_wilsons(hits: int, images: int) -> None:
    found = share(hits, images, 0.9)
    expected = binomtest(hits, images).proportion_ci(0.9, method="wilson")
    assert (found.value, found.low, found.high) == pytest.approx((hits / images, expected.low, expected.high))
