"""A mistake in a rule is noticed: each token of each expression is changed, and the stories must fail.

MUTANTS=all pytest tests/monitoring/test_rule_mutants.py      # every one, for ten minutes; else one of 80
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.monitoring.prometheus import need_prometheus
from tests.monitoring.rule_tests import FILES, rules_in
from tests.monitoring.stories import STORIES

SHARE = 1 if os.environ.get("MUTANTS") == "all" else 80
EQUIVALENT = {
    "time() - (emotion_registry_last_poll_timestamp_seconds > 1) > 900",  # a time is 0, or long after 1970
    "time() - (emotion_model_created_timestamp_seconds > 1) > 90 * 86400",
}
"""Changes that change nothing."""
COARSE = {"EmotionLiveAccuracyLow", "EmotionModelOld"}
"""Told in steps of hours and days: how many minutes they wait is not seen."""
_TOKEN = re.compile(
    r"""(?P<string>"[^"]*")|(?P<window>\[\d+[smhd]\])|(?P<number>(?<![\w.:])\d+(\.\d+)?(?![\w.]))"""
    r"""|(?P<operator>==|!=|>=|<=|=~|!~|[-+*/^<>])|(?P<word>[a-zA-Z_:][\w:]*)"""
)
_OTHERS = {
    "+": ["-"], "-": ["+"], "*": ["/"], "/": ["*"], "^": ["*"], "==": ["!="], ">=": ["<", ">"], ">": ["<"],
    "<": [">"], "=~": ["!~"], "sum": ["max"], "max": ["sum"], "ln": ["sqrt"], "log2": ["ln"], "sqrt": ["abs"],
    "rate": ["increase"], "increase": ["delta"], "and": ["unless", "or"], "or": ["and"], "absent": ["count"],
    "avg_over_time": ["max_over_time", "last_over_time"], "clamp_min": ["clamp_max"],
}  # fmt: skip
_LABELS = re.compile(r"\b(by|on|without) \(([^)]*)\)")
_WINDOWS = {
    "5m": "15m",
    "15m": "1h",
    "30m": "1h",
    "1h": "2h",
    "2h": "5h",
    "6h": "12h",
    "1d": "2d",
    "3d": "4d",
    "7d": "14d",
}


def mutants(expression: str) -> list[str]:
    """The expression with one token changed: number, operator, function, window, text; or one label less."""
    changes = [(token, other) for token in _TOKEN.finditer(expression) for other in _other(token)]
    changes += [(labels, other) for labels in _LABELS.finditer(expression) for other in _fewer(labels)]
    return [expression[: token.start()] + other + expression[token.end() :] for token, other in changes]


def _fewer(labels: re.Match[str]) -> list[str]:
    names = labels[2].split(", ")
    return [f"{labels[1]} ({', '.join(name for name in names if name != left_out)})" for left_out in names if left_out]


def _other(token: re.Match[str]) -> list[str]:
    text, kind = token[0], token.lastgroup
    if kind == "number":
        return [f"{float(text) * factor + 1 * (float(text) == 0):g}" for factor in (1.3, 0.7)][: 1 + (text != "0")]
    if kind == "window":
        return [f"[{_WINDOWS[text[1:-1]]}]"]
    if kind == "string" and text not in ('"$1"', '"(.+)"'):
        return [f'"{text[1:-1]}x"']
    return _OTHERS.get(text, []) if kind in ("operator", "word") else []


@dataclass(frozen=True)
class Mutant:
    """One rule with one mistake."""

    file: str
    rule: int
    field: str
    value: object

    def write(self, path: Path) -> None:
        content = YAML(typ="safe").load(FILES[self.file])
        list(rules_in(content))[self.rule][self.field] = self.value
        YAML(typ="safe").dump(content, path)

    def survives(self, directory: Path) -> bool:
        path = directory / f"{self.file}-{abs(hash(repr(self)))}.yml"
        self.write(path)
        stories = (story() for story in STORIES)
        outputs = (story.run(path, directory).stdout for story in stories if story.rules == self.file)
        return all("SUCCESS" in output for output in outputs)


def mutants_of(file: str) -> Iterator[Mutant]:
    for number, rule in enumerate(rules_in(YAML(typ="safe").load(FILES[file]))):
        for expression in mutants(rule["expr"]):
            if expression not in EQUIVALENT and not _divides_by_one(expression, rule["expr"]):
                yield Mutant(file, number, "expr", expression)
        if "for" in rule:
            yield Mutant(file, number, "for", "0s")
            yield Mutant(file, number, "for", "30d" if rule["alert"] in COARSE else f"{4 * int(rule['for'][:-1])}m")
        for label in ("window", "slo"):
            if label in rule.get("labels", {}):
                others: dict[str, Any] = rule["labels"] | {label: "other"}
                yield Mutant(file, number, "labels", others)


def _divides_by_one(expression: str, original: str) -> bool:
    """Whether all that was changed is the way in which something to the power of 0 is joined."""
    if "^ 0" not in original:
        return False
    lines = zip(expression.split("\n"), original.split("\n"), strict=True)
    return all(line == before or (line.replace("/ on", "* on") == before) for line, before in lines)


@pytest.mark.parametrize("file", FILES)
def test_no_mistake_survives(file: str, tmp_path: Path) -> None:
    need_prometheus()
    chosen = list(mutants_of(file))[::SHARE]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        survived = list(pool.map(partial(Mutant.survives, directory=tmp_path), chosen))
    alive = [f"{one.rule} {one.field}: {one.value}" for one, lives in zip(chosen, survived, strict=True) if lives]
    assert len(chosen) > 0
    assert not alive, "\n".join(alive)
