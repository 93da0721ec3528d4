"""The pictures stage on real shards: what it shows is what the data is, and the same bytes when made again."""

from __future__ import annotations

import re
import runpy
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from emotion_detection.artifacts import DATA_PICTURES, DATASET, DATASET_SCHEMA, DECISIONS, DECISIONS_SCHEMA, SHARDS
from emotion_detection.data import drawings, pictures
from emotion_detection.data.sharding import write_shards
from emotion_detection.data.shards import load_arrays, read_dataset_info
from emotion_detection.errors import ArtifactError
from emotion_detection.params import AugmentationParams, load_params
from emotion_detection.preprocess import decode
from tests.workspace import LABELS, SIZE, workspace

FIGURES = {"classes", "samples", "means", "augmentation", "dropped", "sizes"}
BROKEN, CONSTANT = (0, 3), range(90, 110)  # rows of the data set; from 90 on they are of val


@pytest.fixture(autouse=True)
def root(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace in which some images are dropped: two that cannot be decoded, and twenty of val."""
    monkeypatch.chdir(workspace(tmp_path_factory, tmp_path))
    rows = pq.read_table(DATASET).to_pylist()
    for row in BROKEN:
        rows[row] |= {"image": b"no image", "width": None, "height": None, "mode": None, "format": None}
    pq.write_table(pa.Table.from_pylist(rows, DATASET_SCHEMA), DATASET, row_group_size=50)
    decisions = pq.read_table(DECISIONS).to_pylist()
    for reason, dropped in (("unreadable", BROKEN), ("constant", CONSTANT)):
        for row in dropped:
            decisions[row] |= {"keep": False, "reason": reason}
    pq.write_table(pa.Table.from_pylist(decisions, DECISIONS_SCHEMA), DECISIONS)
    params = load_params()
    write_shards(params.data, params.seed)
    return tmp_path


def files_of(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_command_writes_a_page_whose_every_picture_and_table_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_module("pipeline.pictures", run_name="__main__")
    assert "reports/data/index.html" in capsys.readouterr().out
    html = (DATA_PICTURES / "index.html").read_text()
    HTMLParser().feed(html)
    links = set(re.findall(r'(?:src|href)="([^"]+)"', html))
    assert {link for link in links if link.endswith(".png")} == {f"figures/{name}.png" for name in FIGURES}
    assert "../validation/index.html" in links
    assert [link for link in links - {"../validation/index.html"} if not (DATA_PICTURES / link).is_file()] == []
    assert "225 images from <b>synthetic</b>, 203 of them kept" in html
    for name in FIGURES:
        with Image.open(DATA_PICTURES / f"figures/{name}.png") as image:
            assert np.asarray(image.convert("L")).std() > 1, name


def test_repeating_changes_no_byte(root: Path) -> None:
    pictures.write_pictures(load_params())
    first = files_of(DATA_PICTURES)
    pictures.write_pictures(load_params())
    assert files_of(DATA_PICTURES) == first
    assert not list(root.rglob("*.tmp"))


def test_tables_count_the_decisions() -> None:
    pictures.write_pictures(load_params())
    classes, outcomes, sizes = (
        pd.read_csv(DATA_PICTURES / f"plots/{name}.csv") for name in ("classes", "outcomes", "sizes")
    )
    counts = classes.set_index(["split", "label"])
    assert counts.loc[("train", LABELS[0])].to_dict() == {"class": f"train/{LABELS[0]}", "found": 30, "kept": 28}
    assert counts[["found", "kept"]].sum().to_dict() == {"found": 225, "kept": 203}
    became = {(row.outcome, row.split): row.images for row in outcomes.itertuples()}
    assert became["unreadable", "train"] == 2
    assert (became["constant", "val"], became["constant", "test"]) == (20, 0)
    assert (became["kept", "train"], became["kept", "test"]) == (88, 60)
    assert sizes["images"].sum() == 225
    assert sizes.loc[sizes["width"].isna(), "images"].tolist() == [2]
    assert sizes.loc[sizes["width"] == SIZE, "format"].tolist() == ["PNG"]


def test_faces_are_those_of_the_training_shards() -> None:
    seen = pictures.look_at_faces(SHARDS, read_dataset_info())
    arrays = load_arrays(SHARDS, "train")
    for index, label in enumerate(LABELS):
        images = arrays.images[arrays.labels == index]
        np.testing.assert_array_equal(seen.samples[label], images[: pictures.SHOWN])
        np.testing.assert_array_equal(seen.means[label], images.mean(axis=0).round())


def test_dropped_images_are_shown_and_what_cannot_be_decoded_is_crossed_out() -> None:
    shown = pictures.dropped_images(pictures.read_inventory(), read_dataset_info(), 10**6)
    assert {reason: len(images) for reason, images in shown.items()} == {"constant": 12, "unreadable": 2}
    encoded = pq.read_table(DATASET)["image"]
    for image, row in ((shown["constant"][0], CONSTANT[0]), (shown["constant"][-1], CONSTANT[-1])):
        np.testing.assert_array_equal(image, decode(encoded[row].as_py(), channels=1))
    np.testing.assert_array_equal(shown["unreadable"][0], drawings.crossed_out(SIZE, 1))


def test_augmentation_stands_beside_its_source() -> None:
    images = load_arrays(SHARDS, "train").images[:3]
    none = AugmentationParams(flip=False, rotation=0, zoom=0, shift=0, contrast=0)
    assert (pictures.augmented(images, none, 0) == images[:, None]).all()
    changed = pictures.augmented(images, AugmentationParams(), 0)
    assert changed.shape == (3, pictures.SHOWN, SIZE, SIZE, 1)
    assert (changed[:, 0] == images).all()
    assert len({row.tobytes() for row in changed[0]}) == pictures.SHOWN


def test_where_nothing_is_dropped_the_page_says_so() -> None:
    rows = [row | {"keep": True, "reason": None} for row in pq.read_table(DECISIONS).to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, DECISIONS_SCHEMA), DECISIONS)
    pictures.write_pictures(load_params())
    assert "<p>Nothing.</p>" in (DATA_PICTURES / "index.html").read_text()
    assert not (DATA_PICTURES / "figures/dropped.png").exists()


def test_names_from_the_source_are_escaped() -> None:
    params = load_params()
    named = params.model_copy(update={"data": params.data.model_copy(update={"source": "<script>x</script>"})})
    pictures.write_pictures(named)
    assert "<script" not in (DATA_PICTURES / "index.html").read_text()


def test_decisions_of_another_data_set_are_refused() -> None:
    pq.write_table(pq.read_table(DECISIONS).slice(1), DECISIONS)
    with pytest.raises(ArtifactError, match=r"decisions\.parquet: not made from this data/dataset\.parquet"):
        pictures.write_pictures(load_params())
    assert not DATA_PICTURES.exists()


def test_mosaic_puts_every_image_in_its_place() -> None:
    red, blue = np.zeros((2, 1, 4, 4, 3), np.uint8)
    red[..., 0], blue[..., 2] = 200, 100
    canvas = drawings.mosaic([np.concatenate([red, blue]), blue], 2)
    step = 4 + drawings.GAP
    assert canvas.shape == (step + 4, step + 4, 3)
    assert (canvas[:4, :4] == red[0]).all()
    assert (canvas[:4, step:] == blue[0]).all()
    assert (canvas[step:, :4] == blue[0]).all()
    assert (canvas[step:, step:] == 255).all()
    assert drawings.mosaic([red[..., :1]], 3).shape == (4, 3 * step - drawings.GAP)
