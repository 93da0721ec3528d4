"""YuNet's file: 230 KB from OpenCV's model zoo (Apache-2.0), used only if it is the very file that is known here.

emotion fetch-face-model            # into .cache/faces, where server and command line find it
read_face_model(path)               -> its bytes, verified
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from emotion_detection.errors import FaceModelError

NAME = "face_detection_yunet_2023mar.onnx"
SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
SOURCE = "https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet"
CACHED = Path(".cache/faces") / NAME
"""Relative to the root of the repository."""
BY_HAND = f"bring {NAME} by other means and name it with --face-model PATH, or EMOTION_FACE_MODEL=PATH for the server"
_MAX_BYTES = 1_000_000
_SECONDS = 30


def cached_face_model() -> Path | None:
    """The file that `fetch_face_model` brought, if it did."""
    return CACHED if CACHED.exists() else None


def read_face_model(path: Path) -> bytes:
    """Read and verify the file.

    Raises:
        FaceModelError: it cannot be read, or is another file.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FaceModelError(f"{path}: {error.strerror}; expected {NAME}, see `emotion fetch-face-model`") from None
    _verify(data, str(path))
    return data


def fetch_face_model(source: str = SOURCE, path: Path = CACHED) -> Path:
    """Download and verify the file; one that is there already and good is left as it is.

    Args:
        source: URL of the folder that holds it.

    Raises:
        FaceModelError: it cannot be downloaded or written, or what came is another file.
    """
    try:
        read_face_model(path)
    except FaceModelError:
        data = _download(f"{source.rstrip('/')}/{NAME}")
        _write(data, path)
    return path


def _download(url: str) -> bytes:
    import requests  # noqa: PLC0415  (the server reads the file, and need not wait for this)

    try:
        with requests.get(url, timeout=_SECONDS, stream=True) as answer:
            status, data = answer.status_code, answer.raw.read(_MAX_BYTES, decode_content=True)
    except OSError as error:  # the base of all that requests raises
        raise FaceModelError(f"{url}: cannot be downloaded ({type(error).__name__}); {BY_HAND}") from None
    if status != 200:
        raise FaceModelError(f"{url}: answered with status {status}; {BY_HAND}")
    _verify(data, url)
    return bytes(data)


def _write(data: bytes, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        raise FaceModelError(f"{path}: {error.strerror}; it must be writable") from None


def _verify(data: bytes, where: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        raise FaceModelError(f"{where}: SHA-256 is {found}, expected {SHA256} ({NAME}); {BY_HAND}")
