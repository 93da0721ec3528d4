"""Every rule and every alert, by promtool on series; and what a person is told."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.monitoring.prometheus import ROOT, need_prometheus, promtool
from tests.monitoring.rule_tests import FILES, Scenario, all_rules
from tests.monitoring.stories import STORIES

ALERTS = [rule for rule in all_rules() if "alert" in rule]


def test_the_configuration_and_its_rules_are_valid() -> None:
    result = promtool("check", "config", str(ROOT / "monitoring/prometheus/prometheus.yml"))
    assert result.returncode == 0, result.stderr
    assert f"{len(FILES)} rule files found" in result.stdout


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_the_rules_say_what_they_must_and_nothing_else(story: Callable[[], Scenario], tmp_path: Path) -> None:
    scenario = story()
    result = scenario.run(FILES[scenario.rules], tmp_path)
    assert "SUCCESS" in result.stdout, result.stdout + result.stderr


def test_every_alert_is_told_with_figures_once_it_fires(tmp_path: Path) -> None:
    need_prometheus()
    found = "".join(story().told(FILES[story().rules], tmp_path) for story in STORIES)
    for alert in ALERTS:
        text = found.partition(f"alertname: {alert['alert']},")[2]
        assert text, f"{alert['alert']} never fires in the stories"
    assert not re.findall(r"<error|<no value>|%!|humanize|{{", found)
    assert (
        "against the validation split is 0.25 over 1h (alert above 0.2), Jensen-Shannon divergence 0.044 bits" in found
    )
    assert "accuracy over 1h is estimated at 70%" in found
    assert "registered is 80% (alert 5 percentage points below)" in found
    assert "Of the 144 answers that people judged over 1d, 50% were right; registered is 80%" in found


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_every_alert_can_be_acted_on(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    words = alert["annotations"]
    assert set(words) == {"summary", "description", "runbook_url"}
    assert words["runbook_url"] == f"docs/runbook.md#{alert['alert'].lower()}"
    entry = (ROOT / "docs/runbook.md").read_text().partition(f"\n## {alert['alert']}\n")[2].partition("\n## ")[0]
    for part in ("**What it means.**", "**How to look.**", "**What to do.**"):
        assert part in entry, f"docs/runbook.md says nothing of {part} for {alert['alert']}"


DOWN = {"InstanceDown", "NoInstance", "ModelNotReady"}


@pytest.mark.parametrize(
    ("label", "names"),
    [
        ({"severity": "critical"}, DOWN | {"BudgetBurnsFast"}),
        ({"severity": "info"}, {"ModelOld"}),
        ({"inhibits": "drift"}, DOWN | {"ModelRefused", "RegistryUnreachable", "RegistryNotPolled"}),
        ({"action": "retrain"}, {"ClassDrift", "InputDrift", "EstimatedAccuracyLow", "LiveAccuracyLow"}),
    ],
    ids=["critical", "info", "inhibits", "retrain"],
)
def test_labels_lead_an_alert_to_whom_it_concerns(label: dict[str, str], names: set[str]) -> None:
    """What drifts asks for a retraining; what is broken does not, and says that drift is no reason for one."""
    found = {alert["alert"] for alert in ALERTS if label.items() <= alert["labels"].items()}
    assert found == {f"Emotion{name}" for name in names}
