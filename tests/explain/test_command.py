"""`emotion explain` on a finished model and on its bundle."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emotion_detection.explain.subjects import bundled, trained
from emotion_detection.params import load_params
from emotion_detection.preprocess import encode_png
from tests.test_cli import as_json, fail, succeed
from tests.workspace import LABELS, MODEL

pytestmark = pytest.mark.usefixtures("images")


@pytest.fixture
def images(finished, test_images) -> list[str]:
    for number in range(3):
        (finished / f"face{number}.png").write_bytes(encode_png(test_images[number]))
    return ["face0.png", "face1.png", "face2.png"]


@pytest.mark.parametrize("subject", [("--model", MODEL), ("--bundle", f"bundles/{MODEL}")])
def test_answers_are_those_of_the_model_and_a_picture_is_there(subject, images, test_images):
    found = as_json("explain", *images, *subject, "--output", "why.png")
    expected = bundled(Path("bundles", MODEL)).predict(test_images[:3])
    assert found["picture"] == "why.png"
    for record, row in zip(found["images"], expected, strict=True):
        assert record["answer"] == LABELS[row.argmax()]
        assert record["explained_by"] == "grad_cam"
        assert list(record["probabilities"].values()) == pytest.approx(row.tolist(), abs=1e-4)
    with Image.open("why.png") as picture:
        assert picture.width > 500


def test_a_table_is_for_people(images):
    text = succeed("explain", *images[:2], "--model", MODEL, "--class", "sad")
    assert {"face0.png", "face1.png", *LABELS} <= set(text.replace("│", " ").replace("┃", " ").split())
    assert "picture: explanation.png" in text


@pytest.mark.parametrize("method", ["grad_cam", "occlusion", "features"])
def test_methods_are_chosen_by_name(method, images):
    found = as_json("explain", images[0], "--model", MODEL, "--method", method)
    assert found["images"][0]["explained_by"] == method
    assert Path("explanation.png").exists()


def test_model_and_bundle_give_the_same_maps(finished, test_images):
    targets = np.arange(5) % 3
    (first, from_keras), (second, from_onnx) = (
        subject.explain(test_images[:5], targets, None)
        for subject in (trained(MODEL, load_params()), bundled(finished / "bundles" / MODEL))
    )
    assert first == second == "grad_cam"
    np.testing.assert_allclose(from_keras, from_onnx, atol=1e-3)


MISTAKES = {
    "give one of --model NAME": [],
    "models.other: no such model": ["--model", "other"],
    "bundles/none/bundle.json: No such file": ["--bundle", "bundles/none"],
    "--class: found 'sleepy'; bundles/small knows angry, happy, sad": [
        "--bundle",
        "bundles/small",
        "--class",
        "sleepy",
    ],
    "cannot be explained by attention_rollout; what fits is grad_cam and occlusion": [
        "--bundle",
        "bundles/small",
        "--method",
        "rollout",
    ],
    "a bundle holds no feature maps": ["--bundle", "bundles/small", "--method", "features"],
    "--output: found 'why.jpg'; expected a .png file": ["--bundle", "bundles/small", "--output", "why.jpg"],
    "absent.png: No such file": ["absent.png", "--bundle", "bundles/small"],
    "params.yaml: the bytes are no image": ["params.yaml", "--bundle", "bundles/small"],
    "found 2 images, give one": ["face1.png", "--model", "small", "--method", "features"],
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes_are_one_clear_line(message):
    error = fail("explain", "face0.png", *MISTAKES[message])
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not Path("explanation.png").exists()


def test_an_image_of_any_size_is_made_to_fit():
    Image.new("RGB", (300, 200), "white").save("wide.jpg")
    found = as_json("explain", "wide.jpg", "--bundle", f"bundles/{MODEL}")
    assert set(found["images"][0]["probabilities"]) == set(LABELS)


def test_images_of_the_data_set_may_be_as_large_as_it_allows(finished):
    params = finished / "params.yaml"
    text = params.read_text()
    params.write_text(text.replace("data: {", "data: {max_pixels: 59999, ", 1))
    Image.new("RGB", (300, 200), "white").save("wide.jpg")
    assert "wide.jpg: 300 x 200 pixels; at most 59999" in fail("explain", "wide.jpg", "--model", MODEL)
