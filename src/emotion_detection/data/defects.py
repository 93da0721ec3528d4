"""Which images have which defect, and which are therefore left out. Pure: tables in, tables out.

    verdict = judge(images, params.validation, params.data.classes)
    verdict.defects     one column of complaints per check, null where an image is fine
    verdict.reason      why an image is dropped, null where it is kept

Everything is judged on the whole data set, so that a test image whose bytes stand in train is dropped even
if its copy in train is dropped for another reason. Two checks stand apart. Of equal images in one split, the
first that nothing else drops is kept. Faces of the feedback that the data set has already are set aside
before anything is compared, so that they can push no image of ours out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from emotion_detection.artifacts import FEEDBACK_PREFIX
from emotion_detection.params import CheckParams, ValidationParams

# The order in which checks claim an image that several would drop.
PRECEDENCE = (
    "unreadable",
    "class",  # no defect: `data.classes` leaves the label out
    "known",
    "constant",
    "too_small",
    "no_face",
    "conflicting_labels",
    "suspicious",
    "leaked",
    "duplicate",
    "near_duplicate",
)
# Pillow's modes that `preprocess.decode` converts without loss of meaning.
KNOWN_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16", "I;16B", "I;16L")
_HASH_BITS = 64

Mask = pd.Series  # of bool, one per image


@dataclass(frozen=True)
class Verdict:
    """What was found; every table has one row per image, in the order of the data set."""

    defects: pd.DataFrame
    """One column per check, in the order of `PRECEDENCE`, then `unknown_mode`, which drops nothing: what is
    wrong with the image, or null."""
    reason: pd.Series
    """The check that drops the image, "class", or null where it is kept."""

    @property
    def keep(self) -> pd.Series:
        return self.reason.isna()


def policy_of(validation: ValidationParams, check: str) -> CheckParams:
    """The entry `validation.CHECK`; a check without one only warns."""
    policy: CheckParams = getattr(validation, check, CheckParams())
    return policy


def judge(images: pd.DataFrame, validation: ValidationParams, classes: tuple[str, ...] = ()) -> Verdict:
    """Find all defects and apply the policy.

    Args:
        images: the table that `measurements.measure` returns, and `suspected`, as `suspicion.mark` gives it.
        classes: the labels to use; empty: all.
    """
    images = images.reset_index(drop=True)
    masks = _defects_of_single_images(images, validation) | _defects_by_comparison(images, validation)
    masks["class"] = ~images["label"].isin(classes) & bool(classes)
    reason = pd.Series(None, index=images.index, dtype=object)
    for check in PRECEDENCE:
        if check == "duplicate":
            masks[check] = redundant(images, reason.notna())
        drops = masks[check] if check == "class" else masks[check] & _in_splits(images, validation, check)
        reason = reason.mask(drops & reason.isna(), check)
    del masks["class"]
    order = [check for check in (*PRECEDENCE, "unknown_mode") if check in masks]
    return Verdict(pd.DataFrame({check: _complaints(images, check, masks[check]) for check in order}), reason)


def conflicting(images: pd.DataFrame) -> Mask:
    """Images whose bytes stand under more than one label."""
    return images.groupby("sha256")["label"].transform("nunique") > 1


def leaked(images: pd.DataFrame) -> Mask:
    """Images of test whose bytes stand in train, and images of val whose bytes stand in train or test."""
    split, hashes = images["split"], images["sha256"]
    in_train, in_test = (hashes.isin(hashes[split == name]) for name in ("train", "test"))
    return ((split == "test") & in_train) | ((split == "val") & (in_train | in_test))


def known(images: pd.DataFrame, max_distance: int) -> Mask:
    """Faces of the feedback whose bytes the data set has, or that look like an image of its val or test split.

    Args:
        images: columns `path`, `split`, `sha256` and `phash`.
        max_distance: as for `near_duplicates`.
    """
    said = images["path"].str.startswith(FEEDBACK_PREFIX).astype(bool)
    ours = images[~said]
    exams = ~said & images["split"].isin(("val", "test"))
    sides = images.assign(split=np.where(said, "said", "exam"))[said | exams]
    alike = near_duplicates(sides, max_distance).reindex(images.index, fill_value=False)
    return said & (images["sha256"].isin(ours["sha256"]) | alike)


def redundant(images: pd.DataFrame, dropped: Mask) -> Mask:
    """All but one of equal images in one split: the first that is not dropped stays, else the first."""
    kept_first = images.loc[dropped.sort_values(kind="stable").index]
    return kept_first.duplicated(["split", "sha256"]).sort_index()


def near_duplicates(images: pd.DataFrame, max_distance: int) -> Mask:
    """Images with an alike but not equal image in another split.

    Args:
        images: columns `split`, `sha256` and `phash`.
        max_distance: bits, out of 64, by which the perceptual hashes may differ.
    """
    copy_of, files = pd.factorize(images["sha256"])
    hashes = images.drop_duplicates("sha256")["phash"].to_numpy(np.uint64)
    split = 1 << pd.factorize(images["split"])[0]  # one bit per split
    splits, nearby = np.zeros(len(files), np.int64), np.zeros(len(files), np.int64)
    np.bitwise_or.at(splits, copy_of, split)
    for first, second in _close_pairs(hashes, max_distance):
        np.bitwise_or.at(nearby, first, splits[second])
        np.bitwise_or.at(nearby, second, splits[first])
    return pd.Series((nearby[copy_of] & ~split) != 0, index=images.index)


def _close_pairs(hashes: NDArray[np.uint64], max_distance: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Positions of hashes at most `max_distance` bits apart; a pair may come more than once.

    Cut into one band more than bits may differ, two such hashes agree in at least one whole band (pigeonhole
    principle), so only hashes that share a band are compared: after sorting by it, each with its successors.
    """
    edges = np.linspace(0, _HASH_BITS, max_distance + 2).astype(int)
    for low, high in pairwise(edges.tolist()):
        band = (hashes >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = np.argsort(band, kind="stable")
        left = np.arange(len(order))
        for step in range(1, len(order)):
            left = left[left + step < len(order)]
            left = left[band[order[left]] == band[order[left + step]]]
            if not len(left):
                break
            first, second = order[left], order[left + step]
            close = np.bitwise_count(hashes[first] ^ hashes[second]) <= max_distance
            yield first[close], second[close]


def _defects_of_single_images(images: pd.DataFrame, validation: ValidationParams) -> dict[str, Mask]:
    return {
        "unreadable": images["error"].notna(),
        "constant": images["std"] < validation.constant.min_std,
        "too_small": images[["width", "height"]].min(axis=1) < validation.too_small.min_side,
        "no_face": images["no_face_votes"] >= validation.no_face.min_share,
        "suspicious": images["suspected"],
        "unknown_mode": images["mode"].notna() & ~images["mode"].isin(KNOWN_MODES),
    }


def _defects_by_comparison(images: pd.DataFrame, validation: ValidationParams) -> dict[str, Mask]:
    again = known(_with_content(images, validation), validation.known.max_distance)
    again = again.reindex(images.index, fill_value=False)
    others = images[~(again & _in_splits(images, validation, "known"))]
    found = {
        "conflicting_labels": conflicting(others),
        "leaked": leaked(others),
        "near_duplicate": near_duplicates(_with_content(others, validation), validation.near_duplicate.max_distance),
    }
    return {"known": again} | {check: mask.reindex(images.index, fill_value=False) for check, mask in found.items()}


def _with_content(images: pd.DataFrame, validation: ValidationParams) -> pd.DataFrame:
    # The hash of a constant image is rounding noise, that of an unreadable one is none.
    return images[images["std"] >= validation.constant.min_std]


def _in_splits(images: pd.DataFrame, validation: ValidationParams, check: str) -> Mask:
    return images["split"].isin(policy_of(validation, check).drop)


def _complaints(images: pd.DataFrame, check: str, found: Mask) -> pd.Series:
    rows = images[found]
    if rows.empty:
        return pd.Series(None, index=images.index, dtype=object)
    details = _DETAILS[check](rows, images[~found]).astype(str)
    return (rows["path"].astype(str) + ": " + details).astype(object).reindex(images.index)


def _same_bytes_as(rows: pd.DataFrame, others: pd.DataFrame, keys: list[str]) -> pd.Series:
    originals = others.drop_duplicates(keys)[[*keys, "path"]]
    return "same bytes as " + rows[keys].merge(originals, on=keys, how="left")["path"].set_axis(rows.index).astype(str)


def _labels_of_equals(rows: pd.DataFrame) -> pd.Series:
    return rows.groupby("sha256")["label"].transform(lambda labels: ", ".join(sorted(set(labels))))


# What to say of the images found, given them and all the others.
_DETAILS: dict[str, Callable[[pd.DataFrame, pd.DataFrame], pd.Series]] = {
    "unreadable": lambda rows, _: rows["error"],
    "constant": lambda rows, _: rows["std"].map("standard deviation {:.2f}".format),
    "known": lambda rows, _: rows["phash"].map("perceptual hash {:016x}".format),
    "too_small": lambda rows, _: rows["width"].map("{:.0f} x ".format) + rows["height"].map("{:.0f} pixels".format),
    "no_face": lambda rows, _: rows["no_face_votes"].map("{:.0%} of the votes".format),
    "conflicting_labels": lambda rows, _: "same bytes under " + _labels_of_equals(rows),
    "suspicious": lambda rows, _: "labelled " + rows["label"],
    "leaked": lambda rows, others: _same_bytes_as(rows, others, ["sha256"]),
    "duplicate": lambda rows, others: _same_bytes_as(rows, others, ["split", "sha256"]),
    "near_duplicate": lambda rows, _: rows["phash"].map("perceptual hash {:016x}".format),
    "unknown_mode": lambda rows, _: "mode " + rows["mode"],
}
