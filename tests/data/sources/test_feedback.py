"""Faces that people judged as training data: alone, and beside another source."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from cryptography.fernet import Fernet

from emotion_detection.artifacts import SOURCE, SourceFingerprint, read_record
from emotion_detection.data.fingerprint import update_fingerprint
from emotion_detection.data.ingest import ingest
from emotion_detection.data.sources import open_source
from emotion_detection.errors import SourceError
from emotion_detection.feedback import FeedbackStore, Judgement
from emotion_detection.params import DataParams, SplitParams
from emotion_detection.prediction_ids import PredictionIds
from emotion_detection.preprocess import encode_png
from emotion_detection.seal import KEY_VARIABLE, read_seal
from tests.trees import two_classes, write_tree

SHARES = SplitParams(val=0.3, test=0.3)
NAMES = PredictionIds("7-2c26b46b", b"secret" * 5)


def face(seed: int) -> bytes:
    return encode_png(np.random.default_rng(seed).integers(0, 256, (48, 48, 1), np.uint8))


def keep(directory: Path, *labels: str, key: str = "", first: int = 0) -> list[str]:
    """Ids of the answers on which people said this."""
    store, now = FeedbackStore(directory, read_seal(key)), time.time()
    names = [NAMES.of([0]) for _ in labels]
    for seed, (name, label) in enumerate(zip(names, labels, strict=True), first):
        store.add(Judgement(name, 0, "7", "happy", label, now, now + 60, now + 86_400), face(seed))
    return names


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    return tmp_path


def rows(data: DataParams) -> list[dict[str, object]]:
    ingest(open_source(data, 0), Path("out.parquet"), SHARES, 0)
    found: list[dict[str, object]] = pq.read_table("out.parquet").to_pylist()
    return found


@pytest.mark.parametrize("source", ["kept", "kept/feedback.db"])
def test_alone_it_is_cut_into_splits_like_any_other(here: Path, source: str) -> None:
    names = keep(here / "kept", *["happy", "sad"] * 20)
    found = rows(DataParams(source=source))
    assert {row["path"] for row in found} == {f"feedback:{name}/0.png" for name in names}
    assert {row["split"] for row in found} == {"train", "val", "test"}
    assert {row["image"] for row in found} == {face(seed) for seed in range(40)}


@pytest.mark.parametrize("splits", [("",), ("train/", "val/", "test/"), ("train/",)])
def test_beside_another_source_it_is_for_training_alone(here: Path, splits: tuple[str, ...]) -> None:
    files = {f"{split}{name}": data for split in splits for name, data in two_classes().items()}
    write_tree(here / "faces", files)
    before = {row["path"]: row["split"] for row in rows(DataParams(source="faces"))}
    keep(here / "kept", *["happy", "sad"] * 10)
    found = rows(DataParams(source="faces", feedback="kept"))
    said = [row for row in found if str(row["path"]).startswith("feedback:")]
    assert (len(said), {row["split"] for row in said}) == (20, {"train"})
    assert {row["path"]: row["split"] for row in found if row not in said} == before


def test_labels_that_the_source_does_not_have_are_left_out_and_told(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tree(here / "faces", two_classes())
    keep(here / "kept", "happy", "bored", "bored")
    found = rows(DataParams(source="faces", feedback="kept"))
    assert [row["label"] for row in found if str(row["path"]).startswith("feedback:")] == ["happy"]
    assert "left out 2 face(s) labelled bored" in capsys.readouterr().err


def test_encrypted_faces_take_their_key(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = Fernet.generate_key().decode()
    keep(here / "kept", *["happy"] * 20, key=key)
    with pytest.raises(SourceError, match=KEY_VARIABLE):
        rows(DataParams(source="kept"))
    monkeypatch.setenv(KEY_VARIABLE, key)
    assert {row["image"] for row in rows(DataParams(source="kept"))} == {face(seed) for seed in range(20)}


def test_a_change_of_the_faces_is_noticed_and_no_other_change_of_the_file(here: Path) -> None:
    write_tree(here / "faces", two_classes())
    names = keep(here / "kept", "happy", "sad")

    def update() -> SourceFingerprint:
        return update_fingerprint(SOURCE, DataParams(source="faces", feedback="kept"), 0)

    before, store = update(), FeedbackStore(here / "kept")
    now = time.time()
    store.add(Judgement(NAMES.of([0]), 0, "7", "happy", "sad", now, now + 60))
    store.purge()
    assert update() == before == read_record(SOURCE, SourceFingerprint)
    assert before.feedback is not None
    store.delete(names[0])
    assert update() != before
    alone = update_fingerprint(SOURCE, DataParams(source="kept"), 0)
    assert (alone.kind, alone.files) == ("feedback", 1)


def test_what_is_no_store_is_told_and_one_on_another_machine_is_not_needed(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tree(here / "faces", two_classes())
    data = DataParams(source="faces", feedback="kept")
    with pytest.raises(SourceError, match=r"kept/feedback\.db: no feedback is there"):
        update_fingerprint(SOURCE, data, 0)
    keep(here / "kept", "happy")
    before = update_fingerprint(SOURCE, data, 0)
    (here / "kept").rename(here / "elsewhere")
    assert update_fingerprint(SOURCE, data, 0) == before
    assert "going on with the data recorded" in capsys.readouterr().err
    (here / "kept").mkdir()
    (here / "kept" / "feedback.db").write_bytes(b"SQLite format 3\0" + bytes(99))
    with pytest.raises(SourceError, match="file is not a database"):
        update_fingerprint(SOURCE, data, 0)
