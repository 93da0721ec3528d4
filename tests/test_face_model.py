"""YuNet's file: fetched from a server on this machine, verified, never trusted."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from emotion_detection import face_model
from emotion_detection.errors import FaceModelError
from emotion_detection.face_model import NAME, cached_face_model, fetch_face_model, read_face_model
from tests.clone import free_port

REAL = Path(os.environ.get("REAL_DATA_DIR", ".")) / NAME


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def source(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """URL of a folder, and the folder."""
    folder = tmp_path / "zoo"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()
        thread.join()


def test_another_file_is_refused_and_not_kept(source: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = source
    (folder / NAME).write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(FaceModelError, match=f"{url}/{NAME}: SHA-256 is .*, expected 8f2383e4"):
        fetch_face_model(url, tmp_path / "cache" / NAME)
    assert not (tmp_path / "cache").exists()


def test_a_file_that_is_not_there_is_said_with_its_address(source: tuple[str, Path], tmp_path: Path) -> None:
    url, _ = source
    with pytest.raises(FaceModelError, match=f"{url}/{NAME}: answered with status 404; .*--face-model PATH"):
        fetch_face_model(url, tmp_path / NAME)


def test_without_a_network_the_address_and_the_way_around_it_are_named(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(FaceModelError, match=f"{url}/{NAME}: cannot be downloaded .*EMOTION_FACE_MODEL=PATH"):
        fetch_face_model(url, tmp_path / NAME)


def test_what_comes_is_verified_and_kept_and_not_fetched_twice(
    source: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in of known digest, since the real file is not part of the repository."""
    url, folder = source
    monkeypatch.setattr(face_model, "SHA256", "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824")
    monkeypatch.chdir(tmp_path)
    assert cached_face_model() is None
    (folder / NAME).write_bytes(b"hello")
    path = fetch_face_model(url)
    assert path == cached_face_model()
    assert read_face_model(path) == b"hello"
    (folder / NAME).unlink()
    assert fetch_face_model(url) == path
    path.write_bytes(b"damaged")
    with pytest.raises(FaceModelError, match="status 404"):
        fetch_face_model(url)


@pytest.mark.skipif(not REAL.exists(), reason=f"REAL_DATA_DIR names no folder with {NAME}")
def test_the_pinned_digest_is_that_of_the_real_file(source: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = source
    (folder / NAME).symlink_to(REAL.resolve())
    assert fetch_face_model(url, tmp_path / NAME).read_bytes() == REAL.read_bytes()
