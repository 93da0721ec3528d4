"""What dashboards here have in common: variables, links to each other, versions as annotations; and their files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from monitoring.dashboards.parts import SOURCE, Panel

TITLES = {"service": "Service", "model": "Model", "pipeline": "Pipeline", "runbook": "Runbook"}
_OF_PROMETHEUS = {"useValueForTime": "on", "titleFormat": "version {{version}}", "textFormat": "{{architecture}}"}
"""What an annotation of its data source has besides; the builders do not know it. The value is when it was, ms."""


def choice(name: str, title: str, labels: str, *, several: bool = False) -> dashboard.QueryVariable:
    """A variable with the values that a label has.

    Args:
        labels: `label_values(...)`.
        several: more than one may be chosen; all are, at first.
    """
    variable = dashboard.QueryVariable(name).label(title).datasource(SOURCE).query(labels)
    variable = variable.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
    if several:
        everything = models.VariableOption(selected=True, text="All", value="$__all")
        variable = variable.multi(True).include_all(True).all_value(".*").current(everything)
    return variable.sort(models.VariableSort.NUMERICAL_DESC if several else models.VariableSort.ALPHABETICAL_ASC)


def swaps() -> dashboard.AnnotationQuery:
    """A line where another version began to answer."""
    version = 'max by (job, instance, version, architecture) (emotion_model_info{job="$job"} == 1)'
    began = 'emotion_model_since_timestamp_seconds{job="$job"}'
    expression = f"1000 * {began} * on (job, instance) group_left (version, architecture) {version}"
    annotation = dashboard.AnnotationQuery().name("Versions").expr(expression).datasource(SOURCE)
    return annotation.enable(True).icon_color("purple")


def assemble(name: str, about: str, variables: Sequence[Builder[models.VariableModel]]) -> dashboard.Dashboard:
    """An empty dashboard, with links to the others."""
    board = dashboard.Dashboard(f"Emotion detection: {TITLES[name].lower()}").uid(f"emotion-{name}").description(about)
    board = board.tags(["emotion-detection"]).editable().timezone("browser").refresh("30s").time("now-6h", "now")
    board = board.tooltip(models.DashboardCursorSync.CROSSHAIR)
    board = board.with_variable(dashboard.DatasourceVariable("source").label("Data source").type("prometheus"))
    for variable in variables:
        board = board.with_variable(variable)
    for other, title in TITLES.items():
        if other != name:
            link = dashboard.DashboardLink(title).url(f"/d/emotion-{other}").keep_time(True).include_vars(True)
            board = board.link(link.type(models.DashboardLinkType.LINK))
    return board


def fill(board: dashboard.Dashboard, parts: Mapping[str, Sequence[Panel]]) -> dashboard.Dashboard:
    """Put rows of panels into a dashboard."""
    for title, panels in parts.items():
        board = board.with_row(dashboard.Row(title))
        for panel in panels:
            board = board.with_panel(panel)
    for place, found in enumerate(board.build().panels or []):
        found.id_val = place + 1
    return board


def as_json(board: dashboard.Dashboard) -> str:
    """The file that Grafana reads."""
    content = json.loads(JSONEncoder(sort_keys=True).encode(board.build()))
    for annotation in content["annotations"].get("list", []):
        annotation.update(_OF_PROMETHEUS)
    return json.dumps(content, indent=1, sort_keys=True) + "\n"
