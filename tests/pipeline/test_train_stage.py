"""The train stage as a user runs it, killed as an operating system kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from emotion_detection.artifacts import SHARDS, History, read_record
from emotion_detection.bundle import file_sha256
from emotion_detection.errors import reported
from pipeline.train import main
from tests.toy_shards import toy_shards

ROOT = Path(__file__).parents[2]
EPOCHS = 12
PARAMS = f"""
data: {{image_size: 16}}
training: {{batch_size: 16, epochs: {EPOCHS}, learning_rate: 0.005}}
models: {{toy: {{architecture: lenet, filters: [4], dense: [8], dropout: 0.2}}}}
"""


@pytest.fixture
def root(sqlite_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    assert str(tmp_path) in sqlite_uri
    monkeypatch.setattr(sys, "argv", ["train", "toy"])
    Path("params.yaml").write_text(PARAMS)
    toy_shards(SHARDS)
    return tmp_path


def wait_for_epoch(training: subprocess.Popen[bytes], checkpoints: Path, number: int) -> None:
    while not list(checkpoints.glob(f"toy/*/epoch-{number:05d}")):
        assert training.poll() is None, "the training ended before it could be killed"
        time.sleep(0.005)


def test_killed_training_ends_as_if_nothing_had_been(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    command = [sys.executable, "-m", "pipeline.train", "toy"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as training:
        wait_for_epoch(training, root / ".checkpoints", 3)
        training.send_signal(signal.SIGKILL)
    assert training.returncode == -signal.SIGKILL
    assert not Path("models/toy").exists()

    main()
    resumed = read_record(Path("models/toy/history.json"), History)
    resumed_file = file_sha256(Path("models/toy/model.keras"))
    assert "resumes after epoch" in capsys.readouterr().out
    assert 3 <= resumed.resumed_at[0] < EPOCHS
    assert len(resumed.metrics["loss"]) == EPOCHS

    main()  # finished, so this one starts anew
    whole = read_record(Path("models/toy/history.json"), History)
    assert whole.resumed_at == []
    assert whole.metrics["loss"] == resumed.metrics["loss"]
    assert file_sha256(Path("models/toy/model.keras")) == resumed_file


@pytest.mark.usefixtures("root")
def test_unknown_name_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train", "vgg"])
    with pytest.raises(SystemExit) as stop, reported():
        main()
    assert stop.value.code == 1
    assert capsys.readouterr().err == "error: models.vgg: no such model; params.yaml has toy\n"


def test_missing_shards_say_what_makes_them(root: Path) -> None:
    (root / SHARDS / "dataset.json").unlink()
    with pytest.raises(Exception, match=r"dataset\.json: missing; `dvc repro` makes it"):
        main()
