"""Rules about tables, checked by Great Expectations and shown as its Data Docs. Knows nothing of images.

    findings = run({"images": images, "classes": classes}, rules, site=Path("reports/validation"))

A rule looks at a column of complaints, which is null where a row is fine, so that the pages show which rows
are not and why. Great Expectations takes seconds to import and is imported where it is used.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from emotion_detection.data.report import Finding, Severity

EXAMPLES = 10


@dataclass(frozen=True)
class Rule:
    """At most a share of the rows of one column holds a complaint."""

    check: str
    severity: Severity
    table: str
    column: str
    description: str
    """What is expected."""
    advice: str
    """What to do where it does not hold."""
    max_share: float = 0.0
    allowed: tuple[str, ...] = ()
    """Where given, the column holds no complaints but values, and these are the allowed ones."""


def run(tables: Mapping[str, pd.DataFrame], rules: Iterable[Rule], site: Path) -> list[Finding]:
    """Check every rule and write the Data Docs below `site`.

    Returns:
        One finding for each rule that does not hold.
    """
    gx = _great_expectations()
    rules = list(rules)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    context.add_data_docs_site("local", _site(site))
    source = context.data_sources.add_pandas("dataset")
    findings = []
    for name, table in tables.items():
        here = [rule for rule in rules if rule.table == name]
        batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
        expectations = [_expectation(gx.expectations, rule, number) for number, rule in enumerate(here)]
        suite = gx.ExpectationSuite(name, expectations=expectations)
        definition = gx.ValidationDefinition(name=name, data=batch, suite=context.suites.add(suite))
        checkpoint = gx.Checkpoint(
            name=name,
            validation_definitions=[context.validation_definitions.add(definition)],
            actions=[gx.checkpoint.UpdateDataDocsAction(name="docs", site_names=["local"])],
            result_format={"result_format": "SUMMARY", "partial_unexpected_count": EXAMPLES},
        )
        outcome = checkpoint.run(batch_parameters={"dataframe": table}, run_id=gx.RunIdentifier("validate"))
        failed = [result for each in outcome.run_results.values() for result in each.results if not result.success]
        findings += [_finding(here[result.expectation_config.meta["rule"]], table) for result in failed]
    return findings


def _great_expectations() -> Any:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read once, at import
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of modules that it imports
        return importlib.import_module("great_expectations")


def _site(site: Path) -> dict[str, Any]:
    return {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(site.resolve())},
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
    }


def _expectation(gxe: Any, rule: Rule, number: int) -> Any:
    common = {
        "column": rule.column,
        "severity": rule.severity,
        "description": f"{rule.severity}: {rule.description}",
        "notes": rule.advice,
        "meta": {"rule": number, "check": rule.check},
    }
    if rule.allowed:
        return gxe.ExpectColumnValuesToBeInSet(value_set=list(rule.allowed), **common)
    if rule.max_share:
        return gxe.ExpectColumnProportionOfNonNullValuesToBeBetween(max_value=rule.max_share, **common)
    return gxe.ExpectColumnValuesToBeNull(**common)


def _finding(rule: Rule, table: pd.DataFrame) -> Finding:
    values = table[rule.column]
    wrong = values[~values.isin(rule.allowed)] if rule.allowed else values.dropna()
    return Finding(
        check=rule.check,
        severity=rule.severity,
        message=f"{len(wrong):,} of {len(table):,} {rule.table} ({len(wrong) / len(table):.2%}); "
        f"expected: {rule.description}",
        advice=rule.advice,
        examples=tuple(wrong.head(EXAMPLES)),
    )
