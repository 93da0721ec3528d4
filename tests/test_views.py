"""One face seen in several ways: the averages of known models, and a mirror image in Keras and ONNX."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from emotion_detection.views import mirror, ten_crops, view_logits

Images = NDArray[np.uint8]
SIZE = 48


def image() -> Images:
    """(1, 48, 48, 1): how far right a pixel stands, and a bright spot below, left of the middle."""
    found = np.tile(np.arange(SIZE, dtype=np.uint8), (SIZE, 1))
    found[30, 18] = 255
    return found[np.newaxis, ..., np.newaxis]


def at(y: int, x: int) -> object:
    """A model that answers what stands at one place."""
    return lambda images: images[:, y, x].astype(np.float32)


def test_the_crops_are_corners_and_centre_scaled_up_and_each_mirrored() -> None:
    """A ramp of 48 columns: a crop begins at column 0, 2 or 4 and rises by 44/48 a column."""
    crops = list(ten_crops(image()))
    assert len(crops) == 10
    for crop, start in zip(crops[::2], (0, 4, 0, 4, 2), strict=True):
        columns = start + (np.arange(SIZE) + 0.5) * 44 / 48 - 0.5  # bilinear, by the middles of pixels
        np.testing.assert_allclose(crop[0, 4, 1:-1, 0], columns[1:-1], atol=0.7)
    for crop, mirrored in zip(crops[::2], crops[1::2], strict=True):
        np.testing.assert_array_equal(mirrored, crop[:, :, ::-1])
    rows = [np.unravel_index(crop[0, ..., 0].argmax(), (SIZE, SIZE))[0] for crop in crops[::2]]
    assert rows == pytest.approx([(30.5 - top) * 48 / 44 - 0.5 for top in (0, 0, 4, 4, 2)], abs=1)


def test_a_model_that_answers_by_place_gives_the_known_averages() -> None:
    """Of a ramp, columns 10 and 37 (its mirror image) add up to 47 in any crop that is mirrored, too."""
    predict = at(4, 10)
    views = view_logits(predict, image(), predict(image()), ten_crop=True)  # type: ignore[operator, arg-type]
    assert {name: logits.item() for name, logits in views.items()} == pytest.approx(
        {"single": 10.0, "flip": (10 + 37) / 2, "ten_crop": 23.5}, abs=0.3
    )
    starts = np.array([0, 4, 0, 4, 2])
    single = np.mean(starts + 10.5 * 44 / 48 - 0.5)
    crops = np.mean([predict(crop).item() for crop in list(ten_crops(image()))[::2]])  # type: ignore[operator]
    assert crops == pytest.approx(single, abs=0.3)


def test_without_ten_crops_there_are_two_views_and_one_call() -> None:
    calls: list[int] = []

    def predict(images: Images) -> NDArray[np.float32]:
        calls.append(len(images))
        return images[:, 0, 0].astype(np.float32)

    assert list(view_logits(predict, image(), predict(image()), ten_crop=False)) == ["single", "flip"]
    assert calls == [1, 1]


@pytest.mark.parametrize("architecture", ["lenet", "vit"])
def test_a_model_asked_with_the_mirror_image_answers_both_alike(architecture: str) -> None:
    from emotion_detection.export import convert
    from emotion_detection.inference import asked, predict_logits
    from tests.test_export import dataset, pixels, report, trained

    model, images = trained(architecture), pixels(9)
    served = asked(model, flip_average=True)
    logits, mirrored = (predict_logits(served, faces, quiet=True) for faces in (images, mirror(images)))
    np.testing.assert_allclose(logits, mirrored, atol=1e-5)
    single = [predict_logits(model, faces, quiet=True) for faces in (images, mirror(images))]
    np.testing.assert_allclose(logits, np.mean(single, axis=0), atol=1e-5)
    assert np.abs(single[0] - single[1]).max() > 1
    graph = convert(served, dataset(), report(), 18).SerializeToString()
    assert len(graph) < 4 * model.count_params() + 20_000  # bytes: each weight once
    session = ort.InferenceSession(graph)
    found, other = (session.run(None, {"image": faces})[0] for faces in (images, mirror(images)))
    np.testing.assert_allclose(found, other, atol=1e-6)
    powers = np.exp((logits - logits.max(axis=1, keepdims=True)) / report().temperature)
    np.testing.assert_allclose(found, powers / powers.sum(axis=1, keepdims=True), atol=1e-5)


def test_a_model_asked_as_it_is_is_itself() -> None:
    from emotion_detection.inference import asked
    from tests.test_export import trained

    model = trained()
    assert asked(model, flip_average=False) is model
