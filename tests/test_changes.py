"""What `emotion report` tells of a retraining, and of what it cannot be compared with."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from emotion_detection.artifacts import write_record
from emotion_detection.changes import Retraining, State, first_known, markdown, read_state, stages_of
from emotion_detection.cli import app
from emotion_detection.cli.report import _title
from emotion_detection.comparison.table import ComparedModel, Comparison
from emotion_detection.errors import ArtifactError

LOG = """\
Running stage 'fingerprint':
> python -m pipeline.fingerprint
Stage 'ingest' didn't change, skipping
Stage 'shards' is cached - skipping run, checking out outputs
Running stage 'train@lenet':
"""


def model(accuracy: float, **figures: float) -> ComparedModel:
    known = {
        "parameters": 10,
        "flops": 2_000_000,
        "bytes": 400_000,
        "milliseconds": 0.1,
        "milliseconds_batch": 0.1,
        "fp32_bytes": 400_000,
        "fp32_milliseconds": 0.1,
        "fp32_milliseconds_batch": 0.1,
        "macro_f1": accuracy,
        "ece": 0.02,
    }
    interval = {"accuracy": accuracy, "accuracy_low": accuracy - 0.02, "accuracy_high": accuracy + 0.02}
    return ComparedModel(architecture="lenet", precision="fp32", **(known | interval | figures))  # type: ignore[arg-type]


def state(name: str, params: dict[str, object], **models: ComparedModel) -> State:
    return State(name, params, Comparison(machine="here", images=1234, models=models))


def test_it_tells_what_changed_and_what_it_did_to_each_model() -> None:
    before = state("main", {"seed": 0, "old": 1}, lenet=model(0.80), vit=model(0.70), gone=model(0.5))
    now = state("here", {"seed": 0, "new": "a|b"}, lenet=model(0.85, bytes=500_000), vit=model(0.69), fresh=model(0.6))
    text = markdown(Retraining(now, before, stages=stages_of(LOG), candidate=("7", "lenet")))
    lines = text.splitlines()
    assert "| old | `1` | (none) |" in lines
    assert "| new | (none) | `a\\|b` |" in lines
    assert "seed" not in text
    assert "| lenet | 0.850 (0.830 to 0.870) +0.050 ▲ | 0.850 (+0.050) | 0.020 |  | 0.50 (+0.10) | 2.0 |" in lines
    assert any(line.startswith("| vit | 0.690 (0.670 to 0.710) -0.010 | 0.690 (-0.010) |") for line in lines)
    assert any(line.startswith("| fresh | 0.600 (0.580 to 0.620) | 0.600 |") for line in lines)
    assert any(line.startswith("| gone | gone |") for line in lines)
    assert "    bar [0.850, 0.690, 0.600]" in lines
    assert not any(line.startswith("    line") for line in lines)  # it would belong to other models
    assert "* run (2): fingerprint, train@lenet" in lines
    assert "* from the cache (1): shards" in lines
    assert "* unchanged (1): ingest" in lines
    assert "version 7 (lenet)" in text


def test_a_worse_model_is_marked_and_both_are_drawn() -> None:
    text = markdown(Retraining(state("here", {}, lenet=model(0.7)), state("main", {}, lenet=model(0.8))))
    assert "-0.100 ▼" in text
    assert "    line [0.800]" in text
    assert "Against `main`: no parameter changed." in text
    assert "there is nothing to promote" in text


def test_where_nothing_is_known_of_before_it_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that is empty, a revision that there is not, one without dvc.lock; the first with figures counts."""
    monkeypatch.chdir(tmp_path)
    for command in ("git init -q -b main", "git add .", "git -c user.name=t -c user.email=t@e commit -qm first"):
        (tmp_path / "params.yaml").write_text("seed: 1\n")
        subprocess.run(command.split(), check=True)
    subprocess.run(["dvc", "init", "-q"], check=True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/params.yaml").write_text("models: {lenet: {dropout: 0.5}}\n")
    write_record(tmp_path / "kept/metrics.json", Comparison(machine="m", images=5, models={"lenet": model(0.8)}))

    nothing, unknown = first_known(["empty", "no-such-revision", "--help", "main"])
    assert nothing is None
    text = markdown(Retraining(state("here", {}, lenet=model(0.7)), None, unknown))
    assert "empty/params.yaml: missing" in text
    assert "no-such-revision: neither a directory nor a git revision" in text
    assert "* main: its figures are not to be had (is its dvc.lock committed, and pushed?)" in text

    before, unknown = first_known(["empty", "kept", "main"])
    assert before is not None
    assert (before.name, before.params) == ("kept", {"models.lenet.dropout": 0.5})
    assert len(unknown) == 1


def test_figures_of_another_form_are_not_compared(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("seed: 1\n")
    (tmp_path / "metrics.json").write_text('{"machine": "m", "images": 5, "models": {"lenet": {}}}')
    with pytest.raises(ArtifactError, match="has another form than today's"):
        read_state(str(tmp_path))


def test_an_incident_comes_from_outside_and_stands_in_the_title_as_plain_text() -> None:
    assert _title("0193-ab`c](http://x)<img>") == "## Retraining for incident 0193-abchttp:ximg"
    assert _title("") == "## Retraining"


def test_outside_a_project_it_says_where_to_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["report", "--base", "main"])
    assert result.exit_code == 1
    assert result.stderr == "error: params.yaml: no such file; run from the root of the repository\n"
