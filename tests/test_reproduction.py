"""Trainings side by side, under a real DVC; the stages are small scripts with the names of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from emotion_detection.errors import EmotionError
from emotion_detection.reproduction import reproduce, shares_of_cores, train_side_by_side

DVC_YAML = """\
stages:
  shards:
    cmd: python -c "open('shards', 'w')"
    outs: [shards]
  train:
    foreach: {first: 1, second: 2, third: 3}
    do:
      cmd: python train.py ${key}
      deps: [shards, train.py]
      outs:
        - models/${key}
  evaluate:
    foreach: {first: 1, second: 2, third: 3}
    do:
      cmd: python -c "open('reports/${key}', 'w').write(open('models/${key}').read())"
      deps:
        - models/${key}
      outs:
        - reports/${key}
"""
TRAIN = """\
import os, pathlib, sys, time
name = sys.argv[1]
if name == "third" and not pathlib.Path("well").exists():
    sys.exit(f"{name} is ill")
running = pathlib.Path("running")
(running / name).touch()
deadline = time.monotonic() + 60
while name != "third" and len(list(running.iterdir())) < 2:  # ends only if another one runs meanwhile
    if time.monotonic() > deadline:
        sys.exit(f"{name} was alone")
    time.sleep(0.05)
print(f"{name} is trained")
pathlib.Path("models", name).write_text(" ".join(map(str, sorted(os.sched_getaffinity(0)))))
"""
MODELS = ("first", "second", "third")


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=tmp_path, check=True)
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    (tmp_path / "train.py").write_text(TRAIN)
    for name in ("models", "reports", "running"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_models_are_trained_at_the_same_time_and_one_failure_loses_nothing(
    pipeline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cores = os.sched_getaffinity(0)
    with pytest.raises(EmotionError, match=r"^third: the stage that failed says why above"):
        train_side_by_side(MODELS, 2)
    printed = capsys.readouterr().out
    assert all(f"{line}\n" in printed for line in ("first is trained", "second is trained", "third is ill"))
    assert not (pipeline / "models/third").exists()
    shares = [set(map(int, (pipeline / "reports" / name).read_text().split())) for name in MODELS[:2]]
    assert shares[0] | shares[1] <= cores
    assert len(cores) < 2 or not shares[0] & shares[1]
    assert os.sched_getaffinity(0) == cores

    for file in (pipeline / "running").iterdir():
        file.unlink()  # whoever is trained again would be alone
    (pipeline / "well").touch()
    train_side_by_side(MODELS, 2)
    assert [file.name for file in (pipeline / "running").iterdir()] == ["third"]
    reproduce()
    assert [file.name for file in (pipeline / "running").iterdir()] == ["third"]


@pytest.mark.parametrize(
    ("cores", "jobs", "shares"),
    [
        ({0, 1}, 2, [{0}, {1}]),
        ({0, 1, 4, 5, 6}, 2, [{0, 1}, {4, 5, 6}]),
        ({3}, 2, [{3}, {3}]),
        ({0, 1}, 3, [{0, 1}, {0}, {1}]),
    ],
)
def test_cores_are_shared_out(
    cores: set[int], jobs: int, shares: list[set[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores)
    assert shares_of_cores(jobs) == shares
