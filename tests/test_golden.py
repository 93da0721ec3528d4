"""golden.npz: written, read, and what a machine that computes otherwise is told."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from emotion_detection.bundle import BUNDLE_FILE, GOLDEN_FILE, MODEL_FILE, read_bundle, write_bundle_info
from emotion_detection.errors import BundleError, GoldenMismatch
from emotion_detection.golden import check_golden, read_golden, write_golden
from tests.serving.tiny import LABELS, SIZE, TinyBundle, write_bundle


@pytest.fixture
def tiny(tmp_path: Path) -> TinyBundle:
    return write_bundle(tmp_path)


def test_equal_arrays_give_equal_bytes_and_come_back(tmp_path: Path) -> None:
    images, answers = np.full((3, 4, 4, 1), 7, np.uint8), np.eye(3)
    for name in ("one", "two"):
        write_golden(tmp_path / name, images, answers)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with np.load(tmp_path / "one", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["images"], images)
        np.testing.assert_array_equal(arrays["probabilities"], answers.astype(np.float32))


def test_answers_within_the_tolerance_pass(tiny: TinyBundle) -> None:
    bundle = read_bundle(tiny.directory)
    difference = check_golden(bundle, lambda images: np.float32(tiny.answers(images) + 0.9e-3))
    assert difference == pytest.approx(0.9e-3, rel=1e-2)


@pytest.mark.parametrize("answer", [1.2e-3, np.nan, np.inf])
def test_other_answers_are_refused(tiny: TinyBundle, answer: float) -> None:
    def predict(images: np.ndarray) -> np.ndarray:
        answers = tiny.answers(images)
        answers[-1, -1] += answer
        return answers.astype(np.float32)

    with pytest.raises(GoldenMismatch, match=r"golden faces differ by up to .* allowed is 0\.001"):
        check_golden(read_bundle(tiny.directory), predict)


def test_bundles_from_before_pass(tmp_path: Path) -> None:
    bundle = read_bundle(write_bundle(tmp_path, golden=False).directory)
    assert check_golden(bundle, lambda _: pytest.fail("there is nothing to ask")) is None


def test_bundles_from_before_keep_their_digest(tmp_path: Path) -> None:
    bundle = read_bundle(write_bundle(tmp_path, golden=False).directory)
    info = bundle.info.model_copy(update={"files": {MODEL_FILE: "0" * 64}})
    assert info.digest() == "409e367e946b63c98f6356014c2216b62c12853b07f67159670a05f94b5c1713"
    assert info.digest() != info.model_copy(update={"golden_tolerance": 0.1}).digest()


def test_a_tolerance_without_the_file_is_refused(tiny: TinyBundle) -> None:
    info = read_bundle(tiny.directory).info
    files = {name: digest for name, digest in info.files.items() if name != GOLDEN_FILE}
    write_bundle_info(tiny.directory, info.model_copy(update={"files": files}))
    with pytest.raises(BundleError, match=f"{BUNDLE_FILE}: has a golden_tolerance, but names no golden.npz"):
        read_bundle(tiny.directory)


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x03\x04 and no zip file", b"\x93NUMPY"])
def test_what_is_no_archive_is_refused(tiny: TinyBundle, content: bytes) -> None:
    bundle = read_bundle(tiny.directory)
    (tiny.directory / GOLDEN_FILE).write_bytes(content)
    with pytest.raises(BundleError, match=r"golden\.npz: cannot be read"):
        read_golden(tiny.directory / GOLDEN_FILE, bundle.info)


def test_a_single_array_is_refused(tiny: TinyBundle, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(BundleError, match="cannot be read"):
        read_golden(tmp_path / "one.npy", read_bundle(tiny.directory).info)


def test_pickles_are_not_opened(tiny: TinyBundle, tmp_path: Path) -> None:
    with (tmp_path / "pickled").open("wb") as file:
        np.savez(file, images=np.array([{}], dtype=object), probabilities=np.zeros((1, 3), np.float32))
    with pytest.raises(BundleError, match="allow_pickle=False"):
        read_golden(tmp_path / "pickled", read_bundle(tiny.directory).info)


@pytest.mark.parametrize(
    ("images", "probabilities"),
    [
        (np.zeros((0, SIZE, SIZE, 1), np.uint8), np.zeros((0, 3), np.float32)),
        (np.zeros((2, SIZE, SIZE, 3), np.uint8), np.zeros((2, 3), np.float32)),
        (np.zeros((2, SIZE, SIZE, 1), np.float32), np.zeros((2, 3), np.float32)),
        (np.zeros((2, SIZE, SIZE, 1), np.uint8), np.zeros((1, 3), np.float32)),
        (np.zeros((2, SIZE, SIZE, 1), np.uint8), np.zeros((2, 4), np.float32)),
        (np.uint8(3), np.zeros((2, 3), np.float32)),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    tiny: TinyBundle, tmp_path: Path, images: np.ndarray, probabilities: np.ndarray
) -> None:
    write_golden(tmp_path / "other", images, probabilities)
    with pytest.raises(BundleError, match="do not fit"):
        read_golden(tmp_path / "other", read_bundle(tiny.directory).info)


def test_the_tiny_bundle_is_as_the_others(tiny: TinyBundle) -> None:
    golden = read_golden(tiny.directory / GOLDEN_FILE, read_bundle(tiny.directory).info)
    assert golden.probabilities.shape == (4, len(LABELS))
    assert dataclasses.astuple(golden)[0].dtype == np.uint8
