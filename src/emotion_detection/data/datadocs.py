"""Make Data Docs readable without a network: the pages of Great Expectations load their looks from elsewhere.

    make_self_contained(Path("reports/validation"), findings)

Scripts, style sheets, fonts and pictures go; one small style sheet and an index page, whose tables need no
script, come instead.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from html import escape
from pathlib import Path

from emotion_detection.data.report import Finding

_LOADED = re.compile(r"<(script|style|footer)\b.*?</\1>|<(?:link|img)\b[^>]*>", re.DOTALL)
_STYLE = """<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: .5rem 0 }
th, td { border: 1px solid #ddd; padding: .3rem .6rem; text-align: left; vertical-align: top }
.alert { border-left: 4px solid #999; padding-left: .7rem; margin-top: 1.5rem }
.badge { background: #eee; border-radius: 3px; padding: 0 .3rem }
.btn-group, .card-text, .card-header, [data-toggle=collapse] { display: none }
.text-success, .passed { color: #18794e }
.text-danger, .critical { color: #b42318 }
.text-warning, .warning { color: #9a6700 }
.fa-check-circle::before { content: "passed" }
.fa-times::before { content: "failed" }
ul { padding-left: 1.2rem }
</style>
"""
_PICTURES = '<li><a href="../data/index.html">Pictures of the data set</a></li>'  # made by a later stage


def make_self_contained(site: Path, findings: Iterable[Finding]) -> None:
    """Rewrite the pages below `site` in place and replace its index page."""
    shutil.rmtree(site / "static", ignore_errors=True)
    pages = sorted(page for page in site.rglob("*.html") if page.name != "index.html")
    for page in pages:
        html = _LOADED.sub("", page.read_text(encoding="utf-8"))
        page.write_text(html.replace("</head>", f"{_STYLE}</head>", 1), encoding="utf-8")
    (site / "index.html").write_text(_index(site, pages, list(findings)), encoding="utf-8")


def _index(site: Path, pages: list[Path], findings: list[Finding]) -> str:
    links = "".join(f"<li>{_link(page.relative_to(site))}</li>" for page in pages)
    found = "".join(_section(finding) for finding in findings) or "<p class=passed>Every expectation holds.</p>"
    return (
        f"<!DOCTYPE html><html lang=en><head><meta charset=UTF-8><title>Validation of the data set</title>{_STYLE}"
        f"</head><body><h1>Validation of the data set</h1><ul>{links}{_PICTURES}</ul><h2>What does not hold</h2>{found}"
        "</body></html>\n"
    )


def _link(page: Path) -> str:
    kind, table = page.parts[0], page.parts[1].removesuffix(".html")
    title = {"validations": "Results", "expectations": "Expectations"}.get(kind, kind)
    return f'<a href="{escape(page.as_posix())}">{title}: {escape(table)}</a>'


def _section(finding: Finding) -> str:
    examples = "".join(f"<li>{escape(example)}</li>" for example in finding.examples)
    return (
        f"<h3 class={finding.severity}>{finding.severity}: {escape(finding.check)}</h3>"
        f"<p>{escape(finding.message)}<br>{escape(finding.advice)}</p><ul>{examples}</ul>"
    )
