"""Is the data set fit for training? The expectations about it, as rules that follow from the policy.

    findings = check(images, verdict, params, docs=Path("reports/validation"))

Two tables are checked: one row per image with a column of complaints for each check, and one row per class
and split. Any complaint is a warning; more of them than the policy allows are critical.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from emotion_detection.artifacts import DECISIONS_SCHEMA, atomic_directory, atomic_file
from emotion_detection.data.datadocs import make_self_contained
from emotion_detection.data.defects import Verdict, policy_of
from emotion_detection.data.expectations import Rule, run
from emotion_detection.data.report import Finding
from emotion_detection.params import SPLITS, ClassParams, Params, ValidationParams

DESCRIPTIONS = {
    "unreadable": "images that cannot be decoded",
    "constant": "images that are nearly of one grey value",
    "too_small": "images that are too small",
    "no_face": "images that people saw no face in",
    "known": "faces of the feedback that the data set has, or that look like one of val or test",
    "conflicting_labels": "images whose bytes stand under several labels",
    "suspicious": "images whose label a model doubts",
    "leaked": "images of val or test whose bytes stand in train, or of val in test",
    "duplicate": "images whose bytes came before in their split",
    "near_duplicate": "images that look like one of another split",
    "unknown_mode": "images of a pixel format that may lose its meaning in 8 bits",
}


def check(images: pd.DataFrame, verdict: Verdict, params: Params, docs: Path) -> list[Finding]:
    """Check all expectations and write the Data Docs.

    Args:
        images: the table that `measurements.measure` returns.
        docs: directory for the HTML pages; what stood there is replaced.

    Returns:
        One finding for each expectation that does not hold.

    Raises:
        ArtifactError: the pages cannot be written.
    """
    counts = class_table(images, verdict.keep, params.validation.classes, params.data.classes)
    tables = {"images": pd.concat([images.drop(columns="phash"), verdict.defects], axis=1), "classes": counts}
    with atomic_directory(docs) as site:
        findings = run(tables, rules(params.validation), site)
        make_self_contained(site, findings)
    return findings


def rules(validation: ValidationParams) -> Iterator[Rule]:
    """What is expected of the tables `images` and `classes`."""
    again = "the data set was not made by this pipeline: run `dvc repro ingest`"
    yield Rule("schema", "critical", "images", "split", f"split is {' or '.join(SPLITS)}", again, allowed=SPLITS)
    for name, images in DESCRIPTIONS.items():
        policy, key = policy_of(validation, name), f"validation.{name}"
        fate = f"left out of {', '.join(policy.drop)}" if policy.drop else "kept"
        setting = f" ({key}.drop)" if hasattr(validation, name) else ""
        yield Rule(name, "warning", "images", name, f"no {images}", f"they are {fate}{setting}")
        if policy.critical_above < 1:
            description = f"at most {100 * policy.critical_above:g}% {images} ({key}.critical_above)"
            advice = f"repair or remove these images, or raise {key}.critical_above in params.yaml"
            yield Rule(name, "critical", "images", name, description, advice, max_share=policy.critical_above)
    yield from _class_rules(validation.classes)


def _class_rules(policy: ClassParams) -> Iterator[Rule]:
    lower = "lower validation.classes.min_images, " if policy.min_images > 1 else ""
    yield Rule(
        "labels",
        "critical",
        "classes",
        "absent",
        "every class of data.classes is in the data set",
        "correct data.classes or data.source in params.yaml",
    )
    yield Rule(
        "classes",
        "critical",
        "classes",
        "too_few",
        f"at least {policy.min_images} images of each class are kept in each split (validation.classes.min_images)",
        "add images, raise data.split for splits that the source does not name, "
        f"{lower}or leave the class out by data.classes in params.yaml",
    )
    yield Rule(
        "classes",
        "warning",
        "classes",
        "imbalanced",
        f"the largest class in train has at most {policy.max_imbalance:g} times the images of any other "
        "(validation.classes.max_imbalance)",
        "add images, or set training.class_weights to balanced in params.yaml",
    )


def class_table(images: pd.DataFrame, keep: pd.Series, policy: ClassParams, classes: tuple[str, ...]) -> pd.DataFrame:
    """One row per split and class in use.

    Returns:
        Columns `split`, `label`, `found`, `kept`, and the complaints `absent`, `too_few` and `imbalanced`.
    """
    keys = ["split", "label"]
    known = sorted(images["label"].unique())
    grid = pd.MultiIndex.from_product([SPLITS, classes or known], names=keys)
    found, kept = (rows.groupby(keys).size().reindex(grid, fill_value=0) for rows in (images, images[keep]))
    table = pd.DataFrame({"found": found, "kept": kept}).reset_index()
    where = table["split"] + "/" + table["label"] + ": "
    counts = where + table["kept"].astype(str) + " images kept of " + table["found"].astype(str)
    absent = ~table["label"].isin(known)
    in_train = table["split"] == "train"
    largest = table.loc[in_train, "kept"].max()
    imbalanced = in_train & (table["kept"] * policy.max_imbalance < largest)
    return table.assign(
        absent=(table["label"] + f": no such class; the data set has {', '.join(known)}").where(
            absent & in_train, None
        ),
        too_few=counts.where((table["kept"] < policy.min_images) & ~absent, None),
        imbalanced=(counts + f"; the largest class has {largest}").where(imbalanced, None),
    )


def write_decisions(path: Path, images: pd.DataFrame, verdict: Verdict) -> None:
    """Write one row per image, in the order of the data set.

    Raises:
        ArtifactError: the file cannot be written.
    """
    found = verdict.defects.notna()
    columns = {name: images[name] for name in ("path", "split", "label", "sha256")} | {
        "keep": verdict.keep,
        "reason": verdict.reason,
        "defects": [list(found.columns[row]) for row in found.to_numpy()],
    }
    with atomic_file(path) as temporary:
        pq.write_table(pa.table(columns, schema=DECISIONS_SCHEMA), temporary)
