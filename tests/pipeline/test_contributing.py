"""What CONTRIBUTING.md shows by doing it, done: the example architecture goes through the pipeline of a clone."""

from __future__ import annotations

import json
import re
import shutil
import textwrap
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.clone import ROOT, Clone

NAME = "convmixer"
STAGES = [f"{stage}@{NAME}" for stage in ("train", "evaluate", "export", "register")]
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("whole_path"), pytest.mark.timeout(1200)]


def code_block(language: str) -> str:
    """The block of this language in the section on architectures."""
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("## Add an architecture")[2].partition("\n## ")[0]
    (block,) = re.findall(rf"^ *```{language}\n(.*?)^ *```$", section, re.M | re.S)
    return textwrap.dedent(block)


def test_the_example_architecture_is_trained_and_registered_and_nothing_else_runs(
    pipeline: Clone, tmp_path: Path
) -> None:
    clone = Clone(tmp_path / "clone")
    shutil.copytree(pipeline.path, clone.path, symlinks=True)
    assert not (clone.path / f"src/emotion_detection/models/{NAME}.py").exists()
    (clone.path / f"src/emotion_detection/models/{NAME}.py").write_text(code_block("python"))
    clone.set_params(**YAML(typ="safe").load(code_block("yaml")))
    assert sorted(clone.repro()) == sorted([*STAGES, "compare"])
    results = {row["model"]: row for row in json.loads(clone.run("emotion", "results", "--json").stdout)}
    assert results[NAME]["version"] is not None
    assert results[NAME]["test_accuracy"]["value"] > 0
    assert NAME in clone.run("emotion", "compare").stdout


def test_the_example_is_formatted_and_checked_as_our_own_code(tmp_path: Path, pipeline: Clone) -> None:
    module = tmp_path / f"{NAME}.py"
    module.write_text(code_block("python"))
    settings = ["--config", str(ROOT / "pyproject.toml")]
    pipeline.run("ruff", "format", "--check", *settings, str(module))
    pipeline.run("ruff", "check", *settings, str(module))
