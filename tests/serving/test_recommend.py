"""GET /recommend; what it chooses from is tested in test_catalogue.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from openapi_spec_validator import validate

from emotion_detection.errors import EmotionError
from serving.app import create_app
from serving.catalogue import SHIPPED, read_catalogue
from serving.settings import Settings
from tests.serving.test_detect import assert_problem
from tests.serving.tiny import TinyBundle, write_bundle


@pytest.fixture
def client(tiny: TinyBundle, start: Callable[..., TestClient], tmp_path: Path) -> TestClient:
    songs = tmp_path / "songs.csv"
    songs.write_text("title,artist,emotion,distance\nOne,A,happy,0\nTwo,B,happy,0.5\nThree,C,sad,1\n")
    return start(bundle=tiny.directory, catalogue=songs)


def test_a_session_of_ones_own_hears_no_song_twice(client: TestClient) -> None:
    answers = [client.get("/recommend", params={"emotion": "happy", "session": "me"}) for _ in range(2)]
    assert {answer.json()["title"] for answer in answers} == {"One", "Two"}
    assert [answer.json()["left"] for answer in answers] == [1, 0]
    assert answers[0].headers["Cache-Control"] == "no-store"


def test_the_session_of_an_answer_goes_on(client: TestClient) -> None:
    first = client.get("/recommend?emotion=happy").json()
    second = client.get("/recommend", params={"emotion": "happy", "session": first["session"]}).json()
    assert second["session"] == first["session"]
    assert {first["title"], second["title"]} == {"One", "Two"}
    assert client.get("/recommend?emotion=sad").json() | {"session": ""} == {
        "emotion": "sad", "title": "Three", "artist": "C", "distance": 1, "session": "", "left": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("emotion=bored", ["'bored'", "knows happy, sad"]),
        ("", ["emotion"]),
        ("emotion=happy&session=a%20b", ["session"]),
        ("emotion=happy&session=", ["session"]),
        ("emotion=happy&session=" + "x" * 65, ["session"]),
        ("emotion=happy&mood=1", ["mood"]),
    ],
)
def test_a_wrong_parameter_is_named(client: TestClient, query: str, words: list[str]) -> None:
    assert_problem(client.get(f"/recommend?{query}"), 422, "invalid-request", *words)


def test_it_needs_no_model_and_has_songs_of_its_own(start: Callable[..., TestClient], tmp_path: Path) -> None:
    client = start(bundle=tmp_path, ready=False)
    answer = client.get("/recommend?emotion=happy").json()
    shipped = read_catalogue(SHIPPED)["happy"]
    assert answer["title"] in {song.title for song in shipped}
    assert answer["left"] == len(shipped) - 1


def test_a_wrong_catalogue_keeps_the_application_from_starting(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    with pytest.raises(EmotionError, match=r"nowhere\.csv"):
        create_app(Settings(bundle=bundle.directory, catalogue=tmp_path / "nowhere.csv"))


def test_every_route_is_documented_with_its_answers_and_problems(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    validate(schema)
    paths, parts = schema["paths"], schema["components"]["schemas"]
    explain = paths["/explain"]["post"]
    assert {parameter["name"] for parameter in explain["parameters"]} == {"faces", "class", "format", "overlay"}
    assert set(explain["responses"]["200"]["content"]) == {"image/png", "application/json"}
    assert set(explain["responses"]) >= {"200", "400", "413", "415", "422", "503"}
    assert "no-face" in explain["responses"]["422"]["content"]["application/problem+json"]["examples"]
    assert set(paths["/stream"]["get"]["responses"]) >= {"101", "403", "422", "426", "503"}
    infer = paths["/v2/models/{name}/infer"]["post"]
    assert set(infer["requestBody"]["content"]["application/json"]["examples"]) == {"image", "image_bytes"}
    assert infer["responses"]["400"]["content"]["application/json"]["schema"]["$ref"].endswith("/Error")
    assert set(infer["responses"]["200"]["content"]) == {"application/json", "application/octet-stream"}
    for name in ("Explanation", "Recommendation"):
        assert parts[name]["examples"]
    assert "HTTPValidationError" not in parts
