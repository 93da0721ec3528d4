"""Tests of rules as promtool takes them, written in Python so that NumPy can say what must come out."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.monitoring.prometheus import RULES, promtool

Labels = dict[str, str]


def series(name: str, values: str, **labels: str) -> dict[str, str]:
    """One series of the input."""
    return {"series": f"{name}{written(labels)}", "values": values}


def rising(per_step: float, steps: int, start: float = 0) -> str:
    """A counter in promtool's notation: one value more than steps."""
    return f"{start:g}+{per_step:g}x{steps}"


def restarting(per_step: float, restart: int, steps: int) -> str:
    """A counter that starts again from 0 just after a step, and has counted one step's worth at the next."""
    return f"{rising(per_step, restart)} {rising(per_step, steps - restart - 1, per_step)}"


def turning(before: float, after: float, turn: int, steps: int) -> str:
    """A counter that rises by `before` for `turn` steps, and by `after` from then on."""
    return f"{rising(before, turn)} {rising(after, steps - turn - 1, turn * before + after)}"


def written(labels: Labels) -> str:
    """As PromQL has them."""
    return "{" + ", ".join(f'{name}="{value}"' for name, value in sorted(labels.items())) + "}"


@dataclass
class Scenario:
    """Series, and what must be known of them at which time."""

    rules: str
    """Name of the file."""
    interval: str
    """Between two samples, and between two evaluations."""
    series: list[dict[str, str]] = field(default_factory=list)
    expressions: list[dict[str, Any]] = field(default_factory=list)

    def values(self, time: str, expression: str, expected: Sequence[tuple[Labels, float]]) -> None:
        """An expression, rounded to 1e-6, has these values and no others."""
        samples = [{"labels": written(labels), "value": round(value, 6)} for labels, value in expected]
        self.expressions.append({"expr": f"round({expression}, 1e-6)", "eval_time": time, "exp_samples": samples})

    def fires(self, time: str, alert: str, *who: Labels) -> None:
        """An alert fires for these and no others, whatever other labels it has."""
        names = sorted({name for labels in who for name in labels}) or ["job"]
        expression = f'group by ({", ".join(names)}) (ALERTS{{alertname="{alert}", alertstate="firing"}})'
        samples = [{"labels": written(labels), "value": 1} for labels in who]
        self.expressions.append({"expr": expression, "eval_time": time, "exp_samples": samples})

    def run(self, rules: Path, directory: Path) -> subprocess.CompletedProcess[str]:
        """Run promtool on a file of rules."""
        return self._run(rules, directory, promql_expr_test=self.expressions)

    def told(self, rules: Path, directory: Path) -> str:
        """What promtool prints of all alerts that are to fire, words included."""
        moments = {
            (test["expr"].split('"')[1], test["eval_time"])
            for test in self.expressions
            if "ALERTS" in test["expr"] and test["exp_samples"]
        }
        tests = [{"alertname": alert, "eval_time": time, "exp_alerts": []} for alert, time in sorted(moments)]
        return self._run(rules, directory, alert_rule_test=tests).stderr if tests else ""

    def _run(self, rules: Path, directory: Path, **tests: object) -> subprocess.CompletedProcess[str]:
        test = {"interval": self.interval, "input_series": self.series, **tests}
        content = {"rule_files": [str(rules)], "evaluation_interval": self.interval, "tests": [test]}
        path = directory / f"{rules.stem}-{id(self)}-{next(_NUMBERS)}.test.yml"
        YAML(typ="safe").dump(content, path)
        return promtool("test", "rules", str(path))


_NUMBERS = itertools.count()
FILES = {path.stem: path for path in sorted(RULES.glob("*.yml"))}


def rules_in(content: Any) -> Iterator[dict[str, Any]]:
    """The rules of a file's content, which are its own: a change of one changes it."""
    for group in content["groups"]:
        yield from group["rules"]


def all_rules() -> list[dict[str, Any]]:
    return [rule for path in FILES.values() for rule in rules_in(YAML(typ="safe").load(path))]
