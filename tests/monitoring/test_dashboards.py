"""The dashboards as files: made by `make dashboards`, complete, and every query in them is PromQL.

No Grafana reads them here. That their queries have answers is tested against a real Prometheus in test_live.py.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.dashboards.__main__ import FOLDER, dashboards
from monitoring.dashboards.alerts import entries
from tests.monitoring.panels import BOARDS, VARIABLES, expressions, panels, written
from tests.monitoring.prometheus import promtool
from tests.monitoring.rule_tests import all_rules

RUNBOOK = {alert: place + 1 for place, alert in enumerate(entries())}


def test_the_files_are_what_make_dashboards_writes() -> None:
    made = dashboards()
    assert {path.name: path.read_text() for path in FOLDER.glob("*.json")} == made, "run `make dashboards`"
    assert list(BOARDS) == [name.removesuffix(".json") for name in made]


def test_every_query_is_promql(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{n}", "expr": written(expression)} for n, expression in enumerate(expressions())]
    assert len(rules) > 80
    assert not [rule["expr"] for rule in rules if re.search(r"\$\D", rule["expr"])]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    result = promtool("check", "rules", "--lint=none", str(file))
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", BOARDS)
def test_every_panel_can_be_read(name: str) -> None:
    found = panels(name)
    assert len({panel["id"] for panel in found}) == len(found)
    assert [panel["title"] for panel in found if not panel.get("description")] == [] or name == "runbook"
    for panel in found:
        assert all(target["datasource"]["uid"] == "${source}" for target in panel.get("targets", []))
        letters = [target["refId"] for target in panel.get("targets", [])]
        assert letters == sorted(set(letters) - {""}), panel["title"]
        assert (name == "runbook") == ("targets" not in panel), panel["title"]


@pytest.mark.parametrize("name", BOARDS)
def test_panels_lie_side_by_side(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in [*panels(name), *(panel for panel in BOARDS[name]["panels"] if panel["type"] == "row")]:
        place = panel["gridPos"]
        assert place.get("x", 0) + place["w"] <= 24
        cells = {(place.get("x", 0) + x, place.get("y", 0) + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("name", BOARDS)
def test_variables_are_there_and_links_lead_somewhere(name: str) -> None:
    board = BOARDS[name]
    defined = {variable["name"] for variable in board["templating"]["list"]} | {"__rate_interval", "__range"}
    used = set(re.findall(r"\$\{?([a-z_]\w*)", " ".join(expressions(name))))
    assert used <= defined
    assert {"source"} <= defined
    assert used <= set(VARIABLES)
    links = [link["url"] for link in board.get("links", [])]
    assert sorted(links) == sorted(f"/d/{other['uid']}" for other in BOARDS.values() if other is not board)
    for panel in panels(name):
        for link in panel.get("links") or []:
            alert = link["title"].partition(":")[0]
            assert link["url"] == f"/d/emotion-runbook?viewPanel={RUNBOOK[alert]}"


def test_the_runbook_says_of_every_alert_what_to_do_and_panels_lead_there() -> None:
    texts = {panel["id"]: panel for panel in panels("runbook")}
    linked = {
        link["title"].partition(":")[0]
        for name in BOARDS
        for panel in panels(name)
        for link in panel.get("links") or []
    }
    for alert in (rule["alert"] for rule in all_rules() if "alert" in rule):
        assert alert in linked
        assert texts[RUNBOOK[alert]]["title"] == alert
        assert "**What to do.**" in texts[RUNBOOK[alert]]["options"]["content"]


def test_provisioning_leads_to_them() -> None:
    def only(path: str, key: str) -> dict[str, Any]:
        [entry] = yaml.safe_load((FOLDER.parent / path).read_text())[key]
        return dict(entry)

    assert only("datasources/prometheus.yml", "datasources")["type"] == "prometheus"
    provider = only("dashboards/emotion.yml", "providers")
    assert provider["options"]["path"].replace("${GF_PATHS_PROVISIONING}", str(FOLDER.parent)) == str(FOLDER)
    for name, board in BOARDS.items():
        assert (board["uid"], json.loads(dashboards()[f"{name}.json"])["title"]) == (f"emotion-{name}", board["title"])
