"""The fingerprint: what changes it, what does not, and what happens without the source."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from emotion_detection.artifacts import SOURCE, SourceFingerprint, read_record
from emotion_detection.data.fingerprint import STATE, fingerprint, update_fingerprint
from emotion_detection.errors import ArtifactError, SourceError
from emotion_detection.params import DataParams
from tests.trees import png, two_classes, write_tar, write_tree, write_zip


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def digest(source: str | Path) -> str:
    return fingerprint(DataParams(source=str(source)), seed=0).digest


def update(source: str | Path) -> SourceFingerprint:
    return update_fingerprint(SOURCE, DataParams(source=str(source)), seed=0)


@pytest.mark.parametrize(
    ("make", "kind", "files"),
    [
        (write_tree, "directory", 6),
        (write_zip, "archive", 1),
        (write_tar, "archive", 1),
        (lambda path, _: path.write_text("emotion,pixels\n0,1\n"), "fer_csv", 1),
    ],
)
def test_each_kind_is_described(tmp_path, make, kind, files):
    make(tmp_path / "faces", two_classes())
    found = update("faces")
    assert (found.source, found.kind, found.files) == ("faces", kind, files)
    assert (
        found.size == sum(p.stat().st_size for p in tmp_path.glob("faces/*/*")) or (tmp_path / "faces").stat().st_size
    )
    assert read_record(SOURCE, SourceFingerprint) == found


def test_a_directory_is_known_by_names_and_bytes_alone(tmp_path):
    before = digest(write_tree(tmp_path / "a", two_classes()))
    shuffled = dict(sorted(two_classes().items(), reverse=True))
    assert digest(write_tree(tmp_path / "b", shuffled | {".DS_Store": b"junk"})) == before
    os.utime(tmp_path / "a/sad/1.png", (1, 1))
    assert digest(tmp_path / "a") == before


@pytest.mark.parametrize("change", ["content", "rename", "add", "remove", "move"])
def test_any_change_of_a_directory_is_noticed(tmp_path, change):
    root = write_tree(tmp_path / "faces", two_classes())
    before = digest(root)
    image = root / "sad/1.png"
    if change == "content":
        data = bytearray(image.read_bytes())
        data[-20] ^= 1
        image.write_bytes(data)
    elif change == "add":
        (root / "sad/9.png").write_bytes(png(9))
    elif change == "remove":
        image.unlink()
    else:
        image.rename(root / {"rename": "sad/8.png", "move": "happy/8.png"}[change])
    assert digest(root) != before


def test_a_changed_archive_of_the_same_size_is_noticed(tmp_path):
    archive = write_zip(tmp_path / "a.zip", two_classes())
    before = digest(archive)
    data = bytearray(archive.read_bytes())
    data[40] ^= 1
    archive.write_bytes(data)
    assert digest(archive) != before


def test_names_that_are_not_utf8_are_taken_as_they_are(tmp_path):
    root = write_tree(tmp_path / "faces", two_classes())
    before = digest(root)
    (root / "sad" / os.fsdecode(b"caf\xe9.png")).write_bytes(png(7))
    assert digest(root) == digest(root) != before


@pytest.mark.parametrize(
    ("change", "matters"),
    [
        ({"synthetic": {"count": 10}}, True),
        ({"synthetic": {"difficulty": 0.1}}, True),
        ({"synthetic": {"image_size": 20}}, True),
        ({"split": {"val": 0.3}}, True),
        ({"image_size": 99}, False),
        ({"classes": ["happy", "sad"]}, False),
    ],
)
def test_the_synthetic_source_is_known_by_its_params(change, matters):
    before = fingerprint(DataParams(), seed=0)
    assert (fingerprint(DataParams.model_validate(change), seed=0).digest != before.digest) == matters


def test_the_synthetic_source_is_known_by_its_seed():
    assert fingerprint(DataParams(), seed=0).digest != fingerprint(DataParams(), seed=1).digest


def test_files_are_read_once(tmp_path, monkeypatch):
    from dvc_data.hashfile import hash as dvc_hash

    read: list[str] = []
    original = dvc_hash.file_md5
    monkeypatch.setattr(dvc_hash, "file_md5", lambda path, *a, **k: read.append(path) or original(path, *a, **k))
    root = write_tree(tmp_path / "faces", two_classes())
    update(root)
    assert len(read) == 6
    update(root)
    assert len(read) == 6
    (root / "sad/1.png").write_bytes(b"other")
    update(root)
    assert read[6:] == [str(root / "sad/1.png")]


def test_an_unchanged_source_leaves_the_file_alone(tmp_path):
    root = write_tree(tmp_path / "faces", two_classes())
    update(root)
    before = SOURCE.stat()
    update(root)
    assert (SOURCE.stat().st_ino, SOURCE.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_source_that_is_not_here_but_described_stays(tmp_path, capsys):
    root = write_tree(tmp_path / "faces", two_classes())
    known = update("faces")
    root.rename(tmp_path / "elsewhere")
    assert update("faces") == known
    assert read_record(SOURCE, SourceFingerprint) == known
    warning = capsys.readouterr().err
    assert "faces: no such file or directory" in warning
    assert "going on with the data recorded in data/source.json" in warning


def test_a_description_of_another_source_does_not_help(tmp_path):
    update(write_tree(tmp_path / "faces", two_classes()))
    with pytest.raises(SourceError, match="elsewhere: no such file or directory"):
        update("elsewhere")


def test_a_source_that_is_here_but_damaged_is_refused_though_described(tmp_path):
    archive = write_zip(tmp_path / "a.zip", two_classes())
    update("a.zip")
    archive.write_bytes(b"no archive any more")
    with pytest.raises(SourceError, match="is neither a directory nor a zip"):
        update("a.zip")


def test_a_damaged_record_is_replaced(tmp_path):
    write_tree(tmp_path / "faces", two_classes())
    SOURCE.parent.mkdir()
    SOURCE.write_text("{")
    assert update("faces") == read_record(SOURCE, SourceFingerprint)


def test_a_damaged_cache_is_named(tmp_path):
    write_tree(tmp_path / "faces", two_classes())
    update("faces")
    for database in STATE.rglob("cache.db*"):
        database.write_bytes(b"no database at all" * 100)
    with pytest.raises(ArtifactError, match=r"\.cache/fingerprint.*remove it"):
        update("faces")


def test_the_stage_runs_without_heavy_imports(tmp_path):
    write_zip(tmp_path / "a.zip", two_classes())
    (tmp_path / "params.yaml").write_text("data: {source: a.zip}\nmodels: {a: {architecture: lenet}}\n")
    code = (
        "import sys; from pipeline.fingerprint import main; main();"
        "heavy = {'tensorflow', 'keras', 'mlflow', 'cv2', 'pandas', 'dvc', 'kagglehub', 'PIL'};"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    described, heavy = result.stdout.splitlines()
    assert described.startswith("a.zip: archive, 1 files, ")
    assert heavy == "[]"
    assert read_record(SOURCE, SourceFingerprint).source == "a.zip"
