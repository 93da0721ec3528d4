"""Layout rules, tried on directories; archives share them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from emotion_detection.data.sources import open_source
from emotion_detection.data.sources.layout import MAX_BYTES
from emotion_detection.errors import SourceError
from emotion_detection.params import DataParams
from tests.trees import png, read, two_classes, write_tree


def labels_and_splits(root: Path) -> set[tuple[str, str | None]]:
    return {(sample.label, sample.split) for sample in read(root)}


def test_classes_without_splits_come_in_the_order_of_their_paths(tmp_path):
    samples = read(write_tree(tmp_path / "faces", two_classes()))
    assert [sample.path for sample in samples] == sorted(two_classes())
    assert {sample.path: sample.data for sample in samples} == two_classes()
    assert {sample.split for sample in samples} == {None}
    assert {sample.label for sample in samples} == {"happy", "sad"}


@pytest.mark.parametrize(
    ("folder", "split"),
    [
        ("train", "train"), ("Training", "train"), ("val", "val"), ("valid", "val"), ("Validation", "val"),
        ("dev", "val"), ("PublicTest", "val"), ("TEST", "test"), ("testing", "test"), ("PrivateTest", "test"),
    ],
)  # fmt: skip
def test_split_folders_have_the_names_people_use(tmp_path, folder, split):
    assert labels_and_splits(write_tree(tmp_path, {f"{folder}/sad/1.png": png(1)})) == {("sad", split)}


@pytest.mark.parametrize(
    ("name", "split"), [("Training_1.jpg", "train"), ("PublicTest_1.jpg", "val"), ("PrivateTest_1.jpg", "test")]
)
@pytest.mark.parametrize("folder", ["train/sad", "test/sad", "sad"])
def test_prefixes_of_fer2013_decide_whatever_the_folder_says(tmp_path, folder, name, split):
    assert labels_and_splits(write_tree(tmp_path, {f"{folder}/{name}": png(1)})) == {("sad", split)}


def test_images_beside_those_with_a_prefix_are_for_training(tmp_path):
    tree = {"sad/PrivateTest_1.jpg": png(1), "sad/own.jpg": png(2)}
    assert labels_and_splits(write_tree(tmp_path, tree)) == {("sad", "test"), ("sad", "train")}


@pytest.mark.parametrize("top", ["fer2013", "a/b/c"])
@pytest.mark.parametrize("inside", ["train/sad", "sad"])
def test_a_common_top_folder_is_passed_over(tmp_path, top, inside):
    split = "train" if "train" in inside else None
    root = write_tree(tmp_path, {f"{top}/{inside}/1.png": png(1), f"{top}/README.md": b"hello"})
    assert labels_and_splits(root) == {("sad", split)}


def test_hidden_files_are_passed_over(tmp_path):
    junk = {
        ".DS_Store": b"x",
        "happy/.DS_Store": b"x",
        "__MACOSX/happy/._1.png": b"x",
        "happy/Thumbs.db": b"x",
        ".git/a": b"",
    }
    samples = read(write_tree(tmp_path, two_classes() | junk))
    assert len(samples) == len(two_classes())


def test_whatever_stands_in_a_class_folder_is_a_sample(tmp_path):
    odd = {"happy/text.jpg": b"just words", "happy/empty.png": b"", "happy/noextension": png(1)}
    samples = read(write_tree(tmp_path, two_classes() | odd))
    assert odd.items() <= {sample.path: sample.data for sample in samples}.items()


def test_side_files_are_left_out_with_a_warning(tmp_path, capsys):
    side = {"train/happy/notes.txt": b"x", "labels.csv": b"x", "docs/about.md": b"x"}
    samples = read(write_tree(tmp_path, {"train/happy/1.png": png(1)} | side))
    assert [sample.path for sample in samples] == ["train/happy/1.png"]
    warning = capsys.readouterr().err
    assert "left out 3 file(s)" in warning
    assert all(name in warning for name in side)


def test_names_that_are_not_utf8_become_escapes(tmp_path):
    write_tree(tmp_path, two_classes())
    (tmp_path / "sad" / os.fsdecode(b"caf\xe9.png")).write_bytes(png(7))
    [odd] = [sample for sample in read(tmp_path) if "caf" in sample.path]
    assert odd.path == "sad/caf\\xe9.png"
    assert odd.data == png(7)


def test_a_directory_with_one_archive_or_csv_stands_for_it(tmp_path):
    rows = "emotion,pixels,Usage\n3,0 1 2 3,Training\n"
    write_tree(tmp_path, {"fer2013.csv": rows.encode(), "README.md": b"about"})
    [sample] = read(tmp_path)
    assert sample.label == "happy"


def test_links_to_files_and_folders_are_followed(tmp_path):
    write_tree(tmp_path / "store", {"a.png": png(1), "folder/b.png": png(2)})
    write_tree(tmp_path / "faces", {"sad/c.png": png(3)})
    (tmp_path / "faces/sad/a.png").symlink_to(tmp_path / "store/a.png")
    (tmp_path / "faces/happy").symlink_to(tmp_path / "store/folder")
    assert {(s.path, s.data) for s in read(tmp_path / "faces")} == {
        ("happy/b.png", png(2)), ("sad/a.png", png(1)), ("sad/c.png", png(3)),
    }  # fmt: skip


def refused(path: Path) -> str:
    with pytest.raises(SourceError) as caught:
        open_source(DataParams(source=str(path)), seed=0)
    return str(caught.value)


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({}, ["no class folders", "<split>/<class>"]),
        ({"1.png": b"x", "2.png": b"x"}, ["no class folders"]),
        ({"train/1.png": b"x"}, ["train/1.png", "outside of the class folders"]),
        ({"sad/1.png": b"x", "cover.png": b"x"}, ["cover.png", "outside of the class folders"]),
        ({"sad/1.png": b"x", "happy/more/2.png": b"x"}, ["happy/more/2.png", "in a folder inside a class folder"]),
        ({"sad/1.png": b"x", "happy/": b""}, ["happy", "holds no image"]),
        ({"top/sad/1.png": b"x", "top/happy/": b""}, ["top/happy", "holds no image"]),
        ({"train/sad/1.png": b"x", "train/happy/": b""}, ["train/happy", "holds no image"]),
        ({"train/sad/1.png": b"x", "test/": b""}, ["test", "holds no image"]),
        ({"sad/1.png": b"x", "happy/list.txt": b"x"}, ["happy", "holds no image"]),
        ({"sad/1.png": b"x", "happy/.hidden": b"x"}, ["happy", "holds no image"]),
        ({"Happy/1.png": b"x", "happy/2.png": b"x"}, ["'Happy'", "'happy'", "case"]),
        ({"train/sad/1.png": b"x", "test/sad /2.png": b"x"}, ["'sad'", "'sad '", "spaces"]),
        ({"train/sad/1.png": b"x", "extra/sad/2.png": b"x"}, ["extra stands beside the splits train"]),
    ],
)
def test_a_tree_laid_out_otherwise_is_refused(tmp_path, tree, words):
    message = refused(write_tree(tmp_path / "faces", tree))
    assert all(word in message for word in [*words, str(tmp_path / "faces")])


def test_a_missing_source_is_refused(tmp_path):
    assert "no such file or directory" in refused(tmp_path / "nowhere")


def test_a_cycle_of_links_is_refused(tmp_path):
    write_tree(tmp_path, two_classes())
    (tmp_path / "happy/again").symlink_to(tmp_path)
    assert "leads back" in refused(tmp_path)


def test_a_broken_link_is_refused(tmp_path):
    write_tree(tmp_path, two_classes())
    (tmp_path / "happy/gone.png").symlink_to(tmp_path / "nowhere")
    assert "gone.png: No such file" in refused(tmp_path)


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    write_tree(tmp_path, two_classes())
    os.mkfifo(tmp_path / "happy/pipe.png")
    assert "neither a file nor a folder" in refused(tmp_path)


def test_a_huge_file_is_refused_before_it_is_read(tmp_path):
    write_tree(tmp_path, two_classes())
    with (tmp_path / "happy/huge.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    assert "huge.png: 67108865 bytes; at most 67108864" in refused(tmp_path)


def test_a_file_that_vanishes_is_reported(tmp_path):
    source = open_source(DataParams(source=str(write_tree(tmp_path, two_classes()))), seed=0)
    (tmp_path / "sad/2.png").unlink()
    with pytest.raises(SourceError, match=r"sad/2\.png: No such file"):
        list(source)
