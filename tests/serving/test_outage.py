"""benchmarks/serving/outage.py for seconds instead of minutes: the registry is killed twice under load."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.serving.outage import Plan, run, show
from tests.serving.tiny import encode, write_bundle


@pytest.mark.slow
def test_no_request_is_lost_and_everybody_is_told_while_the_registry_is_away(
    empty_database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    bundles = [write_bundle(tmp_path / str(seed), seed, spread=9).directory for seed in (1, 2)]
    report = run(bundles, encode(3), tmp_path, Plan((1.0, 3.0), poll_seconds=0.5, clients=1, pause=0.02))
    assert report.complaints() == []
    assert report.pickup < 60  # a second or two, where nobody else uses the machine
    assert [outage.lost for outage in report.outages] == [0, 0]
    assert all(outage.answers > 20 for outage in report.outages)
    assert report.outages[1].seconds >= 3
    assert "failures occurred" not in report.outages[1].reason
    show(report)
    assert "lost in all: 0" in capsys.readouterr().out
