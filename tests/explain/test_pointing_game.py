"""The pointing game's regions lie where faces are drawn, and its scores are what they say."""

import numpy as np
import pytest

from benchmarks.pointing_game import Faces, draw_faces, faces_of_test_split, regions, score
from emotion_detection.data.sources.synthetic import landmarks
from emotion_detection.errors import ParamsError
from emotion_detection.params import SyntheticParams, parse_params

SIZE = 64


@pytest.fixture(scope="module")
def colour() -> Faces:
    return draw_faces(SyntheticParams(difficulty=0.3, image_size=SIZE), list(range(48)), seed=5, size=SIZE, channels=3)


def test_masks_lie_on_what_is_drawn(colour):
    red, green, _ = np.moveaxis(colour.images.astype(float), 3, 0)
    grey = colour.images.mean(axis=3)
    skin = ~colour.masks["background"] & ~colour.masks["features"]
    for index in range(len(colour.images)):
        where = {name: mask[index] for name, mask in colour.masks.items()} | {"skin": skin[index]}
        redness = {name: (red - green)[index][mask].mean() for name, mask in where.items()}
        assert redness["mouth"] > redness["background"]
    darker = [grey[i][colour.masks["brows"][i]].mean() < grey[i][skin[i]].mean() for i in range(len(grey))]
    assert np.mean(darker) > 0.8  # but for those with fair hair


def test_regions_are_disjoint_and_where_a_face_has_them(colour):
    masks = colour.masks
    assert not (masks["features"] & masks["background"]).any()
    assert not (masks["eyes"] & masks["mouth"]).any()
    np.testing.assert_array_equal(masks["features"], masks["brows"] | masks["eyes"] | masks["mouth"])
    rows = {name: [np.argwhere(mask)[:, 0].mean() for mask in masks[name]] for name in ("brows", "eyes", "mouth")}
    assert (np.array(rows["brows"]) < rows["eyes"]).all()
    assert (np.array(rows["eyes"]) < rows["mouth"]).all()
    assert 0.3 < masks["background"].mean() < 0.6


def test_landmarks_are_those_of_the_image_itself():
    """Where the mouth opens, its mask grows with it."""
    params = SyntheticParams(difficulty=0.0, image_size=SIZE)
    closed, wide = (regions(landmarks(0, 3, label, params), SIZE)["mouth"].sum() for label in ("angry", "surprise"))
    assert wide > 1.5 * closed


def test_score_of_maps_that_are_known():
    masks = np.zeros((4, 48, 48), bool)
    masks[:3, 10:20, 10:20] = True
    masks[3, :10, :10] = True
    heat = np.zeros((4, 48, 48), np.float32)
    heat[0, 15, 15] = 1  # inside
    heat[1, 21, 15] = 1  # within the tolerance of two pixels
    heat[2, 40, 40] = 1  # outside; the fourth has no heat at all
    found = score(heat, masks)
    assert found.hits == 0.5
    assert found.heat == 0.25
    assert found.area == pytest.approx(100 / 48**2)
    assert found.area < found.chance < 2.1 * found.area


def test_constant_and_random_maps_score_by_chance(colour):
    random = np.random.default_rng(0).random((48, SIZE, SIZE)).astype(np.float32)
    found = score(random, colour.masks["features"])
    assert found.heat == pytest.approx(found.area, abs=0.01)
    many = np.repeat(colour.masks["features"][:1], 3000, axis=0)
    found = score(np.random.default_rng(1).random(many.shape).astype(np.float32), many)
    assert found.hits == pytest.approx(found.chance, abs=0.03)


@pytest.mark.parametrize(
    ("data", "message"),
    [({"source": "faces.zip"}, r"data\.source: found 'faces\.zip'"), ({"synthetic": {"count": 80}}, "--faces 50")],
)
def test_what_has_no_landmarks_is_refused(data, message):
    params = parse_params({"data": data, "models": {"lenet": {"architecture": "lenet"}}})
    with pytest.raises(ParamsError, match=message):
        faces_of_test_split(params, 50)
