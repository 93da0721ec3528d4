"""Heat maps against models whose reasons are known."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from emotion_detection.explain.heatmaps import normalised, occlusion, overlay

ROOT = Path(__file__).parents[2]


def looks_at(rows: slice, columns: slice):
    """Class 1 is as likely as a region is bright, class 0 as it is dark."""

    def predict(images):
        bright = images[:, rows, columns].mean(axis=(1, 2, 3)) / 255
        return np.stack([1 - bright, bright], axis=1)

    return predict


def dark_with_light(rows: slice, columns: slice, size: int = 24, channels: int = 1) -> np.ndarray:
    image = np.full((1, size, size, channels), 30, np.uint8)
    image[:, rows, columns] = 250
    return image


@given(npst.arrays(np.float32, npst.array_shapes(min_dims=3, max_dims=3), elements=st.floats(-1e6, 1e6, width=32)))
def test_maps_end_between_0_and_1(raw):
    heat = normalised(raw)
    assert heat.dtype == np.float32
    assert heat.min() >= 0
    for before, after in zip(raw, heat, strict=True):
        assert after.max() == (1 if before.max() > 0 else 0)
        assert (after[before <= 0] == 0).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_occlusion_finds_what_the_answer_hangs_on(channels):
    region = (slice(14, 20), slice(2, 8))
    (heat,) = occlusion(looks_at(*region), dark_with_light(*region, channels=channels), np.array([1]))
    assert heat.shape == (24, 24)
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert 14 <= row < 20
    assert 2 <= column < 8
    assert heat[:8].max() == 0  # nothing up there matters
    inside = np.zeros((24, 24), bool)
    inside[region] = True
    assert heat[inside].mean() > 5 * heat[~inside].mean()


def test_occlusion_explains_each_image_for_its_own_class():
    region = (slice(4, 10), slice(4, 10))
    image = dark_with_light(*region)
    against, speaks = occlusion(looks_at(*region), np.concatenate([image, image]), np.array([0, 1]))
    assert against.max() == 0  # to cover the light makes class 0 likelier
    assert speaks.max() == 1


@pytest.mark.parametrize(("size", "patch"), [(24, None), (23, 5), (7, 7), (9, 1)])
def test_occlusion_covers_every_pixel(size, patch):
    predict = looks_at(slice(None), slice(None))
    heat = occlusion(predict, dark_with_light(slice(0, 1), slice(0, 1), size), np.array([1]), patch)
    assert np.isfinite(heat).all()
    assert heat.shape == (1, size, size)


def test_overlay_is_the_face_where_it_is_cold_and_yellow_where_it_is_hot():
    image, heat = np.full((8, 8, 3), 100, np.uint8), np.zeros((8, 8), np.float32)
    heat[:, 4:] = 1
    picture = overlay(image, heat, side=64)
    assert (picture.shape, picture.dtype) == ((64, 64, 3), np.uint8)
    assert (picture[:, 0] == 100).all()
    red, green, blue = picture[32, -1].astype(int)
    assert red > blue + 30
    assert green > blue + 30


def test_nothing_heavy_is_needed_for_what_the_server_imports():
    code = """
import sys
import emotion_detection.explain.bundles, emotion_detection.explain.heatmaps
print(*{name.partition('.')[0] for name in sys.modules})
"""
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": ""}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    heavy = {"tensorflow", "keras", "matplotlib", "seaborn", "pandas", "pyarrow", "mlflow", "great_expectations", "dvc"}
    assert heavy & set(result.stdout.split()) == set()
