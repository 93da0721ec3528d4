"""Write the dashboards: `make dashboards`, after every change of them or of docs/runbook.md."""

from __future__ import annotations

from pathlib import Path

from monitoring.dashboards import model, pipeline, runbook, service
from monitoring.dashboards.boards import as_json

FOLDER = Path(__file__).parents[1] / "grafana/dashboards"


def dashboards() -> dict[str, str]:
    """Content of each file, by name."""
    modules = (service, model, pipeline, runbook)
    return {f"{module.__name__.rpartition('.')[2]}.json": as_json(module.board()) for module in modules}


def main() -> None:
    for name, content in dashboards().items():
        (FOLDER / name).write_text(content)
        print(FOLDER / name)


if __name__ == "__main__":
    main()
