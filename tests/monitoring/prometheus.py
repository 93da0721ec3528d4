"""Debian's Prometheus and promtool, which `make test` installs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RULES = ROOT / "monitoring/prometheus/rules"


def need_prometheus() -> None:
    """Skip the test where there is no Prometheus."""
    if shutil.which("promtool") is None or shutil.which("prometheus") is None:
        pytest.skip("no prometheus: `apt-get install prometheus`")


def promtool(*arguments: str, text: str | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run promtool; skips the test where there is none."""
    need_prometheus()
    return subprocess.run(
        ["promtool", *arguments], input=text, capture_output=True, text=True, cwd=cwd, check=False, timeout=120
    )
