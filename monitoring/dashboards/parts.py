"""Panels as they look in all dashboards here.

    graph("Queue", "How full it is.", query("instance:emotion_queue:utilisation", "{{instance}}"))
        .unit("percentunit").thresholds(limits(0.5)).links(what_to_do("EmotionQueueFills"))

Each panel is a builder of grafana-foundation-sdk, which can be told anything more.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import TypeVar

from grafana_foundation_sdk.builders import (
    barchart,
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    timeseries,
)
from grafana_foundation_sdk.builders import table as tables
from grafana_foundation_sdk.builders import text as texts
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from grafana_foundation_sdk.models.text import TextMode

from monitoring.dashboards.alerts import place_of

HEIGHT = 8
_LETTERS = string.ascii_uppercase
SOURCE = models.DataSourceRef(type_val="prometheus", uid="${source}")
Panel = Builder[models.Panel]
Query = prometheus.Dataquery
_Chart = TypeVar(
    "_Chart",
    barchart.Panel,
    heatmap.Panel,
    stat.Panel,
    statetimeline.Panel,
    tables.Panel,
    timeseries.Panel,
)


def query(expression: str, legend: str = "") -> Query:
    """Values over time.

    Args:
        legend: name of each series, in which `{{label}}` is a label's value.
    """
    return Query().expr(expression).legend_format(legend or "__auto").range()


def now(expression: str, legend: str = "") -> Query:
    """Values at the end of the time that is shown."""
    return Query().expr(expression).legend_format(legend or "__auto").instant()


def rows(expression: str) -> Query:
    """The same as rows of a table, with a column for each label."""
    return now(expression).format(PromQueryFormat.TABLE)


def rates(histogram: str, labels: str) -> str:
    """How often each bucket of a histogram is counted, of all series with these labels together."""
    return f"sum by (le) (rate({histogram}_bucket{{{labels}}}[$__rate_interval]))"


def graph(title: str, about: str, *queries: Query) -> timeseries.Panel:
    """Lines over time, from zero."""
    tooltip = common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI)
    panel = _chart(timeseries.Panel(), title, about, queries)
    panel = panel.min(0).line_width(1).fill_opacity(8).show_points(common_models.VisibilityMode.NEVER)
    style = common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.DASHED)
    return panel.legend(_legend()).tooltip(tooltip).thresholds_style(style).thresholds(limits())


def stacked(title: str, about: str, *queries: Query) -> timeseries.Panel:
    """Areas over time that add up."""
    stacking = common.StackingConfig().mode(common_models.StackingMode.NORMAL)
    return graph(title, about, *queries).stacking(stacking).fill_opacity(50)


def number(title: str, about: str, *queries: Query) -> stat.Panel:
    """One large figure for each series, coloured by its limits."""
    panel = _chart(stat.Panel(), title, about, queries).height(4).span(4)
    calculation = common.ReduceDataOptions().calcs(["lastNotNull"])
    return panel.reduce_options(calculation).color_mode(common_models.BigValueColorMode.VALUE).thresholds(limits())


def heat(title: str, about: str, buckets: str, unit: str = "short") -> heatmap.Panel:
    """How a histogram moves over time.

    Args:
        buckets: expression that gives a rate for each `le`.
        unit: of `le`.
    """
    axis = heatmap.YAxisConfig().unit(unit).axis_placement(common_models.AxisPlacement.LEFT)
    shown = Query().expr(buckets).legend_format("{{le}}").format(PromQueryFormat.HEATMAP).range()
    colours = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").exponent(0.5).steps(64)
    return _chart(heatmap.Panel(), title, about, [shown]).color(colours).calculate(False).y_axis(axis)


def bars(title: str, about: str, label: str, queries: Mapping[str, Query], *, numeric: bool = False) -> barchart.Panel:
    """Values of now side by side, a group for each value of a label.

    Args:
        label: by which they are grouped; the queries are `rows` that have it.
        queries: by the name of their bars.
        numeric: the label's values are numbers.
    """
    names = {f"Value #{_LETTERS[place]}": name for place, name in enumerate(queries)}
    panel = _chart(barchart.Panel(), title, about, list(queries.values())).x_field(label).legend(_legend())
    columns = {"excludeByName": {f"Time {place + 1}": True for place in range(len(queries))} | {"Time": True}}
    panel = panel.with_transformation(_change("joinByField", byField=label, mode="outer"))
    if numeric:
        panel = panel.with_transformation(
            _change("convertFieldType", conversions=[{"targetField": label, "destinationType": "number"}])
        ).with_transformation(_change("sortBy", sort=[{"field": label}]))
    return panel.with_transformation(_change("organize", **columns, renameByName=names))


def matrix(title: str, about: str, expression: str, across: str, down: str) -> tables.Panel:
    """Values of now, a column for each value of one label and a row for each of another."""
    shades = dashboard.FieldColor().mode(models.FieldColorModeId.CONTINUOUS_BLUES)
    panel = _chart(tables.Panel(), title, about, [rows(expression)]).min(0).color_scheme(shades)
    return panel.with_transformation(
        _change("groupingToMatrix", columnField=across, rowField=down, valueField="Value", emptyValue="null")
    ).override_by_field_type(
        "number", [models.DynamicConfigValue("custom.cellOptions", {"type": "color-background", "mode": "basic"})]
    )


def columns(title: str, about: str, names: Mapping[str, str], *queries: Query) -> tables.Panel:
    """Values of now as a table.

    Args:
        names: title of each column that is shown, in their order, by label; `Value` is the value.
    """
    panel = _chart(tables.Panel(), title, about, queries)
    if len(queries) > 1:
        panel = panel.with_transformation(_change("merge"))
    order = {name: place for place, name in enumerate(names)}
    return panel.with_transformation(_change("filterFieldsByName", include={"names": list(names)})).with_transformation(
        _change("organize", indexByName=order, renameByName=dict(names))
    )


def states(title: str, about: str, names: Mapping[str, tuple[str, str]], *queries: Query) -> statetimeline.Panel:
    """When what was the case.

    Args:
        names: text and colour of each value.
    """
    results = {
        value: models.ValueMappingResult(text=name, color=colour, index=place)
        for place, (value, (name, colour)) in enumerate(names.items())
    }
    panel = _chart(statetimeline.Panel(), title, about, queries).merge_values(True).legend(_legend())
    return panel.mappings([models.ValueMap(options=results)])


def words(title: str, content: str) -> texts.Panel:
    """Markdown."""
    return texts.Panel().title(title).mode(TextMode.MARKDOWN).content(content).span(24).height(HEIGHT)


def limits(*values: float) -> dashboard.ThresholdsConfig:
    """Green, and from each value on the next of orange and red; of one value red."""
    colours = ["red"] if len(values) == 1 else ["orange", "red"]
    steps = [models.Threshold(None, "green")]
    steps += [models.Threshold(value, colour) for value, colour in zip(values, colours, strict=False)]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def at_least(value: float) -> dashboard.ThresholdsConfig:
    """Red below a value, green from there on."""
    steps = [models.Threshold(None, "red"), models.Threshold(value, "green")]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def unit(name: str) -> list[models.DynamicConfigValue]:
    """The unit of one column."""
    return [models.DynamicConfigValue("unit", name)]


def what_to_do(*alerts: str) -> list[Builder[models.DashboardLink]]:
    """Links of a panel to the runbook's entries on the alerts that look at the same."""
    return [
        dashboard.DashboardLink(f"{alert}: what to do").url(f"/d/emotion-runbook?viewPanel={place_of(alert)}")
        for alert in alerts
    ]


def _chart(panel: _Chart, title: str, about: str, queries: Sequence[Query]) -> _Chart:
    panel = panel.title(title).description(about).datasource(SOURCE).height(HEIGHT).span(8)
    for place, each in enumerate(queries):
        panel = panel.with_target(each.datasource(SOURCE).ref_id(_LETTERS[place]))
    return panel


def _legend() -> common.VizLegendOptions:
    legend = common.VizLegendOptions().show_legend(True).display_mode(common_models.LegendDisplayMode.LIST)
    return legend.placement(common_models.LegendPlacement.BOTTOM)


def _change(name: str, **options: object) -> models.DataTransformerConfig:
    return models.DataTransformerConfig(id_val=name, options=options)
