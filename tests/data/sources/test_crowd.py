"""Votes of several people, joined with the images of any source."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from emotion_detection.data.sources import Sample, open_source
from emotion_detection.data.votes import NO_FACE, UNKNOWN, distribution, no_face_share, target
from emotion_detection.errors import SourceError
from emotion_detection.params import DataParams
from tests.trees import png, two_classes, write_tree

FERPLUS = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
VOTED = {"happy": 7, "sad": 2, "angry": 0, "contempt": 0, NO_FACE: 1}


def samples(source: Path, votes: Path | str) -> dict[str, Sample]:
    found = open_source(DataParams(source=str(source), votes=str(votes)), seed=0)
    return {sample.path: sample for sample in found}


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


def refused(source: Path, votes: Path | str) -> str:
    with pytest.raises(SourceError) as caught:
        samples(source, votes)
    assert Path(votes).name in str(caught.value)
    return str(caught.value)


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "faces", two_classes())


@pytest.mark.parametrize("kind", ["path", "sha256", "md5"])
@pytest.mark.parametrize(
    "columns", ["fp_happiness,fp_sadness,fp_anger,fp_contempt,fp_NF", "Happy,sad,ANGER,contempt,no face"]
)
def test_images_are_found_by_path_and_by_hash(tmp_path: Path, kind: str, columns: str) -> None:
    tree = {"happy/0.png": png(0), "happy/1.png": png(10), "sad/0.png": png(99), "sad/1.png": png(98)}
    keys = [
        path if kind == "path" else hashlib.new(kind, tree[path]).hexdigest().upper()
        for path in ("happy/0.png", "happy/1.png", "sad/1.png")
    ]
    rows = [f"{keys[0]},x,7,2,0,0,1", f"{keys[1]},y,0,0,0,3.5,0", f"{keys[2]},z,,,,,"]
    text = "\n".join([f"{kind},dup_count,{columns}", *rows])
    (tmp_path / "votes.gz").write_bytes(gzip.compress(text.encode("utf-8-sig")))
    found = samples(write_tree(tmp_path / "faces", tree), tmp_path / "votes.gz")
    assert found["happy/0.png"].votes == VOTED
    assert found["happy/1.png"].votes == dict.fromkeys(VOTED, 0) | {"contempt": 3.5}
    assert [found[path].votes for path in ("sad/0.png", "sad/1.png")] == [None, None]


def test_votes_for_equal_files_are_added_up(tmp_path: Path) -> None:
    faces = write_tree(tmp_path / "faces", {"a/0.png": png(1), "a/1.png": png(1), "b/2.png": png(2)})
    md5 = hashlib.md5(png(1)).hexdigest()
    found = samples(faces, write(tmp_path / "votes.csv", "md5,votes_a,votes_b", f"{md5},1,2", f"{md5},4,0"))
    assert found["a/0.png"].votes == found["a/1.png"].votes == {"a": 5, "b": 2}
    assert found["b/2.png"].votes is None


def fer_csv(path: Path) -> Path:
    usages = ["Training", "Training", "Training", "PublicTest", "PrivateTest"]
    return write(path, "emotion,pixels,Usage", *(f"3,{' '.join([str(n)] * 64)},{u}" for n, u in enumerate(usages)))


def ferplus(path: Path, *changes: tuple[str, str]) -> Path:
    text = "\n".join(
        [
            FERPLUS,
            "Training,fer0000000.png,4,0,0,1,3,2,0,0,0,0",
            "Training,,0,0,0,0,0,0,0,0,0,10",
            "Training,fer0000002.png,0,6,0,0,0,0,0,2,2,0",
            "PublicTest,fer0000003.png,10,0,0,0,0,0,0,0,0,0",
            "PrivateTest,fer0000004.png,0,0,0,0,0,0,0,10,0,0",
            "",
        ]
    )
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return path


def test_the_file_of_ferplus_goes_row_by_row_with_fer2013(tmp_path: Path) -> None:
    found = list(samples(fer_csv(tmp_path / "fer2013.csv"), ferplus(tmp_path / "fer2013new.csv")).values())
    votes = [dict(sample.votes or {}) for sample in found]
    assert {name: count for name, count in votes[0].items() if count} == {
        "neutral": 4,
        "sad": 1,
        "angry": 3,
        "disgust": 2,
    }
    assert votes[1] == dict.fromkeys(votes[0], 0) | {NO_FACE: 10}
    assert votes[2] == dict.fromkeys(votes[0], 0) | {"happy": 6, "contempt": 2, UNKNOWN: 2}
    assert [Counter(some).most_common(1)[0][0] for some in votes[3:]] == ["neutral", "contempt"]


def test_the_file_of_ferplus_goes_with_images_that_have_its_names(tmp_path: Path) -> None:
    tree = {"happy/fer0000002.png": png(2), "neutral/fer0000000.png": png(0)}
    found = samples(write_tree(tmp_path / "faces", tree), ferplus(tmp_path / "fer2013new.csv"))
    assert (found["happy/fer0000002.png"].votes or {})["happy"] == 6
    assert (found["neutral/fer0000000.png"].votes or {})["neutral"] == 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([("fer0000002.png", "fer0000003.png")], "row 4: found Image name fer0000003.png, expected fer0000002.png"),
        ([("PublicTest", "Training")], "row-000005.png is that of train, but data.source has it in val"),
        ([("PublicTest", "Pubic")], "row 5: found Usage 'Pubic', expected Training, PublicTest, PrivateTest"),
    ],
)
def test_a_file_of_ferplus_with_other_rows(tmp_path: Path, changes: list[tuple[str, str]], words: str) -> None:
    source = fer_csv(tmp_path / "fer2013.csv")
    assert words in refused(source, ferplus(tmp_path / "fer2013new.csv", *changes))


def test_names_of_files_alone(tmp_path: Path) -> None:
    faces = write_tree(tmp_path / "faces", {"happy/a.png": png(1), "sad/b.png": png(2), "sad/c.png": png(3)})
    votes = write(tmp_path / "votes.csv", "path,happy,sad", "a.png,3,1", "b.png,0,4")
    assert samples(faces, votes)["happy/a.png"].votes == {"happy": 3, "sad": 1}
    (faces / "sad/a.png").write_bytes(png(4))
    assert "happy/a.png and sad/a.png are called the same; give the path inside the source" in refused(faces, votes)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["happy,sad", "1,2"], "has columns happy, sad, and none that names the image; expected path, sha256, md5"),
        (["path,good,bad", "happy/0.png,1,2"], "has columns path, good, bad, and none with votes"),
        (["path,NF", "happy/0.png,1"], "and none with votes"),
        (["path,happy,sad", "happy/0.png,1,2", "happy/1.png,1,-2"], "row 3, column sad: found '-2', expected a number"),
        (["path,happy,sad", "happy/0.png,1,two"], "row 2, column sad: found 'two'"),
        (["path,happy,sad", "happy/0.png,inf,2"], "row 2, column happy: found 'inf'"),
        (["path,happy,sad", "happy/0.png,,2"], "row 2, column happy: found ''"),
        (["path,happy,happiness", "happy/0.png,1,2"], "columns happy and happiness both stand for happy"),
        (["path,happy", "happy/0.png,1", "x/0.png,1", "happy/0.png,2"], "rows 2 and 4 both have the path happy/0.png"),
        (["path,happy", "a/happy/0.png,1"], "votes for 0 of 6 images, but none for happy/0.png, happy/1.png, happy/2"),
        (["path,happy", "a/happy/0.png,1"], "and 3 more; its rows are known by path such as a/happy/0.png; give the"),
        (["path,happy,sad", "happy/0.png,1,2", *(f"x/{n}.png,1,2" for n in range(5))], "votes for 1 of 6 images"),
        (["path,happy", 'happy/0.png,"1'], "cannot be read"),
        ([], "cannot be read"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_named(faces: Path, tmp_path: Path, lines: list[str], words: str) -> None:
    assert words in refused(faces, write(tmp_path / "votes.csv", *lines))


def test_a_missing_or_damaged_file_is_named(faces: Path, tmp_path: Path) -> None:
    assert "data.votes: nowhere.csv: no such file; expected a csv" in refused(faces, "nowhere.csv")
    (tmp_path / "votes.csv.gz").write_bytes(gzip.compress(b"path,happy\nhappy/0.png,1\n")[:-9])
    assert "cannot be read" in refused(faces, tmp_path / "votes.csv.gz")


def test_votes_for_a_few_images_on_purpose_are_taken_with_a_warning(
    faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = samples(faces, write(tmp_path / "votes.csv", "path,happy,sad", "happy/0.png,1,2"))
    assert sum(sample.votes is not None for sample in found.values()) == 1
    assert re.search(r"warning: .*votes\.csv: has votes for 1 of 6 images", capsys.readouterr().err)


def test_shares_of_votes() -> None:
    votes = {"happy": 6.0, "sad": 2.0, "contempt": 1.0, NO_FACE: 1.0}
    np.testing.assert_allclose(distribution(votes, ["Sadness", "happy"]), [0.25, 0.75])
    np.testing.assert_allclose(target(votes, "happy", ("happy", "sad")), [0.75, 0.25])
    assert no_face_share(votes) == 0.1
    nobody = {"happy": 0.0, "sad": 0.0, NO_FACE: 10.0}
    assert distribution(nobody, ["happy", "sad"]) is None
    assert target(nobody, "sad", ("happy", "sad")).tolist() == target(None, "sad", ("happy", "sad")).tolist() == [0, 1]
    assert np.isnan(no_face_share(None))


def test_real_data_fer2013_with_the_votes_of_its_index() -> None:
    folder = Path(os.environ.get("REAL_DATA_DIR", ""))
    index = folder / "fer2013_index.csv.gz"
    if not (folder / "fer2013.zip").is_file() or not index.is_file():
        pytest.skip("needs fer2013.zip and fer2013_index.csv.gz in REAL_DATA_DIR")
    images = open_source(DataParams(source=str(folder / "fer2013.zip"), votes=str(index)), seed=0)
    voted = {image.path: (image.label, dict(image.votes)) for image in images if image.votes}
    assert (len(images), len(voted)) == (35_887, 35_712)  # two have none in their row, but a copy has
    assert Counter(sum(votes.values()) for _, votes in voted.values()) == {10: 35_711, 9: 1}
    assert sum(no_face_share(votes) >= 0.5 for _, votes in voted.values()) == 3
    table = pd.read_csv(index, usecols=["path", "row_unique"])
    unique = table["path"][table["row_unique"]]  # the others' votes may be those of another image with the same bytes
    agree = [label == max(votes, key=votes.__getitem__) for label, votes in (voted[path] for path in unique)]
    assert np.mean(agree) == pytest.approx(0.621, abs=0.0005)
