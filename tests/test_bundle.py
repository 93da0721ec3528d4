"""A bundle is read only where every byte is what was recorded."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotion_detection.bundle import (
    BUNDLE_FILE,
    MODEL_FILE,
    BundleInfo,
    Lineage,
    file_sha256,
    read_bundle,
    write_bundle_info,
)
from emotion_detection.errors import ArtifactError, BundleError


@pytest.fixture
def directory(tmp_path) -> Path:
    (tmp_path / MODEL_FILE).write_bytes(b"graph" * 100)
    (tmp_path / "model.int8.onnx").write_bytes(b"small graph")
    write_bundle_info(tmp_path, info({name: file_sha256(tmp_path / name) for name in (MODEL_FILE, "model.int8.onnx")}))
    return tmp_path


def info(files: dict[str, str]) -> BundleInfo:
    lineage = Lineage(commit="c" * 40, dirty=False, dvc_lock=None, data_hash="d" * 64, training_id="t" * 64)
    return BundleInfo(
        model="small",
        architecture="lenet",
        parameters=10,
        labels=("happy", "sad"),
        image_size=48,
        channels=1,
        temperature=1.5,
        reference_shares={"happy": 0.5, "sad": 0.5},
        metrics={"test_accuracy": 0.7},
        lineage=lineage,
        files=files,
    )


def rewrite(directory: Path, **changes: object) -> None:
    path = directory / BUNDLE_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_bundle_comes_back_as_written(directory):
    bundle = read_bundle(directory)
    assert bundle.info == info(bundle.info.files)
    assert bundle.model_path.read_bytes() == b"graph" * 100


def test_digest_names_the_content(directory):
    before = read_bundle(directory).info.digest()
    assert read_bundle(directory).info.digest() == before
    (directory / MODEL_FILE).write_bytes(b"other")
    rewrite(directory, files={MODEL_FILE: file_sha256(directory / MODEL_FILE)})
    assert read_bundle(directory).info.digest() != before


@pytest.mark.parametrize("name", [MODEL_FILE, "model.int8.onnx"])
@pytest.mark.parametrize("damage", ["flipped bit", "truncated", "longer", "empty"])
def test_altered_file_is_refused(directory, name, damage):
    path = directory / name
    data = bytearray(path.read_bytes())
    if damage == "flipped bit":
        data[len(data) // 2] ^= 1
    path.write_bytes({"truncated": data[:-1], "longer": data + b"\0", "empty": b""}.get(damage, data))
    with pytest.raises(BundleError, match=rf"{name}: SHA-256 is [0-9a-f]{{64}}, expected [0-9a-f]{{64}}; fetch"):
        read_bundle(directory)


@pytest.mark.parametrize("name", [MODEL_FILE, "model.int8.onnx", BUNDLE_FILE])
def test_missing_file_is_refused(directory, name):
    (directory / name).unlink()
    with pytest.raises(BundleError, match=f"{name}: No such file or directory"):
        read_bundle(directory)


def test_directory_in_place_of_a_file_is_refused(directory):
    (directory / MODEL_FILE).unlink()
    (directory / MODEL_FILE).mkdir()
    with pytest.raises(BundleError, match=f"{MODEL_FILE}: Is a directory"):
        read_bundle(directory)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "sub/file", "..", ".", "", "./model.onnx"])
def test_file_outside_the_directory_is_refused(directory, name):
    (directory.parent / "secret").write_text("secret")
    rewrite(directory, files={MODEL_FILE: file_sha256(directory / MODEL_FILE), name: "0" * 64})
    with pytest.raises(BundleError, match=r"is not a plain file name|Is a directory"):
        read_bundle(directory)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null", b'{"format": 1}'])
def test_invalid_json_is_refused(directory, content):
    (directory / BUNDLE_FILE).write_bytes(content)
    with pytest.raises(BundleError, match=rf"{BUNDLE_FILE}: not a valid bundle"):
        read_bundle(directory)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"surprise": 1}, "surprise"),
        ({"format": 2}, "format"),
        ({"labels": ["happy"]}, "labels"),
        ({"channels": 2}, "channels"),
        ({"temperature": 0}, "temperature"),
        ({"lineage": {}}, r"lineage\.commit"),
        ({"image_size": "large"}, "image_size"),
    ],
)
def test_wrong_field_is_named(directory, change, named):
    rewrite(directory, **change)
    with pytest.raises(BundleError, match=named):
        read_bundle(directory)


def test_bundle_without_a_model_is_refused(directory):
    rewrite(directory, files={})
    with pytest.raises(BundleError, match=f"names no {MODEL_FILE}"):
        read_bundle(directory)


def test_bundle_error_is_an_artifact_error():
    assert issubclass(BundleError, ArtifactError)


@given(st.binary(max_size=300))
def test_no_bytes_at_all_make_anything_but_a_bundle_error(tmp_path_factory, data):
    directory = tmp_path_factory.mktemp("fuzz")
    (directory / BUNDLE_FILE).write_bytes(data)
    with pytest.raises(BundleError):
        read_bundle(directory)
