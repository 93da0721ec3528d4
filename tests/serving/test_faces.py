"""POST /detect?faces=...: which faces are judged, where they are, and what is said of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from emotion_detection.crops import Cutter, How
from emotion_detection.face_model import NAME
from emotion_detection.faces import FaceFinder
from serving.schemas import Detection
from serving.settings import SettingsError, load_settings
from tests.drawn_photos import PLACES, drawn, encoded, photo, turned
from tests.serving.test_detect import assert_problem
from tests.serving.test_metrics import value
from tests.serving.tiny import LABELS, SIZE, TinyBundle, encode

PHOTO = encoded(photo())
REAL = Path(os.environ.get("REAL_DATA_DIR", ".")) / NAME
QUALITY = ("size", "brightness", "contrast", "sharpness")


def ask(client: TestClient, data: bytes, faces: How | None = None) -> dict[str, Any]:
    answer = client.post("/detect", params={"faces": faces} if faces else {}, content=data)
    assert answer.status_code == 200, answer.text
    Detection.model_validate_json(answer.text, extra="forbid")
    return dict(answer.json())


def boxes(answer: dict[str, Any]) -> list[tuple[int, ...]]:
    return [tuple(face["box"].values()) for face in answer["faces"]]


@pytest.mark.parametrize("faces", ["auto", "all", "largest", "none", None])
def test_every_face_is_answered_as_its_crop_would_be(client: TestClient, tiny: TinyBundle, faces: How | None) -> None:
    cut = Cutter(FaceFinder()).cut_file(PHOTO, SIZE, 1, faces or "auto")
    answer = ask(client, PHOTO, faces)
    assert answer["image"] == {"width": 640, "height": 480}
    assert len(answer["faces"]) == {"largest": 1, "none": 1}.get(faces or "auto", 3)
    assert boxes(answer) == [crop.face.box for crop in cut.crops]
    for found, crop, image in zip(answer["faces"], cut.crops, cut.images, strict=True):
        expected = tiny.expected(encoded(image[:, :, 0]))
        np.testing.assert_allclose([found["probabilities"][label] for label in LABELS], expected, atol=1e-5)
        assert found["label"] == LABELS[expected.argmax()]
        assert found["confidence"] == max(found["probabilities"].values())
        assert (found["detector"], found["score"]) == (None if faces == "none" else "cascade", None)
        assert [found["quality"][name] for name in QUALITY] == pytest.approx(crop.quality[:4], rel=1e-5)
        assert (found["quality"]["reasons"], found["quality"]["ok"]) == (list(crop.quality.reasons), crop.quality.ok)


def test_clients_of_a_single_face_find_the_largest_at_the_top(client: TestClient) -> None:
    answer = ask(client, PHOTO)
    largest = max(answer["faces"], key=lambda face: face["box"]["width"] * face["box"]["height"])
    for key in ("label", "confidence", "probabilities"):
        assert answer[key] == largest[key]
    assert answer["faces"][0] == largest


@pytest.mark.parametrize("faces", ["all", "largest"])
def test_no_face_is_a_fine_answer(client: TestClient, faces: How) -> None:
    answer = ask(client, encoded(photo(places=())), faces)
    assert (answer["label"], answer["confidence"], answer["probabilities"], answer["faces"]) == (None, None, None, [])
    assert answer["image"] == {"width": 640, "height": 480}
    assert answer["model"]["name"] == "tiny"


def test_by_default_an_image_without_a_face_is_judged_as_a_whole(client: TestClient, tiny: TinyBundle) -> None:
    data = encoded(photo(places=()))
    answer = ask(client, data)
    assert boxes(answer) == [(0, 0, 640, 480)]
    np.testing.assert_allclose([answer["probabilities"][label] for label in LABELS], tiny.expected(data), atol=1e-5)


@pytest.mark.parametrize("data", [encode(size=(1, 1)), encode(size=(2 * SIZE, SIZE)), encode(size=(3, 400))])
def test_tiny_images_have_answers_in_every_way(client: TestClient, data: bytes) -> None:
    assert len(ask(client, data)["faces"]) == len(ask(client, data, "none")["faces"]) == 1
    assert ask(client, data, "all")["faces"] == []


def test_a_huge_image_has_its_boxes_in_its_own_pixels(client: TestClient) -> None:
    scene = np.kron(photo(PLACES[:1], (320, 320)), np.ones((12, 12, 1), np.uint8))
    [(x, y, width, height)] = boxes(ask(client, encoded(scene, "JPEG"), "all"))
    [(place_x, place_y, side)] = [tuple(12 * edge for edge in place) for place in PLACES[:1]]
    assert place_x <= x < x + width <= place_x + side
    assert place_y <= y < y + height <= place_y + side


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_turned_image_has_the_same_answer(client: TestClient, orientation: int) -> None:
    grey = np.repeat(photo()[..., 1:2], 3, axis=2)  # of colours, Pillow and OpenCV round the grey differently
    upright, found = ask(client, encoded(grey), "all"), ask(client, turned(grey, orientation), "all")
    assert len(found["faces"]) == 3
    assert found["image"] == upright["image"]
    assert found["faces"] == upright["faces"]


@pytest.mark.parametrize(("form", "mode"), [("PNG", "RGBA"), ("PNG", "L"), ("PNG", "I;16"), ("TIFF", "CMYK")])
def test_odd_modes_are_searched_as_well(client: TestClient, form: str, mode: str) -> None:
    assert len(ask(client, encoded(photo(), form, mode), "all")["faces"]) == 3


def test_more_faces_than_allowed_leave_the_smallest_out(start: Callable[..., TestClient], tiny: TinyBundle) -> None:
    client = start(bundle=tiny.directory, max_faces=2)
    everyone = ask(start(bundle=tiny.directory), PHOTO, "all")
    assert ask(client, PHOTO, "all")["faces"] == everyone["faces"][:2]


def test_a_crowd_is_judged_in_several_runs(start: Callable[..., TestClient], tiny: TinyBundle) -> None:
    places = [(x, y, 100) for y in range(10, 380, 110) for x in range(10, 540, 110)]
    crowd = encoded(photo(places))
    few, many = start(bundle=tiny.directory, max_batch=2), start(bundle=tiny.directory)
    answer = ask(few, crowd, "all")
    assert len(answer["faces"]) >= 10
    assert answer["faces"] == ask(many, crowd, "all")["faces"]


def test_several_images_each_have_their_faces(client: TestClient) -> None:
    images = [PHOTO, b"no image", encoded(photo(places=())), encode(), encoded(photo(PLACES[:1], (400, 400)))]
    form = [("file", (str(number), data)) for number, data in enumerate(images)]
    found = client.post("/detect?faces=all", files=form).json()
    assert [len(item["faces"]) if "faces" in item else item["status"] for item in found] == [3, 415, 0, 0, 1]
    assert found[0]["faces"] == ask(client, PHOTO, "all")["faces"]


@pytest.mark.parametrize("query", ["faces=some", "faces=", "faces=ALL", "faces=all&faces=none", "face=all"])
def test_a_wrong_choice_is_422(client: TestClient, query: str) -> None:
    assert_problem(client.post(f"/detect?{query}", content=PHOTO), 422, "invalid-request")


def test_the_choice_is_documented(client: TestClient) -> None:
    parameters = client.get("/openapi.json").json()["paths"]["/detect"]["post"]["parameters"]
    [parameter] = (parameter for parameter in parameters if parameter["name"] == "faces")
    assert (parameter["in"], parameter["schema"]["default"]) == ("query", "auto")
    assert set(parameter["schema"]["enum"]) == {"auto", "all", "largest", "none"}
    assert "cut out already" in parameter["description"]


def test_the_documented_example_is_a_valid_answer(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()["components"]["schemas"]["Detection"]
    [example] = schema["examples"]
    parsed = Detection.model_validate(example, extra="forbid")
    assert parsed.faces[0].label == parsed.label


def test_threads_do_not_mix_up_each_others_faces(start: Callable[..., TestClient], tiny: TinyBundle) -> None:
    client = start(bundle=tiny.directory, workers=4)
    scenes = [photo(), np.ascontiguousarray(photo()[:, ::-1]), photo(PLACES[1:]), photo(())]
    images = [encoded(scene) for scene in scenes]
    alone = [ask(client, data, "all")["faces"] for data in images]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda data: ask(client, data, "all")["faces"], images * 6))
    assert together == alone * 6


def test_faces_and_their_quality_are_measured(client: TestClient) -> None:
    stages = {"stage": "faces"}
    names = ["emotion_faces_per_image", *(f"emotion_face_{name}" for name in ("size_pixels", *QUALITY[1:]))]
    assert [value(client, f"{name}_count") for name in names] == [0] * 5
    assert value(client, "emotion_stage_duration_seconds_count", **stages) == 0
    faces = ask(client, PHOTO)["faces"]
    assert [value(client, f"{name}_count") for name in names] == [1, 3, 3, 3, 3]
    assert value(client, "emotion_faces_per_image_sum") == 3
    for name, quality in zip(names[1:], QUALITY, strict=True):
        assert value(client, f"{name}_sum") == pytest.approx(sum(face["quality"][quality] for face in faces), rel=1e-4)
    assert value(client, "emotion_stage_duration_seconds_count", **stages) == 1
    assert sum(value(client, "emotion_prediction_confidence_count", model_version=v) for v in [version(client)]) == 3
    ask(client, encode(size=(2 * SIZE, 2 * SIZE)))
    assert value(client, "emotion_stage_duration_seconds_count", **stages) == 1


def version(client: TestClient) -> str:
    return str(client.get("/readyz").json()["version"])


def test_a_wrong_face_model_is_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings().face_model is None
    (tmp_path / NAME).write_bytes(b"another")
    monkeypatch.setenv("EMOTION_FACE_MODEL", NAME)
    with pytest.raises(SettingsError, match=f"EMOTION_FACE_MODEL or --face-model: found .*{NAME}: SHA-256 is"):
        load_settings()


@pytest.mark.skipif(not REAL.exists(), reason=f"REAL_DATA_DIR names no folder with {NAME}")
def test_with_its_file_yunet_finds_the_faces(
    start: Callable[..., TestClient], tiny: TinyBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = ask(start(bundle=tiny.directory, face_model=REAL), PHOTO)["faces"]
    assert len(faces) == 3
    assert all(face["detector"] == "yunet" and 0.7 <= face["score"] <= 1 for face in faces)
    monkeypatch.chdir(tmp_path)
    Path(".cache/faces").mkdir(parents=True)
    (Path(".cache/faces") / NAME).symlink_to(REAL.resolve())
    settings = load_settings()
    assert settings.face_model == Path(".cache/faces") / NAME
    whole = ask(start(bundle=tiny.directory, face_model=REAL), encoded(drawn(0)[:40, :40]))
    assert whole["faces"][0]["detector"] is None
