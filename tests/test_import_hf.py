"""`emotion import-hf` refuses what it cannot take, before params.yaml is touched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from emotion_detection.cli import app
from tests.checkpoints import encoder_tensors, write_checkpoint

SHARDS_ARE_THERE = "stages: {shards: {cmd: cd ., always_changed: true}}\n"


@pytest.fixture
def with_shards(project: Path) -> Path:
    """A project whose data set has the labels angry, happy and sad."""
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=project, check=True)
    (project / "dvc.yaml").write_text(SHARDS_ARE_THERE)
    return project


def refused(*words: str) -> str:
    before = Path("params.yaml").read_bytes()
    result = CliRunner().invoke(app, ["import-hf", *words])
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    assert result.stderr.startswith("error: ")
    assert Path("params.yaml").read_bytes() == before
    return result.stderr


def three_classes(config: dict[str, Any]) -> None:
    config["id2label"] = dict(enumerate(["happiness", "anger", "sadness"]))


def test_labels_without_a_counterpart_name_both_lists(with_shards: Path) -> None:
    write_checkpoint(with_shards / "theirs")
    message = refused("theirs")
    assert "the checkpoint answers sadness, Angry, neutral, surprised, fear, happiness, disgust" in message
    assert "the data set has angry, happy, sad" in message
    assert "neutral, surprised, fear, disgust of the checkpoint and none of the data set" in message


def test_weights_that_do_not_fit_their_configuration(with_shards: Path) -> None:
    write_checkpoint(with_shards / "theirs", change=three_classes)
    assert "classifier.weight (7, 24) instead of (3, 24)" in refused("theirs")


def test_checkpoint_without_classifier(with_shards: Path) -> None:
    write_checkpoint(with_shards / "theirs", encoder_tensors(), three_classes)
    assert "missing: classifier.weight, classifier.bias" in refused("theirs")


@pytest.mark.usefixtures("project")
def test_what_is_refused_before_the_data_is_looked_at() -> None:
    directory = write_checkpoint(Path("theirs"))
    assert "no such directory" in refused("not/there/at_all")
    assert "--name: found '../x'; allowed as name of a model are letters" in refused("theirs", "--name", "../x")
    assert "--name: found 'labels'" in refused("theirs", "--name", "labels")
    assert "models.good: there is such a model already; choose another with --name" in refused(
        "theirs", "--name", "good"
    )
    (directory / "model.safetensors").unlink()
    (directory / "pytorch_model.bin").touch()
    assert "are never loaded" in refused("theirs")
