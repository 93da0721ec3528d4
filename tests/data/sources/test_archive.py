"""Archives: the layout of directories, read in place, and what can be wrong with an archive itself."""

from __future__ import annotations

import gzip
import os
import random
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from emotion_detection.data.sources import open_source
from emotion_detection.data.sources.layout import MAX_BYTES
from emotion_detection.errors import SourceError
from emotion_detection.params import DataParams
from tests.trees import png, read, two_classes, write_tar, write_tree, write_zip

TAR_MODES = ["w", "w:gz", "w:bz2", "w:xz"]


def refused(path: Path) -> str:
    with pytest.raises(SourceError) as caught:
        list(open_source(DataParams(source=str(path)), seed=0))
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_zip_gives_what_the_directory_gives(tmp_path, compression):
    shuffled = dict(sorted(two_classes().items(), reverse=True))
    archive = write_zip(tmp_path / "faces", shuffled, compression)  # known without a suffix
    assert read(archive) == read(write_tree(tmp_path / "tree", two_classes()))


@pytest.mark.parametrize("mode", TAR_MODES)
def test_a_tar_gives_what_the_directory_gives_in_its_own_order(tmp_path, mode):
    shuffled = dict(sorted(two_classes().items(), reverse=True))
    samples = read(write_tar(tmp_path / "faces.zip", shuffled, mode))  # not fooled by the suffix
    assert [sample.path for sample in samples] == list(shuffled)
    assert sorted(samples, key=lambda s: s.path) == read(write_tree(tmp_path / "tree", two_classes()))


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_top_folders_hidden_files_and_dot_prefixes_are_passed_over(tmp_path, write):
    tree = {f"./fer/train/{name}": data for name, data in two_classes().items()}
    samples = read(write(tmp_path / "a", tree | {"__MACOSX/fer/._x": b"x", "fer/train/sad/.DS_Store": b"x"}))
    assert {(sample.path, sample.split) for sample in samples} == {
        (f"fer/train/{name}", "train") for name in two_classes()
    }


def test_a_zip_with_backslashes_is_understood(tmp_path):
    tree = {name.replace("/", "\\"): data for name, data in two_classes().items()}
    assert [sample.path for sample in read(write_zip(tmp_path / "a.zip", tree))] == sorted(two_classes())


def test_names_in_a_tar_that_are_not_utf8_become_escapes(tmp_path):
    tree = two_classes() | {os.fsdecode(b"sad/caf\xe9.png"): png(9)}
    assert "sad/caf\\xe9.png" in {sample.path for sample in read(write_tar(tmp_path / "a.tar", tree))}


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_rules_of_the_layout_hold_in_archives(tmp_path, write):
    assert "happy holds no image" in refused(write(tmp_path / "a", {"happy/": b"", "sad/1.png": png(1)}))
    assert "case" in refused(write(tmp_path / "b", {"Sad/1.png": png(1), "sad/1.png": png(1)}))
    assert "no class folders" in refused(write(tmp_path / "c", {"1.png": png(1)}))
    assert "no class folders" in refused(write(tmp_path / "d", {}))


@pytest.mark.parametrize("write", [write_zip, write_tar])
@pytest.mark.parametrize("name", ["/sad/1.png", "../sad/1.png", "sad/../../1.png", "C:/sad/1.png"])
def test_members_that_lead_out_are_refused(tmp_path, write, name):
    message = refused(write(tmp_path / "a", two_classes() | {name: png(1)}))
    assert repr(name) in message
    assert "leads out of the archive" in message


@pytest.mark.parametrize("write", [write_zip, write_tar])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_path_that_stands_twice_is_refused(tmp_path, write):
    tree = two_classes() | {"./sad/1.png": png(1)}
    assert "sad/1.png 2 times" in refused(write(tmp_path / "a", tree))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    path = write_tar(tmp_path / "a.tar", two_classes())
    with tarfile.open(path, "a") as archive:
        info = tarfile.TarInfo("sad/link.png")
        info.type, info.linkname = kind, "sad/1.png"
        archive.addfile(info)
    assert "sad/link.png is a link or device" in refused(path)


def test_a_link_in_a_zip_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", two_classes())
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("sad/link.png")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "1.png")
    assert "sad/link.png is a symbolic link" in refused(path)


