from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotion_detection.data.defects import (
    conflicting,
    judge,
    known,
    leaked,
    near_duplicates,
    policy_of,
    redundant,
)
from emotion_detection.data.report import duplicate_statistics
from emotion_detection.params import CheckParams, ValidationParams, merge

SPLITS = ("train", "val", "test")
ORDER = [
    "unreadable",
    "class",
    "constant",
    "too_small",
    "no_face",
    "conflicting_labels",
    "leaked",
    "duplicate",
    "near_duplicate",
]
Row = dict[str, object]
quickly = settings(deadline=None, max_examples=50)

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "split": st.sampled_from(SPLITS),
            "sha256": st.sampled_from("abcdef"),
            "label": st.sampled_from(["happy", "sad"]),
            "dropped": st.booleans(),
        }
    ),
    min_size=1,
    max_size=25,
)


def image(path: str, sha256: str | None = None, split: str = "train", label: str = "happy", **more: object) -> Row:
    sha256 = sha256 or f"bytes of {path}"
    number = int.from_bytes(sha256.encode()[-7:])  # far apart unless the test says otherwise
    good = {"error": None, "mean": 120.0, "std": 40.0, "width": 48, "height": 48, "mode": "L", "format": "JPEG"}
    hashed = {"phash": number * 0x9E3779B97F4A7C15 % 2**64, "no_face_votes": np.nan, "suspected": False}
    return good | hashed | {"path": path, "split": split, "label": label, "sha256": sha256} | more


def table(*rows: Row) -> pd.DataFrame:
    return pd.DataFrame(list(rows)).astype({"phash": np.uint64, "error": object})


def policy(**changes: dict[str, object]) -> ValidationParams:
    return ValidationParams.model_validate(merge(ValidationParams().model_dump(), changes))


def nothing_dropped(**changes: dict[str, object]) -> ValidationParams:
    checks = [name for name in ORDER if name != "class"]
    return policy(**merge({name: {"drop": ()} for name in checks}, changes))


def defects_of(images: pd.DataFrame, validation: ValidationParams | None = None) -> dict[str, list[str]]:
    defects = judge(images, validation or policy()).defects
    return {name: list(images["path"][found.notna()]) for name, found in defects.items() if found.notna().any()}


@given(rows=ROWS)
@quickly
def test_copies_agree_with_a_comparison_of_all_pairs(rows: list[Row]) -> None:
    images = pd.DataFrame(rows)
    pairs = [(row, other) for row in rows for other in rows if row["sha256"] == other["sha256"]]

    def exists(condition: Callable[[Row, Row], bool]) -> list[bool]:
        return [any(condition(row, other) for this, other in pairs if this is row) for row in rows]

    forbidden = {("test", "train"), ("val", "train"), ("val", "test")}
    assert list(leaked(images)) == exists(lambda row, other: (row["split"], other["split"]) in forbidden)
    assert list(conflicting(images)) == exists(lambda row, other: row["label"] != other["label"])


@given(rows=ROWS)
@quickly
def test_of_equal_images_in_a_split_the_first_that_is_kept_stays(rows: list[Row]) -> None:
    images = pd.DataFrame(rows)
    expected = []
    for position, row in enumerate(rows):
        equal = [n for n, other in enumerate(rows) if all(row[key] == other[key] for key in ("split", "sha256"))]
        kept = [n for n in equal if not rows[n]["dropped"]]
        expected.append(position != (kept or equal)[0])
    assert list(redundant(images, images["dropped"])) == expected


@given(
    rows=st.lists(st.tuples(st.sampled_from(SPLITS), st.integers(0, 5)), min_size=1, max_size=25),
    flips=st.lists(st.lists(st.integers(0, 63), max_size=3), min_size=6, max_size=6),
    max_distance=st.integers(0, 3),
)
@quickly
def test_near_duplicates_agree_with_a_comparison_of_all_pairs(
    rows: list[tuple[str, int]], flips: list[list[int]], max_distance: int
) -> None:
    hashes = [0x0123456789ABCDEF ^ sum(1 << bit for bit in set(bits)) for bits in flips]
    images = pd.DataFrame(
        {
            "split": [split for split, _ in rows],
            "sha256": [str(number) for _, number in rows],
            "phash": np.array([hashes[number] for _, number in rows], np.uint64),
        }
    )
    expected = [
        any(
            split != other_split and number != other and (hashes[number] ^ hashes[other]).bit_count() <= max_distance
            for other_split, other in rows
        )
        for split, number in rows
    ]
    assert list(near_duplicates(images, max_distance)) == expected


