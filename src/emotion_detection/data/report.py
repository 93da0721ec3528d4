"""What validation found, as a record, as tables on the console, and as an error if it is critical.

report = summarise(images, verdict, findings)
print_report(report)
require(report)             raises ValidationFailed where a critical finding stands in it
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import pandas as pd
from rich.console import Console
from rich.table import Table

from emotion_detection.artifacts import VALIDATION_DOCS, Record
from emotion_detection.data.defects import Verdict, conflicting
from emotion_detection.errors import ValidationFailed
from emotion_detection.params import SPLITS, Split

Severity = Literal["critical", "warning"]


class Finding(Record):
    """An expectation that does not hold."""

    check: str
    """A check of `validation` in params.yaml, or schema, labels or unknown_mode."""
    severity: Severity
    message: str
    """What was found and what is allowed."""
    advice: str
    """What to do about it."""
    examples: tuple[str, ...]
    """The first images or classes concerned, each with what is wrong."""


class ClassCount(Record):
    """Images of one class in one split."""

    found: int
    kept: int


class DuplicateStatistics(Record):
    """Equal bytes in the whole data set, before anything is dropped."""

    groups: int
    """Sets of two or more equal images."""
    images: int
    """Images in these sets."""
    redundant: int
    """`images` less one of each set."""
    largest_group: int
    in_train: dict[Split, int]
    """Images of val and of test that also stand in train."""
    in_train_other_label: int
    """Of those, the ones labelled differently from every copy in train."""
    conflicting_groups: int
    """Sets with more than one label."""
    conflicting_images: int
    val_test_groups: int
    """Sets with images in both val and test."""
    held_out: int
    """Images of val and test together."""
    held_out_not_in_train: int
    held_out_unique: int
    """Of the latter, one of each set."""


class ValidationReport(Record):
    """`reports/validation.json`."""

    images: int
    kept: int
    defects: dict[str, dict[Split, int]]
    """Images with each defect, by split; an image may have several."""
    black: dict[Split, int]
    """Images whose every pixel is 0, by split."""
    dropped: dict[str, dict[Split, int]]
    """Images left out, by reason and split."""
    classes: dict[Split, dict[str, ClassCount]]
    duplicates: DuplicateStatistics
    findings: tuple[Finding, ...]
    """Expectations that do not hold, critical ones first."""


def summarise(images: pd.DataFrame, verdict: Verdict, findings: Iterable[Finding]) -> ValidationReport:
    """Put the figures of a validation together.

    Args:
        images: the table that `measurements.measure` returns.
    """
    return ValidationReport(
        images=len(images),
        kept=int(verdict.keep.sum()),
        defects={check: _by_split(images[found.notna()]) for check, found in verdict.defects.items()},
        black=_by_split(images[(images["mean"] == 0) & (images["std"] == 0)]),
        dropped={reason: _by_split(images[verdict.reason == reason]) for reason in verdict.reason.dropna().unique()},
        classes={split: _class_counts(images, verdict.keep, split) for split in SPLITS},
        duplicates=duplicate_statistics(images),
        findings=tuple(sorted(findings, key=lambda finding: finding.severity)),  # "critical" < "warning"
    )


def duplicate_statistics(images: pd.DataFrame) -> DuplicateStatistics:
    """Count equal images; columns `split`, `label` and `sha256` are used."""
    sizes = images["sha256"].value_counts()
    groups = sizes[sizes > 1]
    train, val, test = (images[images["split"] == split] for split in SPLITS)
    held_out = pd.concat([val, test])
    in_train = held_out["sha256"].isin(train["sha256"])
    labelled = [pd.MultiIndex.from_frame(rows[["sha256", "label"]]) for rows in (held_out, train)]
    conflicts = images[conflicting(images)]
    return DuplicateStatistics(
        groups=len(groups),
        images=int(groups.sum()),
        redundant=int(groups.sum()) - len(groups),
        largest_group=int(groups.max()) if len(groups) else 1,
        in_train={"val": int(in_train[val.index].sum()), "test": int(in_train[test.index].sum())},
        in_train_other_label=int((in_train & ~labelled[0].isin(labelled[1])).sum()),
        conflicting_groups=conflicts["sha256"].nunique(),
        conflicting_images=len(conflicts),
        val_test_groups=len(set(val["sha256"]) & set(test["sha256"])),
        held_out=len(held_out),
        held_out_not_in_train=int((~in_train).sum()),
        held_out_unique=held_out.loc[~in_train, "sha256"].nunique(),
    )


def require(report: ValidationReport) -> None:
    """Stop where something critical was found.

    Raises:
        ValidationFailed: it names each check, the figures, the first images and what to do.
    """
    critical = [finding for finding in report.findings if finding.severity == "critical"]
    if critical:
        parts = [_as_text(finding) for finding in critical]
        raise ValidationFailed("\n".join(["the data set is not fit for training", *parts, f"see {VALIDATION_DOCS}"]))


def print_report(report: ValidationReport, console: Console | None = None) -> None:
    """Print the figures as tables and the findings as lines."""
    console = console or Console()
    for table in (_defect_table(report), _duplicate_table(report.duplicates), _class_table(report)):
        console.print(table)
    for finding in report.findings:
        console.print(f"{finding.severity}: {finding.check}: {finding.message}", markup=False, soft_wrap=True)
    console.print(
        f"{report.kept} of {report.images} images kept; report in {VALIDATION_DOCS}/index.html", soft_wrap=True
    )


def _by_split(images: pd.DataFrame) -> dict[Split, int]:
    return {split: int((images["split"] == split).sum()) for split in SPLITS}


def _class_counts(images: pd.DataFrame, keep: pd.Series, split: Split) -> dict[str, ClassCount]:
    here = images["split"] == split
    found = images.loc[here, "label"].value_counts()
    kept = images.loc[here & keep, "label"].value_counts()
    labels = sorted(images["label"].unique())
    return {label: ClassCount(found=int(found.get(label, 0)), kept=int(kept.get(label, 0))) for label in labels}


def _as_text(finding: Finding) -> str:
    lines = [f"  {finding.check}: {finding.message}", *(f"    {example}" for example in finding.examples)]
    return "\n".join([*lines, f"    -> {finding.advice}"])


def _defect_table(report: ValidationReport) -> Table:
    table = Table("images with a defect", *SPLITS, "dropped for it", title="Defects")
    rows = report.defects | {"all pixels black": report.black}
    for check, counts in rows.items():
        dropped = str(sum(report.dropped.get(check, {}).values())) if check in report.defects else "among constant"
        table.add_row(check, *(f"{counts[split]:,}" for split in SPLITS), dropped)
    return table


def _duplicate_table(found: DuplicateStatistics) -> Table:
    table = Table("equal bytes", "count", title="Duplicates")
    rows = {
        "duplicate groups / images in them / redundant copies": (found.groups, found.images, found.redundant),
        "largest group": (found.largest_group,),
        "val / test images that also stand in train": (found.in_train["val"], found.in_train["test"]),
        "of those, labelled differently from every train copy": (found.in_train_other_label,),
        "groups / images with conflicting labels": (found.conflicting_groups, found.conflicting_images),
        "groups shared by val and test": (found.val_test_groups,),
        "val and test images / not in train / and unique": (
            found.held_out,
            found.held_out_not_in_train,
            found.held_out_unique,
        ),
    }
    for name, counts in rows.items():
        table.add_row(name, " / ".join(f"{count:,}" for count in counts))
    return table


def _class_table(report: ValidationReport) -> Table:
    table = Table("class", *SPLITS, title="Images kept of those found")
    for label in report.classes["train"]:
        counts = [report.classes[split][label] for split in SPLITS]
        table.add_row(label, *(f"{count.kept:,} of {count.found:,}" for count in counts))
    return table
