from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emotion_detection.artifacts import DATASET_SCHEMA
from emotion_detection.data.measurements import measure, perceptual_hash
from emotion_detection.errors import ArtifactError, ValidationFailed


def face(seed: int, side: int = 48) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6), dtype=np.uint8)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)


def jpeg(image: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", image)[1].tobytes()


def write(path: Path, images: list[bytes], sha256: str | None = None, row_group_size: int = 2) -> Path:
    rows = [
        {
            "path": f"train/happy/{number}.jpg",
            "split": "train",
            "label": "happy",
            "image": image,
            "sha256": sha256 or hashlib.sha256(image).hexdigest(),
        }
        for number, image in enumerate(images)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=DATASET_SCHEMA), path, row_group_size=row_group_size)
    return path


def test_every_image_is_measured_in_the_order_of_the_data_set(tmp_path: Path) -> None:
    grey = [np.full((20, 30), 7, np.uint8), face(1), face(2), face(3), np.tile(np.uint8([0, 200]), (20, 10))]
    encoded = [cv2.imencode(".png", image)[1].tobytes() for image in grey]
    table = measure(write(tmp_path / "dataset.parquet", encoded))
    assert list(table["path"]) == [f"train/happy/{number}.jpg" for number in range(5)]
    assert table["error"].isna().all()
    np.testing.assert_allclose(table["mean"], [image.mean() for image in grey], atol=1e-6)
    np.testing.assert_allclose(table["std"], [image.std() for image in grey], atol=1e-6)
    assert table["phash"].dtype == np.uint64
    assert set(DATASET_SCHEMA.names) - {"image", "votes"} <= set(table.columns)
    assert "image" not in table


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"not an image at all", "no image"),
        (jpeg(face(1))[:-200], "cannot be decoded"),
        (jpeg(np.zeros((200, 200), np.uint8)), "at most 10000"),
    ],
    ids=["zero bytes", "text", "truncated", "too many pixels"],
)
def test_unreadable_images_carry_their_error(tmp_path: Path, data: bytes, message: str) -> None:
    table = measure(write(tmp_path / "dataset.parquet", [jpeg(face(1)), data, jpeg(face(2))]), max_pixels=10_000)
    assert list(table["error"].notna()) == [False, True, False]
    assert message in table["error"][1]
    assert np.isnan(table["std"][1])
    assert table["phash"][1] == 0


def test_bytes_that_do_not_match_their_checksum_are_refused(tmp_path: Path) -> None:
    dataset = write(tmp_path / "dataset.parquet", [jpeg(face(1))], sha256="0" * 64)
    with pytest.raises(ArtifactError, match=r"train/happy/0\.jpg does not match"):
        measure(dataset)


def test_a_missing_data_set_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="missing"):
        measure(tmp_path / "dataset.parquet")


def test_a_damaged_data_set_is_explained(tmp_path: Path) -> None:
    dataset = write(tmp_path / "dataset.parquet", [jpeg(face(seed)) for seed in range(200)], row_group_size=50)
    content = bytearray(dataset.read_bytes())
    content[1000:60_000] = b"\xff" * 59_000
    dataset.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"damaged; remove it|does not match its SHA-256; remove"):
        measure(dataset)


def test_an_empty_data_set_fails_validation(tmp_path: Path) -> None:
    with pytest.raises(ValidationFailed, match="no images"):
        measure(write(tmp_path / "dataset.parquet", []))


def test_alike_images_have_close_hashes_and_others_do_not() -> None:
    original = face(5)
    recompressed = cv2.imdecode(cv2.imencode(".jpg", original, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], 0)
    brighter = cv2.convertScaleAbs(original, alpha=0.8, beta=30)
    hashes = perceptual_hash(_thumbnails([original, recompressed, brighter, face(6)]))
    distances = np.bitwise_count(hashes ^ hashes[0])
    assert distances[1] <= 4
    assert distances[2] <= 4
    assert distances[3] > 12


def test_a_hash_does_not_depend_on_the_batch() -> None:
    thumbnails = _thumbnails([face(seed) for seed in range(9)])
    alone = np.concatenate([perceptual_hash(image[None]) for image in thumbnails])
    np.testing.assert_array_equal(perceptual_hash(thumbnails), alone)
    assert len(set(alone.tolist())) == 9


def _thumbnails(images: list[np.ndarray]) -> np.ndarray:
    return np.stack([cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA) for image in images]).astype(np.float32)
