"""The benchmark of alerts by scenario: it expects alerts that there are, and tells what is not exact."""

from __future__ import annotations

import pytest

from benchmarks.monitoring.scenario_alerts import ALSO, MAY, MUST, Seen
from emotion_detection.reference import EDGES
from emotion_detection.replay import SCENARIOS
from tests.monitoring.rule_tests import all_rules


def test_each_scenario_expects_alerts_that_there_are() -> None:
    assert list(MUST) == list(SCENARIOS)
    assert set(ALSO) <= set(SCENARIOS)
    alerts = {rule["alert"] for rule in all_rules() if "alert" in rule}
    expected = MAY.union(*MUST.values(), *ALSO.values())
    assert {alert.split()[0] for alert in expected} <= alerts
    assert {alert.split()[1] for alert in expected if " " in alert} <= set(EDGES)


@pytest.mark.parametrize(
    ("change", "exact"),
    [({}, True), ({"before": ["x"]}, False), ({"missing": ["x"]}, False), ({"unexpected": ["x"]}, False)],
)
def test_what_is_exact(change: dict[str, list[str]], exact: bool) -> None:
    none: dict[str, list[str]] = {"before": [], "missing": [], "unexpected": []}
    assert Seen(scenario="blur", fired={}, failed=0, **(none | change)).exact is exact