@given(rows=ROWS)
@quickly
def test_duplicate_statistics_agree_with_counting(rows: list[Row]) -> None:
    found = duplicate_statistics(pd.DataFrame(rows))
    groups = [[row for row in rows if row["sha256"] == name] for name in {row["sha256"] for row in rows}]
    shared = [group for group in groups if len(group) > 1]
    splits = [{row["split"] for row in group} for group in groups]
    assert (found.groups, found.images) == (len(shared), sum(map(len, shared)))
    assert found.redundant == len(rows) - len(groups)
    assert found.largest_group == max(map(len, groups))
    assert found.conflicting_groups == sum(len({row["label"] for row in group}) > 1 for group in groups)
    assert found.val_test_groups == sum({"val", "test"} <= here for here in splits)
    assert found.held_out_unique == sum("train" not in here for here in splits)
    assert found.held_out == sum(row["split"] != "train" for row in rows)
    assert found.held_out_not_in_train == found.held_out - sum(found.in_train.values())
    train = {(row["sha256"], row["label"]) for row in rows if row["split"] == "train"}
    in_train = [row for row in rows if row["split"] != "train" and row["sha256"] in {name for name, _ in train}]
    assert sum(found.in_train.values()) == len(in_train)
    assert found.in_train_other_label == sum((row["sha256"], row["label"]) not in train for row in in_train)


@pytest.mark.parametrize(
    ("check", "broken"),
    [
        ("unreadable", {"error": "the bytes are empty", "std": np.nan, "mean": np.nan, "phash": 0}),
        ("constant", {"std": 0.99}),
        ("too_small", {"width": 48, "height": 15}),
        ("unknown_mode", {"mode": "F"}),
    ],
)
def test_each_defect_of_a_single_image_is_found(check: str, broken: Row) -> None:
    images = table(image("good"), image("bad", **broken))
    assert defects_of(images) == {check: ["bad"]}


def test_thresholds_are_those_of_the_policy() -> None:
    images = table(image("faint", std=1.5), image("small", width=20), image("plain"))
    assert defects_of(images) == {}
    strict = policy(constant={"min_std": 2.0}, too_small={"min_side": 21})
    assert defects_of(images, strict) == {"constant": ["faint"], "too_small": ["small"]}


def test_complaints_say_what_is_wrong() -> None:
    images = table(
        image("a", "x"),
        image("b", "x", label="sad"),
        image("c", "x", "test"),
        image("d", error="truncated", std=np.nan),
        image("e", width=10),
        image("f", std=0.25),
    )
    defects = judge(images, policy()).defects
    assert defects["conflicting_labels"][0] == "a: same bytes under happy, sad"
    assert defects["duplicate"][1] == "b: same bytes as a"
    assert defects["leaked"][2] == "c: same bytes as a"
    assert defects["unreadable"][3] == "d: truncated"
    assert defects["too_small"][4] == "e: 10 x 48 pixels"
    assert defects["constant"][5] == "f: standard deviation 0.25"


def test_feedback_that_the_data_set_has_is_set_aside_and_pushes_nothing_out() -> None:
    images = table(
        image("a", "trained on"),
        image("b", "tested on", "test", phash=0b1000),
        image("c", "unlike", "val"),
        image("feedback:7-1/0.png", "trained on", label="sad"),
        image("feedback:7-2/0.png", "tested on", label="sad"),
        image("feedback:7-3/0.png", "looks like b", phash=0b1011),
        image("feedback:7-4/0.png", "looks less like b", phash=0b0111),
        image("feedback:7-5/0.png", "new"),
        image("feedback:7-6/0.png", "new", label="sad"),
    )
    assert list(known(images, 2)) == [*[False] * 3, *[True] * 3, *[False] * 3]
    verdict = judge(images, policy())
    assert verdict.reason.fillna("").tolist() == ["", "", "", *["known"] * 3, "", *["conflicting_labels"] * 2]
    kept = judge(images, policy(known={"drop": ()}))
    assert kept.reason[1] == "leaked"  # whoever keeps them loses the exam


def test_near_duplicates_are_found_at_their_distance_only() -> None:
    images = table(image("a", phash=0b0110), image("b", split="test", phash=0b0101), image("c", phash=0b0111))
    assert defects_of(images, policy(near_duplicate={"max_distance": 0})) == {}
    assert defects_of(images, policy(near_duplicate={"max_distance": 1})) == {"near_duplicate": ["b", "c"]}
    assert defects_of(images, policy(near_duplicate={"max_distance": 2})) == {"near_duplicate": ["a", "b", "c"]}


