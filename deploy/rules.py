"""The rules of monitoring/prometheus/rules as one object of the Prometheus operator: python -m deploy.rules

A test compares the two, so that what is watched in a cluster is what is watched, and tested, everywhere else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "monitoring/prometheus/rules"
WRITTEN = ROOT / "deploy/kubernetes/components/monitoring/rules.yaml"


def prometheus_rule(directory: Path = SOURCE) -> dict[str, Any]:
    """All groups of all files of rules, in the order of the files' names."""
    files = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in sorted(directory.glob("*.yml"))]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "emotion-detection"},
        "spec": {"groups": [group for file in files for group in file["groups"]]},
    }


def main() -> None:
    """Write it."""
    text = yaml.safe_dump(prometheus_rule(), sort_keys=False, width=120)
    WRITTEN.write_text(f"# Made from monitoring/prometheus/rules: python -m deploy.rules\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main()
