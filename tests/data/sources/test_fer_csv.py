"""The csv of FER2013."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emotion_detection.data.sources import open_source
from emotion_detection.data.sources.fer_csv import LABELS
from emotion_detection.errors import SourceError
from emotion_detection.params import DataParams
from emotion_detection.preprocess import decode, read_header
from tests.trees import read

HEADER = "emotion,pixels,Usage"


def write_csv(path: Path, *rows: str, header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *rows, ""]), encoding="utf-8")
    return path


def refused(path: Path) -> str:
    with pytest.raises(SourceError) as caught:
        list(open_source(DataParams(source=str(path)), seed=0))
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_rows_become_lossless_grey_pngs(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 48, 48), np.uint8)
    usages = ["Training", "PublicTest", "PrivateTest"]
    rows = [f"{i},{' '.join(map(str, image.flat))},{usages[i % 3]}" for i, image in enumerate(pixels)]
    samples = read(write_csv(tmp_path / "fer2013", *rows))  # known without a suffix
    assert [sample.label for sample in samples] == list(LABELS)
    assert [sample.split for sample in samples] == ["train", "val", "test"] * 2 + ["train"]
    assert len({sample.path for sample in samples}) == 7
    for sample, image in zip(samples, pixels, strict=True):
        np.testing.assert_array_equal(decode(sample.data, channels=1)[..., 0], image)
        header = read_header(sample.data)
        assert (header.width, header.height, header.mode, header.format) == (48, 48, "L", "PNG")


def test_without_usage_the_source_names_no_split(tmp_path):
    [sample] = read(write_csv(tmp_path / "train.csv", "0,1 2 3 4", header="emotion,pixels"))
    assert sample.split is None


def test_byte_order_mark_spaces_quotes_other_columns_and_order_do_not_matter(tmp_path):
    rows = ['x, Training, "1 2 3 4", 6', ""]
    [sample] = read(write_csv(tmp_path / "a.csv", *rows, header="\ufeffid, Usage, pixels, emotion"))
    assert (sample.label, sample.split) == ("neutral", "train")


def test_images_larger_than_the_csv_module_expects_are_read(tmp_path):
    [sample] = read(write_csv(tmp_path / "a.csv", f"0,{'255 ' * 224 * 224},Training"))
    assert read_header(sample.data).width == 224


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("0,1 2 3,Training", ["found 3 pixels", "expected 4 as in the first row"]),
        ("0,1 2 3 4 5,Training", ["found 5 pixels", "expected 4 as in the first row"]),
        ("0,,Training", ["found 0 pixels", "expected 4"]),
        ("0,1 2 x 4,Training", ["found 'x' as pixel 3", "whole numbers from 0 to 255"]),
        ("0,1 256 3 4,Training", ["found '256' as pixel 2"]),
        ("0,1 2 3 -4,Training", ["found '-4' as pixel 4"]),
        ("0,1 2 3 4.5,Training", ["found '4.5' as pixel 4"]),
        ("7,1 2 3 4,Training", ["found emotion '7'", "expected 0 to 6"]),
        ("happy,1 2 3 4,Training", ["found emotion 'happy'"]),
        (",1 2 3 4,Training", ["found emotion ''"]),
        ("0,1 2 3 4,Test", ["found Usage 'Test'", "Training, PublicTest, PrivateTest"]),
        ("0,1 2 3 4", ["found 2 columns, expected 3", HEADER.replace(",", ", ")]),
        ("0,1 2 3 4,Training,more", ["found 4 columns, expected 3"]),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, words):
    message = refused(write_csv(tmp_path / "a.csv", "0,1 2 3 4,Training", row, "0,1 2 3 4,Training"))
    assert all(word in message for word in ["row 3", *words])


def test_a_first_row_that_is_no_square_is_named(tmp_path):
    message = refused(write_csv(tmp_path / "a.csv", f"0,{'1 ' * 2303},Training"))
    assert "row 2: found 2303 pixels, expected a square number" in message


def test_no_rows_are_refused(tmp_path):
    assert "no rows" in refused(write_csv(tmp_path / "a.csv"))


def test_a_csv_without_the_columns_is_refused(tmp_path):
    assert "columns emotion and pixels" in refused(write_csv(tmp_path / "a.csv", "0,1", header="emotion,image"))


@pytest.mark.parametrize("junk", [b"\xff\xfe", b"\x00"])
def test_bytes_that_are_no_text_are_refused(tmp_path, junk):
    path = write_csv(tmp_path / "a.csv", "0,1 2 3 4,Training")
    path.write_bytes(path.read_bytes() + b"0,1 2 3 " + junk + b"4,Training\n")
    assert refused(path)
