"""A bundle is read only where every byte is what was recorded."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotion_detection.bundle import (
    BUNDLE_FILE,
    INT8_FILE,
    INT8_GOLDEN_FILE,
    MODEL_FILE,
    BundleInfo,
    Lineage,
    ModelBundle,
    Quantisation,
    file_sha256,
    read_bundle,
    write_bundle_info,
)
from emotion_detection.errors import ArtifactError, BundleError

KEPT = Quantisation(
    method="static",
    fp32_accuracy=0.7,
    int8_accuracy=0.699,
    fp32_ece=0.02,
    int8_ece=0.021,
    fp32_bytes=400,
    int8_bytes=110,
    speedup=2.5,
    refused=None,
    golden_tolerance=0.02,
)
REFUSED = KEPT.model_copy(update={"refused": "speed", "golden_tolerance": None, "speedup": 0.5})


@pytest.fixture
def directory(tmp_path) -> Path:
    (tmp_path / MODEL_FILE).write_bytes(b"graph" * 100)
    (tmp_path / INT8_FILE).write_bytes(b"small graph")
    (tmp_path / INT8_GOLDEN_FILE).write_bytes(b"faces")
    files = {name: file_sha256(tmp_path / name) for name in (MODEL_FILE, INT8_FILE, INT8_GOLDEN_FILE)}
    write_bundle_info(tmp_path, info(files, KEPT))
    return tmp_path


def info(files: dict[str, str], quantisation: Quantisation | None = None) -> BundleInfo:
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
        quantisation=quantisation,
        lineage=lineage,
        files=files,
    )


def rewrite(directory: Path, **changes: object) -> None:
    path = directory / BUNDLE_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_bundle_comes_back_as_written(directory):
    bundle = read_bundle(directory)
    assert bundle.info == info(bundle.info.files, KEPT)
    assert bundle.model_path.read_bytes() == b"graph" * 100


def test_digest_names_the_content(directory):
    before = read_bundle(directory).info.digest()
    assert read_bundle(directory).info.digest() == before
    (directory / MODEL_FILE).write_bytes(b"other")
    rewrite(directory, files={MODEL_FILE: file_sha256(directory / MODEL_FILE)}, quantisation=None)
    assert read_bundle(directory).info.digest() != before


def test_how_fast_it_was_is_no_part_of_its_name():
    """Exporting again on a machine that is busier gives the same version; anything else gives another."""
    before = info({}, KEPT).digest()
    assert info({}, KEPT.model_copy(update={"speedup": 1.7})).digest() == before
    assert info({}, KEPT.model_copy(update={"int8_accuracy": 0.698})).digest() != before
    assert info({}, REFUSED).digest() not in {before, info({}).digest()}


def test_int8_answers_where_it_is_there_and_not_unwanted(directory):
    bundle = read_bundle(directory)
    assert [bundle.precision(wanted) for wanted in ("auto", "fp32", "int8")] == ["int8", "fp32", "int8"]
    assert bundle.graph_path("int8").read_bytes() == b"small graph"
    assert bundle.golden("int8") == (directory / INT8_GOLDEN_FILE, 0.02)
    assert bundle.golden("fp32") is None


@pytest.mark.parametrize(("tried", "why"), [(REFUSED, "its speed did not suffice"), (None, "exported without")])
def test_int8_that_is_not_there_is_refused_with_the_reason(tmp_path, tried, why):
    bundle = ModelBundle(tmp_path, info({}, tried))
    assert (bundle.precision(), bundle.precision("fp32")) == ("fp32", "fp32")
    with pytest.raises(BundleError, match=rf"has no model\.int8\.onnx: .*{why}.*; ask for auto or fp32"):
        bundle.precision("int8")


@pytest.mark.parametrize(
    "changes",
    [
        {"quantisation": None},
        {"quantisation": REFUSED.model_dump()},
        {"quantisation": KEPT.model_dump() | {"golden_tolerance": None}},
        {"quantisation": REFUSED.model_dump() | {"golden_tolerance": 0.02}},
        {"files": {MODEL_FILE: "0" * 64, INT8_FILE: "0" * 64}},
        {"files": {MODEL_FILE: "0" * 64, INT8_GOLDEN_FILE: "0" * 64}},
    ],
)
def test_what_is_said_of_int8_must_fit_the_files(directory, changes):
    rewrite(directory, **changes)
    with pytest.raises(BundleError, match="int8"):
        read_bundle(directory)


@pytest.mark.parametrize("name", [MODEL_FILE, INT8_FILE])
@pytest.mark.parametrize("damage", ["flipped bit", "truncated", "longer", "empty"])
def test_altered_file_is_refused(directory, name, damage):
    path = directory / name
    data = bytearray(path.read_bytes())
    if damage == "flipped bit":
        data[len(data) // 2] ^= 1
    path.write_bytes({"truncated": data[:-1], "longer": data + b"\0", "empty": b""}.get(damage, data))
    with pytest.raises(BundleError, match=rf"{name}: SHA-256 is [0-9a-f]{{64}}, expected [0-9a-f]{{64}}; fetch"):
        read_bundle(directory)


@pytest.mark.parametrize("name", [MODEL_FILE, INT8_FILE, INT8_GOLDEN_FILE, BUNDLE_FILE])
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
    rewrite(directory, files={MODEL_FILE: file_sha256(directory / MODEL_FILE), name: "0" * 64}, quantisation=None)
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
