"""`emotion detect`, `webcam`, `serve` and `fetch-face-model`: on a bundle, on the champion, on a real server."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from emotion_detection.annotation import annotate
from emotion_detection.api_keys import create_key
from emotion_detection.bundle import read_bundle
from emotion_detection.cli.detect import find_files
from emotion_detection.detection import LocalDetector
from emotion_detection.face_model import NAME
from emotion_detection.faces import FaceFinder
from emotion_detection.preprocess import decode
from tests.clone import free_port
from tests.drawn_photos import PLACES, encoded, photo, turned
from tests.serving.processes import Server, environment, running
from tests.serving.tiny import LABELS, TinyBundle, wait_until, write_bundle
from tests.test_cli import as_json, emotion, fail, succeed

MANY, ONE, NOBODY = photo(), photo(PLACES[:1], (400, 400)), photo(places=())


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bundle, by the name it has from the current directory, where a few pictures are as well."""
    monkeypatch.chdir(tmp_path)
    for name, picture in {"many.png": MANY, "trip/one.JPG": ONE, "trip/deep/nobody.png": NOBODY}.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(encoded(picture, "PNG" if name.endswith("png") else "JPEG"))
    Path("trip/notes.txt").write_text("no picture")
    return str(write_bundle(Path("bundle")).directory)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, TinyBundle]]:
    directory = tmp_path_factory.mktemp("server")
    tiny = write_bundle(directory / "bundle")
    with running(directory, "--bundle", str(tiny.directory)) as process:
        wait_until(process.is_ready)
        yield process, tiny


def test_files_directories_and_patterns_are_found(bundle: str) -> None:
    assert bundle == "bundle"
    found = [str(path) for path in find_files(["trip", "*.png", "trip/**/n*.png", "trip/notes.txt", "gone.jpg"])]
    assert found == [
        "trip/deep/nobody.png", "trip/one.JPG", "many.png", "trip/deep/nobody.png", "trip/notes.txt", "gone.jpg"
    ]  # fmt: skip


def test_a_bundle_answers_in_this_process(bundle: str) -> None:
    many, nobody, one = as_json("detect", "many.png", "trip", "--bundle", bundle, "--faces", "all")
    assert [len(record["faces"]) for record in (many, one, nobody)] == [3, 1, 0]
    assert many["label"] == many["faces"][0]["label"]
    assert nobody["label"] is None
    assert nobody["probabilities"] is None
    detector = LocalDetector(read_bundle(Path(bundle)), FaceFinder())
    assert many == {"file": "many.png"} | json.loads(json.dumps(detector.file(encoded(MANY), "all")))
    table = succeed("detect", "many.png", "trip", "--bundle", bundle)
    assert all(name in table for name in ("many.png", "trip/one.JPG", "trip/deep/nobody.png", many["label"]))


def without_identity(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in ("file", "model", "prediction_id")}


def flat(value: Any) -> list[Any]:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return [value] if children is None else [leaf for child in children for leaf in flat(child)]


@pytest.mark.parametrize("faces", ["auto", "all", "largest", "none"])
def test_a_server_answers_the_same(bundle: str, server: tuple[Server, TinyBundle], faces: str) -> None:
    process, _ = server
    words = ("detect", "many.png", "trip", "--faces", faces)
    local, remote = as_json(*words, "--bundle", bundle), as_json(*words, "--server", process.url)
    for ours, theirs in zip(map(without_identity, local), map(without_identity, remote), strict=True):
        assert ours.keys() == theirs.keys()
        for mine, other in zip(flat(ours), flat(theirs), strict=True):
            assert mine == (pytest.approx(other, rel=1e-5) if isinstance(mine, float) else other)


@pytest.mark.parametrize("remote", [False, True])
def test_bad_files_are_told_and_the_others_answered(
    bundle: str, server: tuple[Server, TinyBundle], remote: bool
) -> None:
    Path("broken.png").write_bytes(encoded(MANY)[:5000])
    where = ("--server", server[0].url) if remote else ("--bundle", bundle)
    words = ("detect", "gone.jpg", "many.png", "broken.png", "trip/notes.txt", *where)
    result = emotion(*words, "--json")
    assert result.exit_code == 1
    records = json.loads(result.stdout)
    assert ["error" in record for record in records] == [True, False, True, True]
    for name, message in {
        "gone.jpg": "No such file",
        "broken.png": "PNG data cannot be decoded",
        "trip/notes.txt": "no image",
    }.items():
        assert re.search(f"^error: {name}: .*{message}", result.stderr, re.M)
    result = emotion(*words)
    assert result.exit_code == 1
    assert "cannot be used" in result.stdout
    assert "Traceback" not in result.output


