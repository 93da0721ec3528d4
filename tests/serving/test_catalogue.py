"""The catalogue and who has heard what of it: without a server."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from emotion_detection.labels import ALIASES
from serving import playlists as module
from serving.catalogue import SHIPPED, CatalogueError, read_catalogue
from serving.playlists import Playlists
from tests.serving.processes import environment

HEAD = "title,artist,emotion,distance\n"


def write(directory: Path, text: str) -> Path:
    path = directory / "songs.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def playlists(tmp_path: Path) -> Playlists:
    lines = [f"song {number},nobody,{emotion},0" for emotion in ("happy", "sad") for number in range(5)]
    return Playlists(read_catalogue(write(tmp_path, HEAD + "\n".join(lines))))


def test_the_shipped_catalogue_has_songs_for_every_emotion_of_fer2013() -> None:
    catalogue = read_catalogue(SHIPPED)
    assert set(catalogue) == {*ALIASES.values(), "neutral"}
    assert min(map(len, catalogue.values())) >= 5


def test_fields_may_stand_in_any_order_and_carry_a_byte_order_mark(tmp_path: Path) -> None:
    path = write(tmp_path, '\ufeffemotion,distance,artist,title\n sad ,1,"Bach, J. S.",Air\n')
    [song] = read_catalogue(path)["sad"]
    assert (song.title, song.artist, song.distance) == ("Air", "Bach, J. S.", 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["line 1", "found nothing", "title,artist,emotion,distance"]),
        ("title,artist\na,b\n", ["line 1", "title,artist;"]),
        (HEAD, ["no songs"]),
        (HEAD + "a,b,happy,0\nc,d,sad,far\n", ["line 3", "field distance", "'far'"]),
        (HEAD + "a,b,happy,-1\n", ["line 2", "field distance", "'-1'"]),
        (HEAD + "a,b,happy,nan\n", ["line 2", "field distance", "'nan'"]),
        (HEAD + "a,b,happy\n", ["line 2", "field distance", "found nothing"]),
        (HEAD + ",b,happy,0\n", ["line 2", "field title", "''"]),
        (HEAD + "Air, on G,Bach,sad,0\n", ["line 2", "more than 4 fields", "quote"]),
        (HEAD + 'a,b,happy,0\n"c,d,happy,0\n', ["line 3", "quote"]),
        (HEAD + "a,b,happy,0\n\na,b,happy,1\n", ["line 4", "line 2"]),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, text: str, words: list[str]) -> None:
    path = write(tmp_path, text)
    with pytest.raises(CatalogueError) as caught:
        read_catalogue(path)
    for word in (str(path), *words):
        assert word in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"missing\.csv: No such file"):
        read_catalogue(tmp_path / "missing.csv")
    (tmp_path / "latin.csv").write_bytes(b"title,artist,emotion,distance\nC\xe9sar,b,sad,0\n")
    with pytest.raises(CatalogueError, match=r"latin\.csv: .* at byte 31; save it as UTF-8"):
        read_catalogue(tmp_path / "latin.csv")


def test_a_session_hears_every_song_of_an_emotion_before_one_again(playlists: Playlists) -> None:
    for _ in range(3):
        choices = [playlists.choose("happy", "a") for _ in range(5)]
        assert len({choice.song.title for choice in choices}) == 5
        assert [choice.left for choice in choices] == [4, 3, 2, 1, 0]


def test_sessions_and_emotions_are_apart(playlists: Playlists) -> None:
    assert playlists.choose("happy", "a").left == 4
    assert playlists.choose("sad", "a").left == 4
    assert playlists.choose("happy", "b").left == 4
    for _ in range(4):
        playlists.choose("happy", "a")
    playlists.choose("happy", "a")  # anew
    assert playlists.choose("sad", "a").left == 3


def test_a_new_session_gets_a_token_of_its_own(playlists: Playlists) -> None:
    tokens = {playlists.choose("happy", None).session for _ in range(20)}
    assert len(tokens) == 20
    assert min(map(len, tokens)) >= 20


def test_what_is_near_the_mood_comes_more_often(tmp_path: Path) -> None:
    playlists = Playlists(read_catalogue(write(tmp_path, HEAD + "near,a,sad,0\nfar,a,sad,3\n")))
    first = Counter(playlists.choose("sad", None).song.title for _ in range(1000))
    # Far: 1 in 1 + e^3, 4.7 %; 20 of 1000 is four standard deviations below, 90 six above.
    assert 20 < first["far"] < 90


def test_sessions_are_bounded_and_forgotten(playlists: Playlists, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SESSIONS", 2)
    for session in "abac":
        left = playlists.choose("happy", session).left
    assert left == 4
    assert playlists.choose("happy", "a").left == 2  # b was the least recently used
    assert playlists.choose("happy", "b").left == 4
    monkeypatch.setattr(module, "IDLE", -1.0)
    assert playlists.choose("happy", "a").left == 4


def test_a_wrong_catalogue_is_a_message_and_an_exit(tmp_path: Path) -> None:
    path = write(tmp_path, HEAD + "a,b,happy,much\n")
    command = [sys.executable, "-m", "serving", "--catalogue", str(path)]
    result = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {path}, line 2, field distance: found 'much'")
    assert "Traceback" not in result.stderr