def test_constant_and_unreadable_images_are_nobodys_near_duplicates() -> None:
    images = table(
        image("a", phash=1, std=0.0), image("b", split="test", phash=1), image("c", phash=1, std=np.nan, error="broken")
    )
    assert "near_duplicate" not in defects_of(images)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(
    ("check", "pair"),
    [
        ("unreadable", {"error": "broken", "std": np.nan}),
        ("constant", {"std": 0.0}),
        ("too_small", {"width": 1}),
        ("conflicting_labels", {"sha256": "same", "label": "sad"}),
        ("leaked", {"sha256": "same"}),
        ("near_duplicate", {"phash": 5}),
    ],
)
def test_images_are_dropped_from_the_named_splits_only(check: str, pair: Row, split: str) -> None:
    partner = image("partner", "same", "train", phash=5)
    images = table(partner, *(image(name, **(pair | {"split": name})) for name in SPLITS))
    verdict = judge(images, nothing_dropped(**{check: {"drop": (split,)}}))
    found = verdict.defects[check].notna()
    expected = found & (images["split"] == split)
    assert found[1:].any()
    assert list(verdict.keep) == list(~expected)
    assert set(verdict.reason.dropna()) <= {check}


def test_duplicates_are_dropped_from_the_named_splits_only() -> None:
    images = table(*(image(f"{split}{copy}", f"in {split}", split) for split in SPLITS for copy in range(2)))
    verdict = judge(images, nothing_dropped(duplicate={"drop": ("val",)}))
    assert list(images["path"][~verdict.keep]) == ["val1"]


@pytest.mark.parametrize("pair", list(combinations(ORDER, 2)), ids="-".join)
def test_the_first_check_in_the_order_of_precedence_is_the_reason(pair: tuple[str, str]) -> None:
    faults: dict[str, Row] = {
        "unreadable": {"error": "broken"},
        "class": {"label": "angry"},
        "constant": {"std": 0.0},
        "too_small": {"width": 1},
        "no_face": {"no_face_votes": 0.9},
        "conflicting_labels": {"sha256": "conflicting"},
        "leaked": {"sha256": "in train"},
        "duplicate": {"sha256": "in val"},
        "near_duplicate": {"phash": 5},
    }
    others = table(
        image("1", "conflicting", label="happy"),
        image("2", "conflicting", label="sad"),
        image("3", "in train"),
        image("4", "in val", "val"),
        image("5", "look", phash=5),
    )
    first, second = pair
    fault = merge(faults[second], faults[first])
    both_are_bytes = {"sha256"} & faults[first].keys() & faults[second].keys()
    if both_are_bytes:  # one set of bytes then has to have both faults
        others["sha256"] = others["sha256"].replace({faults[second]["sha256"]: fault["sha256"]})
    images = pd.concat([others, table(image("judged", split="val", **fault))], ignore_index=True)
    everywhere = {name: {"drop": SPLITS} for name in (first, second) if name != "class"}
    verdict = judge(images, nothing_dropped(**everywhere), classes=("happy", "sad"))
    assert verdict.reason.iloc[-1] == first


def test_rows_of_other_classes_are_dropped_and_are_no_defect() -> None:
    images = table(image("a"), image("b", label="neutral"))
    verdict = judge(images, policy(), classes=("happy", "sad"))
    assert list(verdict.keep) == [True, False]
    assert verdict.reason[1] == "class"
    assert not verdict.defects.notna().any(axis=None)
    assert judge(images, policy()).keep.all()


def test_the_first_copy_that_is_still_kept_stays() -> None:
    images = table(image("a", "x", label="neutral"), image("b", "x"), image("c", "x"))
    verdict = judge(images, nothing_dropped(duplicate={"drop": SPLITS}), classes=("happy",))
    assert list(verdict.reason.fillna("kept")) == ["class", "kept", "duplicate"]


def test_an_image_is_leaked_even_if_its_copy_in_train_is_dropped() -> None:
    images = table(image("a", "x"), image("b", "x", label="sad"), image("c", "x", "test"))
    verdict = judge(images, policy())
    assert list(verdict.reason) == ["conflicting_labels", "conflicting_labels", "leaked"]


def test_the_verdict_keeps_the_order_of_the_data_set() -> None:
    images = table(*(image(str(number), "x" if number % 3 == 0 else None) for number in range(20)))
    images.index = images.index[::-1]
    verdict = judge(images, policy())
    assert len(verdict.keep) == 20
    assert list(np.flatnonzero(~verdict.keep)) == [3, 6, 9, 12, 15, 18]


def test_a_check_without_a_policy_only_warns() -> None:
    assert policy_of(policy(), "unknown_mode") == CheckParams(drop=(), critical_above=1.0)
