"""The drawn data set: determinism, splits by person, and faces that move as FACS says."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotion_detection.data.sources.action_units import ACTION_UNITS, CURVES, EMOTIONS, SHAPE_UNITS, geometry
from emotion_detection.data.sources.shots import OCCLUDERS, render, sample_shot
from emotion_detection.data.sources.synthetic import (
    IMAGES_PER_PERSON,
    SyntheticSource,
    draw,
    label_of,
    person,
    person_of,
    split_of,
)
from emotion_detection.params import SplitParams, SyntheticParams
from emotion_detection.preprocess import decode, read_header

ROOT = Path(__file__).parents[3]
HASH_OF_IMAGES = """
import hashlib
from emotion_detection.data.sources.synthetic import SyntheticSource
from emotion_detection.params import SplitParams, SyntheticParams
source = SyntheticSource(SyntheticParams(count=40), SplitParams(), seed=3)
print(hashlib.sha256(b"".join(source.sample(index).data for index in (39, 7, 8))).hexdigest())
"""
intensities = st.floats(0.2, 1)
shapes = st.lists(st.floats(-2, 2), min_size=len(SHAPE_UNITS), max_size=len(SHAPE_UNITS)).map(np.array)


def source(count: int = 40, seed: int = 3, **params: float) -> SyntheticSource:
    return SyntheticSource(SyntheticParams(count=count, **params), SplitParams(), seed)


def grey(label: str, difficulty: float, index: int = 0, size: int = 64) -> np.ndarray:
    data = draw(0, index, label, SyntheticParams(difficulty=difficulty, image_size=size))
    return decode(data, 1)[:, :, 0].astype(float)


# The data set


def test_an_image_is_the_same_in_any_order():
    forwards = list(source())
    backwards = [source().sample(index) for index in reversed(range(40))]
    assert forwards == backwards[::-1]
    assert len(forwards) == len(source()) == 40


def test_an_image_does_not_depend_on_how_many_are_drawn():
    assert source(count=40).sample(11) == source(count=4000).sample(11)


@pytest.mark.parametrize("threads", ["1", "3"])
def test_bytes_are_equal_in_another_process(threads):
    here = hashlib.sha256(b"".join(source().sample(index).data for index in (39, 7, 8))).hexdigest()
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": threads, "PYTHONHASHSEED": "5"}
    there = subprocess.run(
        [sys.executable, "-c", HASH_OF_IMAGES], capture_output=True, text=True, check=True, env=environment
    )
    assert there.stdout.strip() == here


def test_seeds_and_indices_give_different_images():
    images = [sample.data for seed in range(3) for sample in source(seed=seed)]
    assert len(set(images)) == len(images)


def test_paths_are_unique_and_name_split_and_label():
    samples = list(source())
    assert len({sample.path for sample in samples}) == len(samples)
    assert all(sample.path == f"{sample.split}/{sample.label}/{i:06d}.jpg" for i, sample in enumerate(samples))


def test_labels_are_mildly_imbalanced():
    counts = Counter(label_of(index) for index in range(8000))
    assert set(counts) == set(EMOTIONS) == {"angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"}
    assert max(counts.values()) / min(counts.values()) < 1.5
    assert counts["happy"] > counts["disgust"]


def test_every_person_shows_every_emotion_and_stands_in_one_split():
    people: dict[int, list] = {}
    for index, sample in enumerate(source(count=400, image_size=16)):
        people.setdefault(person_of(index), []).append(sample)
    assert all({sample.label for sample in samples} == set(EMOTIONS) for samples in people.values())
    assert all(len({sample.split for sample in samples}) == 1 for samples in people.values())
    assert {samples[0].split for samples in people.values()} == {"train", "val", "test"}


@given(seed=st.integers(0, 2**31 - 1), val=st.floats(0, 0.45), test=st.floats(0, 0.45), people=st.integers(1, 400))
def test_shares_of_the_splits_hold_even_for_few_people(seed, val, test, people):
    counts = Counter(split_of(number, seed, SplitParams(val=val, test=test)) for number in range(people))
    assert abs(counts["val"] - val * people) <= 3
    assert abs(counts["test"] - test * people) <= 3


@pytest.mark.parametrize("seed", range(5))
def test_a_small_set_has_every_label_in_every_split(seed):
    small = source(count=120, seed=seed, image_size=16)
    assert {(s.split, s.label) for s in small} == {(w, e) for w in ("train", "val", "test") for e in EMOTIONS}


@pytest.mark.parametrize("size", [16, 48, 64, 300])
def test_images_are_colour_jpegs_of_the_size_asked_for(size):
    header = read_header(source(image_size=size).sample(5).data)
    assert (header.width, header.height, header.mode, header.format) == (size, size, "RGB", "JPEG")


@pytest.mark.parametrize("index", [-1, 40])
def test_an_index_out_of_range_is_refused(index):
    with pytest.raises(IndexError, match="expected 0 to 39"):
        source().sample(index)


# Difficulty


def mean_over_shots(measure, difficulty: float) -> float:
    return float(np.mean([measure(sample_shot(np.random.default_rng(i), "fear", difficulty)) for i in range(200)]))


def own_intensity(shot) -> float:
    return float(np.mean([shot.actions[unit] for unit in EMOTIONS["fear"]]))


def stray_intensity(shot) -> float:
    return sum(value for unit, value in shot.actions.items() if unit not in (*EMOTIONS["fear"], 25, 43))


HARDER = {
    "fainter": lambda shot: -own_intensity(shot),
    "stray movements": stray_intensity,
    "turned": lambda shot: float(np.abs(shot.turn).sum()),
    "light": lambda shot: float(np.hypot(*shot.light)),
    "contrast": lambda shot: -shot.contrast,
    "blur": lambda shot: shot.blur,
    "noise": lambda shot: shot.noise,
    "compression": lambda shot: -shot.quality,
    "covered": lambda shot: float(shot.occluder is not None),
}


@pytest.mark.parametrize("hindrance", HARDER)
def test_difficulty_adds_to_every_hindrance(hindrance):
    levels = [mean_over_shots(HARDER[hindrance], difficulty) for difficulty in (0, 0.3, 0.6, 1)]
    assert levels == sorted(levels)
    assert levels[0] < levels[1] < levels[3]


def test_without_difficulty_an_emotion_is_its_action_units_at_full_intensity():
    for label, units in EMOTIONS.items():
        actions = sample_shot(np.random.default_rng(1), label, 0).actions
        assert {unit for unit, value in actions.items() if value and unit != 25} == set(units)
        assert all(actions[unit] == 1 for unit in units)


@given(seed=st.integers(0, 2**32), label=st.sampled_from(sorted(EMOTIONS)), difficulty=st.floats(0, 1))
def test_intensities_stay_between_zero_and_one(seed, label, difficulty):
    actions = sample_shot(np.random.default_rng(seed), label, difficulty).actions
    assert set(actions) == set(ACTION_UNITS)
    assert all(0 <= value <= 1 for value in actions.values())


def test_expressions_are_harder_to_tell_apart_when_difficult():
    def contrast_between_emotions(difficulty: float) -> float:
        faces = [np.stack([grey(label, difficulty, 8 * k) for label in EMOTIONS]) for k in range(12)]
        return float(np.mean([images.std(axis=0).mean() for images in faces]))

    assert contrast_between_emotions(1) < contrast_between_emotions(0)


# The face


def height(points: np.ndarray, curve: str, vertex: int | slice = slice(None)) -> float:
    """Upwards, unlike y."""
    return -float(np.mean(points[CURVES[curve]][vertex, 1]))


def gap(points: np.ndarray, upper: str, lower: str) -> float:
    middle = (CURVES[upper].stop - CURVES[upper].start) // 2
    return height(points, upper, middle) - height(points, lower, middle)


def mouth_width(points: np.ndarray) -> float:
    seam = points[CURVES["upper_lip_seam"]]
    return float(seam[-1, 0] - seam[0, 0])


MEASURES = {
    1: lambda p: height(p, "brow_top_l", 0),
    2: lambda p: height(p, "brow_top_r", -1),
    4: lambda p: -height(p, "brow_bottom_l", 0),
    5: lambda p: gap(p, "upper_lid_l", "lower_lid_l"),
    6: lambda p: height(p, "cheek_r"),
    7: lambda p: -gap(p, "upper_lid_r", "lower_lid_r"),
    9: lambda p: height(p, "nostril_l"),
    12: lambda p: height(p, "upper_lip_seam", 0) + height(p, "lower_lip_seam", -1),
    15: lambda p: -height(p, "upper_lip_seam", 0) - height(p, "lower_lip_seam", -1),
    16: lambda p: gap(p, "upper_lip_seam", "lower_lip_seam"),
    20: mouth_width,
    23: lambda p: -gap(p, "upper_lip_rim", "lower_lip_rim"),
    25: lambda p: gap(p, "upper_lip_seam", "lower_lip_seam"),
    26: lambda p: -height(p, "jaw", 11),
    43: lambda p: -gap(p, "upper_lid_l", "lower_lid_l"),
}
"""Action unit -> what FACS says grows with it."""


def test_every_action_unit_is_measured():
    assert set(MEASURES) == set(ACTION_UNITS)
    assert {unit for units in EMOTIONS.values() for unit in units} <= set(ACTION_UNITS)


@settings(max_examples=25)
@given(shape=shapes, intensity=intensities, asymmetry=st.floats(-0.5, 0.5))
@pytest.mark.parametrize("unit", MEASURES)
def test_an_action_unit_moves_what_it_is_named_for(unit, shape, intensity, asymmetry):
    measure = MEASURES[unit]
    rest, half, full = (measure(geometry({unit: i}, shape, asymmetry)) for i in (0, intensity / 2, intensity))
    assert rest < half < full


@settings(max_examples=25)
@given(shape=shapes, intensity=intensities)
def test_jaw_drop_opens_the_mouth_and_a_resting_mouth_is_closed(shape, intensity):
    assert gap(geometry({}, shape), "upper_lip_seam", "lower_lip_seam") == pytest.approx(0)
    assert gap(geometry({26: intensity}, shape), "upper_lip_seam", "lower_lip_seam") > 0.2 * intensity


@settings(max_examples=25)
@given(shape=shapes)
def test_a_smile_lifts_the_corners_above_the_middle_of_the_mouth(shape):
    smile = geometry({12: 1.0}, shape)
    assert height(smile, "upper_lip_seam", 0) > height(smile, "upper_lip_seam", 6)


def test_both_sides_of_the_face_mirror_each_other():
    points = geometry(dict.fromkeys(ACTION_UNITS, 1.0), np.ones(len(SHAPE_UNITS)))
    for name in CURVES:
        if name.endswith("_r"):
            mirrored = points[CURVES[name[:-1] + "l"]] * (-1, 1, 1)
            np.testing.assert_allclose(points[CURVES[name]], mirrored, atol=1e-12)


def test_asymmetry_moves_one_side_more():
    points = geometry({2: 1.0}, asymmetry=0.5)
    assert height(points, "brow_top_r", -1) > height(points, "brow_top_l", -1)


# The drawing


def test_an_open_mouth_is_seen_in_the_picture():
    lower_half = np.s_[36:60, 22:42]
    difference = np.abs(grey("surprise", 0)[lower_half] - grey("neutral", 0)[lower_half])
    assert difference.mean() > 4 * np.abs(grey("surprise", 0)[:16] - grey("neutral", 0)[:16]).mean()


@pytest.mark.parametrize("name", OCCLUDERS)
def test_an_occluder_covers_part_of_the_picture(name):
    from dataclasses import replace

    shot = replace(sample_shot(np.random.default_rng(2), "happy", 0), place=np.full(3, 0.5))
    bare = render(person(0, 1), replace(shot, occluder=None), 64).astype(float)
    covered = render(person(0, 1), replace(shot, occluder=name), 64).astype(float)
    changed = (np.abs(covered - bare).max(axis=2) > 20).mean()
    assert 0.01 < changed < 0.6


def test_a_person_keeps_the_same_features_in_all_pictures():
    assert person_of(0) == person_of(IMAGES_PER_PERSON - 1) != person_of(IMAGES_PER_PERSON)
    first, again = person.__wrapped__(5, 9), person.__wrapped__(5, 9)
    np.testing.assert_array_equal(first.shape, again.shape)
    assert first.skin == again.skin
    assert first.skin != person(5, 10).skin


def test_skin_tones_span_light_to_dark():
    brightness = [sum(person(0, number).skin) / 3 for number in range(200)]
    assert min(brightness) < 75
    assert max(brightness) > 190