def test_boxes_and_labels_are_drawn(bundle: str) -> None:
    Path("turned.png").write_bytes(turned(MANY, 6))
    records = as_json("detect", "many.png", "turned.png", "trip/deep", "--bundle", bundle, "--faces", "all",
                      "--annotate", "drawn/here")  # fmt: skip
    assert [record["annotated"] for record in records] == [
        f"drawn/here/{name}.png" for name in ("many.png", "turned.png", "trip/deep/nobody.png")
    ]
    many, upright, nobody = (decode(Path(record["annotated"]).read_bytes(), 3) for record in records)
    np.testing.assert_array_equal(nobody, NOBODY)
    np.testing.assert_array_equal(many, annotate(MANY, records[0]["faces"]))
    assert upright.shape == MANY.shape
    for face in records[0]["faces"]:
        x, y, width, height = face["box"].values()
        edge = many[y + height - 1, x + width // 2]
        assert tuple(edge) == (0, 158, 115)
        inside = np.s_[y + height // 2 : y + height - 5, x + 5 : x + width - 5]
        np.testing.assert_array_equal(many[inside], MANY[inside])
    Path("a_file").write_text("")
    assert "--annotate a_file" in fail("detect", "many.png", "--bundle", bundle, "--annotate", "a_file")


def test_every_picture_is_drawn_into_a_file_of_its_own(bundle: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("here").mkdir()
    monkeypatch.chdir("here")
    pictures = {"a/b.jpg": 1, "a_b.jpg": 2, "a/b.png": 3, "a_b.png": 4, "sub/a_b.png": 5, "../a_b.png": 6}
    for name, width in pictures.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(encoded(np.zeros((60, 60 + width, 3), np.uint8), "PNG"))
    words = (*pictures, str(Path("a/b.jpg").absolute()), "sub/../a_b.jpg")
    records = as_json("detect", *words, "--bundle", f"../{bundle}", "--annotate", "drawn")
    *drawn, absolute, roundabout = (record["annotated"] for record in records)
    widths = {name: decode(Path(name).read_bytes(), 3).shape[1] - 60 for name in drawn}
    assert list(widths.values()) == list(pictures.values())
    assert (absolute, roundabout) == ("drawn/a/b.jpg.png", "drawn/a_b.jpg.png")
    assert all(Path(name).resolve().is_relative_to(Path("drawn").resolve()) for name in drawn)


def test_labels_of_any_alphabet_can_be_drawn() -> None:
    face = {"box": {"x": 0, "y": 0, "width": 9, "height": 9}, "label": "glücklich", "confidence": 1.0}
    assert annotate(np.zeros((10, 10, 3), np.uint8), [face]).shape == (10, 10, 3)


def test_the_champion_answers_where_nothing_else_is_named(project: Path) -> None:
    (project / "many.png").write_bytes(encoded(MANY))
    assert "no versions yet" in fail("detect", "many.png")
    succeed("promote", "good")
    [record] = as_json("detect", "many.png")
    digest = read_bundle(Path("bundles/good")).info.digest()
    assert record["model"] == {"name": "good", "bundle_sha256": digest, "precision": "fp32"}
    assert as_json("detect", "many.png") == [record]


def test_what_cannot_work_is_said_at_once(bundle: str) -> None:
    assert "does `emotion serve` run?" in fail("detect", "many.png", "--server", f"http://127.0.0.1:{free_port()}")
    assert "leave --bundle" in fail("detect", "many.png", "--server", "http://x", "--bundle", bundle)
    assert "leave --bundle" in fail("detect", "many.png", "--server", "http://x", "--precision", "fp32")
    assert "has no model.int8.onnx" in fail("detect", "many.png", "--bundle", bundle, "--precision", "int8")
    assert "expected a bundle" in fail("detect", "many.png", "--bundle", "nowhere")
    Path("other.onnx").write_bytes(b"x")
    assert "SHA-256 is" in fail("detect", "many.png", "--bundle", bundle, "--face-model", "other.onnx")
    assert "cannot be downloaded" in fail("fetch-face-model", "--source", f"http://127.0.0.1:{free_port()}")
    assert "--camera: film.avi cannot be opened" in fail("webcam", "--camera", "film.avi", "--bundle", bundle)
    assert "--camera: camera 77 cannot be opened" in fail("webcam", "--camera", "77", "--bundle", bundle)


def test_a_server_of_another_kind_is_said(bundle: str, server: tuple[Server, TinyBundle]) -> None:
    assert bundle
    assert "/nothing/detect: status 404" in fail("detect", "many.png", "--server", f"{server[0].url}/nothing")


def test_a_server_with_keys_and_limits_is_asked_as_it_wishes(
    bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, kept = create_key("tests")
    Path("keys").write_text(f"{kept}\n")
    options = ("--bundle", bundle, "--api-keys-file", "keys", "--rate-limit", "5", "--rate-burst", "1")
    with running(tmp_path, *options) as process:
        wait_until(lambda: process.get("/healthz").status_code == 200)
        assert "status 401" in fail("detect", "many.png", "--server", process.url)
        monkeypatch.setenv("EMOTION_SERVER_KEY", key)
        wait_until(lambda: emotion("detect", "many.png", "--server", process.url).exit_code == 0)
        assert len(as_json("detect", "many.png", "trip", "--server", process.url)) == 3


@pytest.fixture
def film(bundle: str) -> str:
    """Three frames with three faces, then two with none."""
    assert bundle
    writer = cv2.VideoWriter("film.avi", cv2.VideoWriter_fourcc(*"MJPG"), 10, MANY.shape[1::-1])
    for picture in [MANY] * 3 + [NOBODY] * 2:
        writer.write(picture[..., ::-1])
    writer.release()
    return "film.avi"


@pytest.mark.parametrize("remote", [False, True])
def test_a_video_is_answered_frame_by_frame(
    bundle: str, server: tuple[Server, TinyBundle], film: str, remote: bool
) -> None:
    where = ("--server", server[0].url) if remote else ("--bundle", bundle)
    lines = succeed("webcam", "--camera", film, *where, "--json").splitlines()
    records = [json.loads(line) for line in lines]
    assert [len(record["faces"]) for record in records] == [3, 3, 3, 0, 0]
    assert [record["frame"] for record in records] == [1, 2, 3, 4, 5]
    assert all(record["frames_per_second"] > 0 for record in records)
    before = {hashlib.sha256(path.read_bytes()).hexdigest() for path in Path().rglob("*") if path.is_file()}
    output = succeed("webcam", "--camera", film, *where, "--faces", "none")
    assert "1 face, " in output
    assert "5 frames" in output
    assert all(label in output for label in LABELS)
    after = {hashlib.sha256(path.read_bytes()).hexdigest() for path in Path().rglob("*") if path.is_file()}
    assert after == before


def test_serve_starts_the_server_with_its_options(bundle: str) -> None:
    port = free_port()
    code = "from emotion_detection.cli import app; app()"
    words = ["serve", "--bundle", bundle, "--port", str(port), "--max-faces=1"]
    with Path("log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *words], env=environment(), stdout=log, stderr=log, cwd=Path.cwd()
        )
    try:
        wait_until(lambda: f"running on http://127.0.0.1:{port}" in Path("log").read_text())
        server = Server(process, Path("log"), port)
        wait_until(server.is_ready)
        [record] = as_json("detect", "many.png", "--server", server.url)
        assert len(record["faces"]) == 1
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=40) in (0, -signal.SIGTERM)


@pytest.mark.skipif(
    not (Path(os.environ.get("REAL_DATA_DIR", ".")) / NAME).exists(), reason=f"REAL_DATA_DIR has no {NAME}"
)
def test_yunet_is_used_where_it_is_given_or_was_fetched(bundle: str) -> None:
    real = Path(os.environ["REAL_DATA_DIR"]) / NAME
    words = ("detect", "many.png", "--bundle", bundle, "--faces", "all")
    given = as_json(*words, "--face-model", str(real))
    assert {face["detector"] for face in given[0]["faces"]} == {"yunet"}
    assert {face["detector"] for face in as_json(*words)[0]["faces"]} == {"cascade"}
    target = Path(".cache/faces") / NAME
    target.parent.mkdir(parents=True)
    target.write_bytes(real.read_bytes())
    assert "verified" in succeed("fetch-face-model")
    assert as_json(*words) == given