def test_an_encrypted_zip_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"sad/1.png": png(1), "sad/2.png": png(2)})
    data = bytearray(path.read_bytes())
    central = data.rindex(b"PK\x01\x02")
    data[central + 8] |= 1  # the flag "encrypted" of the last member
    path.write_bytes(data)
    assert "sad/2.png is encrypted" in refused(path)


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_what_is_truncated_is_refused(tmp_path, write):
    path = write(tmp_path / "a", two_classes())
    whole = path.read_bytes()
    for length in (len(whole) // 3, len(whole) // 2):
        path.write_bytes(whole[:length])
        assert "damaged, truncated" in refused(path)


@pytest.mark.parametrize("mode", TAR_MODES)
def test_a_tar_truncated_anywhere_is_refused(tmp_path, mode):
    whole = write_tar(tmp_path / "a", two_classes(), mode).read_bytes()
    path = tmp_path / "b"
    for part in range(1, 6):
        path.write_bytes(whole[: len(whole) * part // 10])
        assert "damaged" in refused(path)


def test_a_tar_cut_between_two_members_is_refused(tmp_path):
    whole = write_tar(tmp_path / "a", two_classes()).read_bytes()
    path = tmp_path / "b"
    path.write_bytes(whole[: 4 * 1024])  # header and image take 1024 bytes
    assert "damaged" in refused(path)


def test_a_tar_with_a_broken_header_in_its_middle_is_refused(tmp_path):
    path = write_tar(tmp_path / "a", two_classes())
    data = bytearray(path.read_bytes())
    data[2 * 1024 + 150] ^= 0xFF  # checksum of the third header: `tarfile` alone would stop there in silence
    path.write_bytes(data)
    assert "damaged" in refused(path)


def test_a_zip_member_with_other_bytes_than_announced_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", two_classes())
    data = bytearray(path.read_bytes())
    data[data.index(png(0)) + 20] ^= 0xFF
    path.write_bytes(data)
    assert "CRC" in refused(path)


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("write", [write_zip, write_tar])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_damage_never_ends_in_a_stack_trace(tmp_path, write, seed):
    chance = random.Random(seed)
    path = write(tmp_path / "a", two_classes(), *(["w:gz"] if write is write_tar and seed % 2 else []))
    data = bytearray(path.read_bytes())
    for _ in range(8):
        data[chance.randrange(len(data))] = chance.randrange(256)
    path.write_bytes(data)
    with suppress(SourceError):  # where the damage hit only pixels of a tar, nobody can tell yet
        list(open_source(DataParams(source=str(path)), seed=0))


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_bomb_is_refused_before_it_is_read(tmp_path, kind):
    path, zeros = tmp_path / "bomb", bytes(MAX_BYTES + 1)
    if kind == "zip":
        write_zip(path, two_classes() | {"sad/bomb.png": zeros}, zipfile.ZIP_DEFLATED)
    else:
        write_tar(path, two_classes() | {"sad/bomb.png": zeros}, "w:gz")
    assert path.stat().st_size < 1_000_000
    with pytest.raises(SourceError, match=r"sad/bomb\.png: 67108865 bytes; at most 67108864"):
        open_source(DataParams(source=str(path)), seed=0)


def test_a_bomb_that_lies_about_its_size_is_not_unpacked_whole(tmp_path):
    path = write_zip(tmp_path / "bomb.zip", two_classes() | {"sad/z.png": bytes(MAX_BYTES + 1)}, zipfile.ZIP_DEFLATED)
    data = path.read_bytes().replace((MAX_BYTES + 1).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    path.write_bytes(data)
    assert "damaged" in refused(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK", b"PK\x03\x04 but no zip", gzip.compress(b"no tar", mtime=0)])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "faces.zip"
    path.write_bytes(content)
    assert "damaged" in refused(path)


def test_nothing_is_unpacked_to_disk(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "a.tgz", two_classes(), "w:gz")
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    monkeypatch.setenv("TMPDIR", str(empty))
    assert read(path)
    assert list(empty.iterdir()) == []
    assert [inner.name for inner in tmp_path.iterdir() if inner != empty] == ["a.tgz"]
