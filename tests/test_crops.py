"""What the model sees of a picture: which faces, cut how, and how good they are."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from emotion_detection.crops import Cutter, How
from emotion_detection.face_quality import Quality, measure
from emotion_detection.faces import Box, Face, FaceFinder
from emotion_detection.preprocess import Pixels, decode, fit, prepare
from tests.drawn_photos import drawn, encoded, photo, turned

SIZE = 48
CUTTER = Cutter(FaceFinder())
WHOLE = Face(Box(0, 0, 640, 480), None, None)


def at(*boxes: Box) -> Cutter:
    """A cutter whose faces are known."""
    return Cutter(lambda _: [Face(box, None, "cascade") for box in boxes])


def never(_: Pixels) -> list[Face]:
    raise AssertionError("the picture was searched")


@pytest.mark.parametrize(("how", "count"), [("auto", 3), ("all", 3), ("largest", 1), ("none", 1)])
def test_how_decides_which_faces_are_cut(how: How, count: int) -> None:
    cut = CUTTER.cut(photo(), SIZE, how)
    assert (cut.width, cut.height) == (640, 480)
    assert len(cut.crops) == count
    assert cut.images.shape == (count, SIZE, SIZE, 3)
    assert cut.images.dtype == np.uint8
    if how == "none":
        assert cut.crops[0].face == WHOLE
        np.testing.assert_array_equal(cut.images[0], fit(photo(), SIZE))
    else:
        assert [crop.face for crop in cut.crops] == CUTTER.find(photo())[:count]


def test_where_nobody_is_there_auto_takes_the_whole_picture_and_all_takes_nothing() -> None:
    empty = photo(places=())
    assert [crop.face for crop in CUTTER.cut(empty, SIZE, "auto").crops] == [WHOLE]
    for how in ("all", "largest"):
        cut = CUTTER.cut(empty, SIZE, how)
        assert cut.crops == []
        assert cut.images.shape == (0, SIZE, SIZE, 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_auto_never_searches_what_is_small(channels: int) -> None:
    cutter = Cutter(never)
    for size in [(2 * SIZE, 2 * SIZE), (SIZE, SIZE), (1, 1), (3, 96)]:
        data = encoded(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))
        cut = cutter.cut_file(data, SIZE, channels, "auto")
        np.testing.assert_array_equal(cut.images[0], prepare(data, SIZE, channels))
    with pytest.raises(AssertionError, match="was searched"):
        cutter.cut(np.zeros((2 * SIZE + 1, SIZE, 3), np.uint8), SIZE, "auto")


def test_auto_takes_a_face_that_fills_the_picture_for_one_already_cut() -> None:
    face = cv2.resize(drawn(0), (300, 300), interpolation=cv2.INTER_CUBIC)
    found = CUTTER.find(face)
    assert len(found) == 1
    assert CUTTER.cut(face, SIZE, "auto").crops[0].face == Face(Box(0, 0, 300, 300), None, None)
    assert CUTTER.cut(face, SIZE, "all").crops[0].face == found[0]


@pytest.mark.parametrize(("side", "whole"), [(200, True), (150, False)])
def test_already_cut_is_decided_by_the_share_that_the_crop_covers(side: int, whole: bool) -> None:
    cutter = at(Box(130 - side // 2, 130 - side // 2, side, side))
    [crop] = cutter.cut(np.zeros((260, 260, 1), np.uint8), SIZE, "auto").crops
    assert (crop.face.detector is None) == whole


def test_a_crop_is_the_square_around_its_box() -> None:
    picture = np.zeros((200, 300, 1), np.uint8)
    picture[60:160, 100:200] = 255  # the square of side 100 around (150, 110)
    cut = replace(at(Box(130, 60, 40, 100)), scale=100 / 4000**0.5).cut(picture, 20, "all")
    np.testing.assert_array_equal(cut.images[0], 255)
    assert cut.crops[0].quality.size == 100
    wider = replace(at(Box(130, 60, 40, 100)), scale=120 / 4000**0.5).cut(picture, 20, "all")
    assert wider.images[0][0].max() < 255
    assert wider.images[0][10, 10] == 255


def test_beyond_the_edge_the_picture_goes_on_as_it_ends() -> None:
    ramp = np.tile(np.arange(100, dtype=np.uint8)[:, np.newaxis, np.newaxis], (1, 100, 3))
    box = Box(90, 90, 10, 10)
    cutter = replace(at(box), scale=4)
    cut = cutter.cut(ramp, 40, "all")
    expected = np.minimum(np.arange(75, 115), 99)
    np.testing.assert_array_equal(cut.images[0][:, 20, 0], expected)
    np.testing.assert_array_equal(cut.images[0][:, 39, 0], expected)


@pytest.mark.parametrize("box", [Box(0, 0, 1, 1), Box(99, 49, 1, 1), Box(0, 0, 100, 50), Box(0, 49, 100, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_box_can_be_cut(box: Box, channels: int) -> None:
    cut = replace(at(box), scale=2).cut(np.full((50, 100, channels), 7, np.uint8), SIZE, "all")
    np.testing.assert_array_equal(cut.images, np.full((1, SIZE, SIZE, channels), 7))


def test_the_largest_faces_are_kept_where_there_are_too_many() -> None:
    places = [(x, y, 100) for y in range(0, 900, 110) for x in range(0, 900, 110)]
    crowd = photo([(0, 0, 160), *[place for place in places if min(place[:2]) >= 220]], (990, 990))
    finder = FaceFinder(side=990)
    assert len(finder(crowd)) > 32
    cut = Cutter(finder, max_faces=5).cut(crowd, SIZE, "all")
    assert [crop.face for crop in cut.crops] == finder(crowd)[:5]
    assert cut.crops[0].face.box.x < 160


def test_the_same_picture_in_other_files_gives_the_same_crops() -> None:
    expected = CUTTER.cut_file(encoded(photo()), SIZE, 3)
    assert len(expected.images) == 3
    for data in (turned(photo(), 6), encoded(photo(), "TIFF"), encoded(photo(), mode="RGBA")):
        cut = CUTTER.cut_file(data, SIZE, 3)
        assert cut.crops == expected.crops
        np.testing.assert_array_equal(cut.images, expected.images)


def test_a_grey_model_sees_what_training_would_even_where_faces_are_found_in_colour() -> None:
    searched: list[Pixels] = []

    def find(picture: Pixels) -> list[Face]:
        searched.append(picture)
        return [Face(Box(40, 60, 180, 180), 0.9, "yunet")]

    data = encoded(photo(), "JPEG")
    cut = Cutter(find, sees_colour=True).cut_file(data, SIZE, 1, "all")
    assert searched[0].shape == (480, 640, 3)
    expected = decode(data, 1)[51:249, 31:229]
    np.testing.assert_array_equal(cut.images[0], fit(expected, SIZE))


def grey(values: Pixels) -> Quality:
    return measure(values[..., np.newaxis], values.shape[0])


def test_quality_is_measured_as_documented() -> None:
    noise = np.random.default_rng(0).integers(60, 200, (48, 48), np.uint8)
    quality = grey(noise)
    assert quality.brightness == pytest.approx(noise.mean())
    assert quality.contrast == pytest.approx(noise.std())
    padded = np.pad(noise.astype(int), 1, mode="reflect")
    laplacian = padded[2:, 1:-1] + padded[:-2, 1:-1] + padded[1:-1, 2:] + padded[1:-1, :-2] - 4 * padded[1:-1, 1:-1]
    assert quality.sharpness == pytest.approx(laplacian.var())
    assert quality.reasons == ()
    assert quality.ok


def test_poor_faces_are_called_so_with_the_reason() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (48, 48)).astype(np.uint8)
    good = fit(drawn(0), 48)
    assert measure(good, 128).reasons == ()
    assert measure(good, 23).reasons == ("too_small",)
    assert grey(noise // 8).reasons == ("too_dark", "low_contrast")
    assert grey(255 - noise // 4).reasons == ("too_bright", "low_contrast")
    ramp = grey(np.tile(np.linspace(40, 210, 48).astype(np.uint8), (48, 1)))
    assert ramp.reasons == ("blurred",)
    assert not ramp.ok


def test_quality_hardly_depends_on_the_size_of_the_models_input() -> None:
    small, large = (measure(fit(drawn(0), size), 128) for size in (48, 96))
    assert small.brightness == pytest.approx(large.brightness, abs=1)
    assert small.sharpness == pytest.approx(large.sharpness, rel=0.2)
