from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from emotion_detection.artifacts import DECISIONS_SCHEMA
from emotion_detection.data.defects import judge
from emotion_detection.data.quality import DESCRIPTIONS, check, class_table, rules, write_decisions
from emotion_detection.data.report import Finding, print_report, require, summarise
from emotion_detection.errors import ArtifactError, ValidationFailed
from emotion_detection.params import ClassParams, Params, ValidationParams, merge, parse_params

SPLITS = ("train", "val", "test")
LABELS = ("happy", "sad")


def params(**changes: object) -> Params:
    return parse_params(merge({"models": {"lenet": {"architecture": "lenet"}}}, changes))


def faces(count: int) -> pd.DataFrame:
    """`count` faultless images, spread over splits and classes."""
    numbers = np.arange(count)
    table = pd.DataFrame({"split": np.take(SPLITS, numbers % 3), "label": np.take(LABELS, numbers // 3 % 2)})
    return table.assign(
        path=table["split"] + "/" + table["label"] + "/" + pd.Series(numbers).astype(str) + ".jpg",
        sha256=[f"{number:064x}" for number in numbers],
        width=48,
        height=48,
        mode="L",
        format="JPEG",
        error=pd.Series(None, index=table.index, dtype=object),
        mean=120.0,
        std=40.0,
        no_face_votes=np.nan,
        suspected=False,
        phash=np.random.default_rng(0).integers(0, 2**63, count).astype(np.uint64),
    )


def check_all(images: pd.DataFrame, settings: Params, docs: Path) -> dict[tuple[str, str], Finding]:
    verdict = judge(images, settings.validation, settings.data.classes)
    return {(finding.check, finding.severity): finding for finding in check(images, verdict, settings, docs)}


def test_a_faultless_data_set_has_no_findings(tmp_path: Path) -> None:
    assert check_all(faces(12), params(), tmp_path / "docs") == {}
    assert "Every expectation holds" in (tmp_path / "docs/index.html").read_text()


def test_every_check_has_a_warning_that_names_the_images(tmp_path: Path) -> None:
    images = faces(120)
    images.loc[0, ["error", "std"]] = ["truncated", np.nan]
    images.loc[1, "std"] = 0.0
    images.loc[2, "width"] = 3
    images.loc[[3, 6], "sha256"] = "c" * 64  # train/sad and train/happy
    images.loc[[12, 13], "sha256"] = "d" * 64  # train and val
    images.loc[[18, 24], "sha256"] = "e" * 64  # twice in train
    images.loc[[30, 31], "phash"] = np.uint64(77)  # train and val
    images.loc[5, "mode"] = "F"
    images.loc[7, "no_face_votes"] = 0.5
    images.loc[8, "suspected"] = True
    images.loc[36, "path"] = "feedback:7-1/0.png"
    images.loc[36, "phash"] = images.loc[38, "phash"]  # in test
    found = check_all(images, params(), tmp_path / "docs")
    concerned = {name: [example.split(":")[0] for example in found[name, "warning"].examples] for name in DESCRIPTIONS}
    assert concerned == {
        "unreadable": ["train/happy/0.jpg"],
        "constant": ["val/happy/1.jpg"],
        "too_small": ["test/happy/2.jpg"],
        "no_face": ["val/happy/7.jpg"],
        "known": ["feedback"],
        "conflicting_labels": ["train/sad/3.jpg", "train/happy/6.jpg"],
        "suspicious": ["test/happy/8.jpg"],
        "leaked": ["val/happy/13.jpg"],
        "duplicate": ["train/happy/6.jpg", "train/happy/24.jpg"],
        "near_duplicate": ["train/happy/30.jpg", "val/happy/31.jpg"],
        "unknown_mode": ["test/sad/5.jpg"],
    }
    assert not [name for name, severity in found if severity == "critical"]


def test_the_data_docs_stand_alone_and_show_images_and_advice(tmp_path: Path) -> None:
    images = faces(60)
    images.loc[7, ["error", "std"]] = ["<b>truncated</b>", np.nan]
    check_all(images, params(), tmp_path / "docs")
    pages = {page.relative_to(tmp_path / "docs").as_posix(): page.read_text() for page in tmp_path.rglob("*.html")}
    assert not [name for name, html in pages.items() if re.search(r"""(src|href)=["']?(https?:)?//|<script""", html)]
    results = next(html for name, html in pages.items() if name.startswith("validations/images/"))
    assert "val/happy/7.jpg" in results
    assert "no images that cannot be decoded" in results
    assert "validation.unreadable.critical_above" in pages["expectations/images.html"]
    assert "val/happy/7.jpg: &lt;b&gt;truncated" in pages["index.html"]
    links = re.findall(r'href="([^"]+)"', pages["index.html"])
    assert len(links) == 5
    assert set(links) - set(pages) == {"../data/index.html"}  # the pictures of the data, a later stage


@pytest.mark.parametrize(("faulty", "critical"), [(2, False), (3, True)])
def test_only_a_larger_share_than_allowed_is_critical(tmp_path: Path, faulty: int, critical: bool) -> None:
    images = faces(20)
    images.loc[: faulty - 1, "std"] = 0.0
    found = check_all(images, params(validation={"constant": {"critical_above": 0.1}}), tmp_path / "docs")
    assert ("constant", "warning") in found
    assert (("constant", "critical") in found) == critical


def test_an_allowed_share_of_zero_makes_one_image_critical(tmp_path: Path) -> None:
    images = faces(20)
    images.loc[4, "std"] = 0.0
    found = check_all(images, params(validation={"constant": {"critical_above": 0.0}}), tmp_path / "docs")
    assert found["constant", "critical"].examples == ("val/sad/4.jpg: standard deviation 0.00",)
    assert ("constant", "warning") in found


def test_a_foreign_split_is_critical(tmp_path: Path) -> None:
    images = faces(20)
    images.loc[4, "split"] = "Training"
    found = check_all(images, params(), tmp_path / "docs")
    assert found["schema", "critical"].examples == ("Training",)


def test_absent_small_and_unbalanced_classes_are_found(tmp_path: Path) -> None:
    images = faces(60)
    images = images[(images["label"] != "sad") | (images.index < 12)].reset_index(drop=True)
    settings = params(
        data={"classes": ["happy", "sad", "Fear"]}, validation={"classes": {"min_images": 2, "max_imbalance": 4.0}}
    )
    images = images[(images["label"] != "sad") | (images["split"] != "val") | (images.index < 5)]
    found = check_all(images.reset_index(drop=True), settings, tmp_path / "docs")
    assert found["labels", "critical"].examples == ("Fear: no such class; the data set has happy, sad",)
    assert found["classes", "critical"].examples == ("val/sad: 1 images kept of 1",)
    assert found["classes", "warning"].examples[0].startswith("train/sad: 2 images kept of 2; the largest class has 10")


def test_a_class_emptied_by_dropping_is_critical(tmp_path: Path) -> None:
    images = faces(30)
    images.loc[(images["split"] == "test") & (images["label"] == "sad"), "width"] = 2
    found = check_all(images, params(), tmp_path / "docs")
    assert found["classes", "critical"].examples == ("test/sad: 0 images kept of 5",)


def test_classes_that_are_not_used_need_no_images() -> None:
    images = faces(12)
    table = class_table(images, images["label"] == "happy", ClassParams(), ("happy",))
    assert list(table["label"].unique()) == ["happy"]
    assert table[["absent", "too_few", "imbalanced"]].isna().all(axis=None)


def test_rules_state_the_policy() -> None:
    validation = ValidationParams.model_validate(
        {"leaked": {"drop": ("test",), "critical_above": 0.25}, "duplicate": {"drop": ()}}
    )
    stated = {(rule.check, rule.severity): rule for rule in rules(validation)}
    assert stated["leaked", "warning"].advice == "they are left out of test (validation.leaked.drop)"
    assert "at most 25%" in stated["leaked", "critical"].description
    assert stated["leaked", "critical"].max_share == 0.25
    assert stated["duplicate", "warning"].advice == "they are kept (validation.duplicate.drop)"
    assert ("duplicate", "critical") not in stated  # no share is above 1


@pytest.mark.parametrize("least", [1, 2])
def test_what_may_not_be_lowered_is_not_advised(least: int) -> None:
    stated = {(rule.check, rule.severity): rule for rule in rules(ValidationParams(classes={"min_images": least}))}
    advice = stated["classes", "critical"].advice
    assert "raise data.split for splits that the source does not name" in advice
    assert ("lower validation.classes.min_images" in advice) == (least > 1)


def test_decisions_are_written_in_the_order_of_the_data_set(tmp_path: Path) -> None:
    images = faces(30)
    images.loc[5, ["std", "mode"]] = [0.0, "F"]
    images.loc[[12, 13], "sha256"] = "d" * 64
    verdict = judge(images, ValidationParams(), ("happy",))
    write_decisions(tmp_path / "data/decisions.parquet", images, verdict)
    table = pq.read_table(tmp_path / "data/decisions.parquet")
    assert table.schema.equals(DECISIONS_SCHEMA)
    rows = table.to_pylist()
    assert [row["path"] for row in rows] == list(images["path"])
    assert rows[5] | {"sha256": ""} == {
        "path": "test/sad/5.jpg",
        "split": "test",
        "label": "sad",
        "sha256": "",
        "keep": False,
        "reason": "class",
        "defects": ["constant", "unknown_mode"],
    }
    assert (rows[13]["keep"], rows[13]["reason"], rows[13]["defects"]) == (False, "leaked", ["leaked"])
    assert (rows[12]["keep"], rows[12]["reason"], rows[12]["defects"]) == (True, None, [])


def test_a_report_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("a file where the directory should be")
    images = faces(12)
    with pytest.raises(ArtifactError, match="cannot be written"):
        check(images, judge(images, ValidationParams()), params(), tmp_path / "reports/validation")


def test_only_critical_findings_stop_the_pipeline(capsys: pytest.CaptureFixture[str]) -> None:
    images = faces(12)
    warning = Finding(check="leaked", severity="warning", message="1 of 12", advice="none", examples=("a.jpg: [b]",))
    critical = Finding(
        check="unreadable", severity="critical", message="9 of 12", advice="repair", examples=("x.jpg: empty",)
    )
    verdict = judge(images, ValidationParams())
    calm = summarise(images, verdict, [warning])
    require(calm)
    print_report(calm)
    assert "warning: leaked: 1 of 12" in capsys.readouterr().out
    report = summarise(images, verdict, [warning, critical])
    assert [finding.severity for finding in report.findings] == ["critical", "warning"]
    with pytest.raises(ValidationFailed, match=r"unreadable: 9 of 12\n.*x\.jpg: empty\n.*repair\n.*reports/validation"):
        require(report)


def test_the_report_counts_by_check_reason_split_and_class() -> None:
    images = faces(30)
    images.loc[[1, 4], ["std", "mean"]] = 0.0
    images.loc[7, ["std", "mean"]] = [0.0, 255.0]
    report = summarise(images, judge(images, ValidationParams()), [])
    assert (report.images, report.kept) == (30, 27)
    assert report.defects["constant"] == {"train": 0, "val": 3, "test": 0}
    assert report.dropped == {"constant": {"train": 0, "val": 3, "test": 0}}
    assert report.black == {"train": 0, "val": 2, "test": 0}
    assert report.classes["val"]["happy"].model_dump() == {"found": 5, "kept": 3}
    assert report.duplicates.groups == 0
