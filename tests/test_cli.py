"""The command line on a finished project, with a real DVC and a real registry."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from emotion_detection.bundle import read_bundle
from emotion_detection.cli import app
from emotion_detection.errors import ParamsError
from emotion_detection.params import Params, load_params
from emotion_detection.params_edit import Edit, parse_settings, prepare_edit, read_preset
from emotion_detection.prediction_ids import id_prefix, new_id
from tests.clone import free_port, wait_for
from tests.project import stop

ROOT = Path(__file__).parents[1]
HEAVY = {"tensorflow", "keras", "mlflow", "great_expectations", "pandas", "pyarrow", "numpy", "onnxruntime", "dvc"}
DVC_YAML = """\
stages:
  note:
    cmd: python -c "open('done.txt', 'a').write('x')"
    params: [training.epochs]
    outs: [done.txt: {cache: false, persist: true}]
"""


def emotion(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def succeed(*words: str) -> str:
    result = emotion(*words)
    assert result.exit_code == 0, result.output
    return result.stdout


def as_json(*words: str) -> Any:
    return json.loads(succeed(*words, "--json"))


def fail(*words: str) -> str:
    """The one error message of a command that ends with status 1."""
    result = emotion(*words)
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    assert result.stderr.startswith("error: ")
    return result.stderr


@pytest.fixture
def with_dvc(project: Path) -> Path:
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=project, check=True)
    (project / "dvc.yaml").write_text(DVC_YAML)
    return project


def test_nothing_heavy_is_imported_for_help() -> None:
    code = "import sys, emotion_detection.cli; print(*{name.partition('.')[0] for name in sys.modules})"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert HEAVY & set(result.stdout.split()) == set()


def test_every_command_explains_itself() -> None:
    commands = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    assert {"run", "params", "results", "compare", "promote", "rollback", "gate", "trace", "runs", "ui"} <= commands
    for command in commands:
        assert len(succeed(command, "--help").splitlines()) > 5


def test_from_first_promotion_to_rollback_and_trace(project: Path) -> None:
    assert project == Path.cwd()
    assert "version 1 (good) is champion now" in succeed("promote")
    assert "version 1 (good) is champion already" in succeed("promote", "1")
    assert as_json("gate", "good")["passed"] is True

    message = fail("promote", "poor")
    assert "the gate refused version 2 (poor)" in message
    assert "accuracy 0.3833, required ≥ 0.5" in message
    assert json.loads(emotion("promote", "poor", "--json").stdout)["outcome"] == "refused"
    assert "would refuse" in fail("gate", "2")

    assert "go together" in fail("promote", "poor", "--force")
    assert "go together" in fail("promote", "poor", "--reason", "x")
    assert as_json("promote", "poor", "--force", "--reason", "to roll back")["outcome"] == "forced"
    results = {row["model"]: row for row in as_json("results")}
    assert [results[model]["version"] for model in ("good", "fair", "poor")] == ["1", None, "2"]
    assert results["poor"]["aliases"] == ["champion"]
    assert results["poor"]["verdict"] == "forced"
    assert results["good"]["test_accuracy"] == {"value": 0.9, "low": 0.8, "high": 1.0}
    assert results["good"]["milliseconds"] > 0

    assert "champion: version 1 (good); before: version 2 (poor)" in succeed("rollback")
    assert "no earlier champion" in fail("rollback")

    runs = as_json("runs")
    assert [run["model"] for run in runs] == ["poor", "good"]
    assert len(as_json("runs", "--limit", "1")) == 1

    trace = as_json("trace", "champion")
    assert (trace["version"], trace["model"]) == ("1", "good")
    links = {link["name"]: link for link in trace["links"]}
    assert {name: link["ok"] for name, link in links.items()} == {
        "run": True,
        "commit": False,
        "dvc.lock": False,
        "data": True,
    }
    assert links["run"]["value"] == runs[1]["run"]
    assert "no version '7'" in fail("trace", "7")
    assert_answers_are_traced()
    for command in ("results", "runs", "trace"):
        assert "good" in succeed(command)


def assert_answers_are_traced() -> None:
    """By the names of predictions of version 1, from the registry or from its directory, and of unknown ones."""
    digest = read_bundle(Path("bundles/good")).info.digest()
    for version in ("1", "bundle-0123"):
        before, name = datetime.now(UTC), new_id(id_prefix(version, digest))
        traced = as_json("trace", name)
        assert (traced["version"], traced["links"]) == ("1", as_json("trace", "1")["links"])
        assert abs(datetime.fromisoformat(traced["answered_at"]) - before) < timedelta(seconds=1)
        assert "UTC by version 1 (good)" in succeed("trace", name)
    assert "no version '7'" in fail("trace", new_id(id_prefix("7", digest)))
    assert "version 1 is bundle" in fail("trace", new_id(id_prefix("1", "0" * 64)))
    assert "no version is bundle 00000000" in fail("trace", new_id(id_prefix("bundle-0", "0" * 64)))


def test_trace_follows_links_into_git(project: Path) -> None:
    """A dvc.lock that is no longer the present one is found in the history."""
    from emotion_detection.bundle import Lineage
    from emotion_detection.lineage import UPSTREAM, lock_hash
    from tests.project import write_exported

    def git(*words: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        return subprocess.run(
            ["git", *identity, *words], cwd=project, check=True, capture_output=True, text=True
        ).stdout

    stages = {name.format(model="good"): {"cmd": "x"} for name in UPSTREAM}
    lock = json.dumps({"schema": "2.0", "stages": stages})
    (project / "dvc.lock").write_text(lock)
    git("init", "-q")
    git("add", "dvc.lock", "params.yaml")
    git("commit", "-qm", "lock")
    commit = git("rev-parse", "HEAD").strip()
    data_hash = json.loads((project / "data/shards/dataset.json").read_text())["data_hash"]
    training_id = json.loads((project / "models/good/run.json").read_text())["training_id"]
    lineage = Lineage(
        commit=commit, dirty=False, dvc_lock=lock_hash(lock, "good"), data_hash=data_hash, training_id=training_id
    )
    write_exported("good", lineage=lineage)
    succeed("promote", "good")
    links = as_json("trace")["links"]
    assert [link["ok"] for link in links] == [True] * 4
    assert links[2]["detail"] == "as it is now"
    (project / "dvc.lock").write_text(lock.replace('"x"', '"y"'))
    links = as_json("trace")["links"]
    assert links[2]["ok"]
    assert commit[:12] in links[2]["detail"]


def test_results_need_no_mlflow_and_no_finished_models(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    for file in ("reports/fair/metrics.json", "bundles/fair/bundle.json"):
        (project / file).unlink()
    result = emotion("results", "--json")
    assert result.exit_code == 0
    assert "Versions and verdicts are left out" in result.stderr
    rows = {row["model"]: row for row in json.loads(result.stdout)}
    assert rows["good"]["val_accuracy"] == 0.9
    assert rows["fair"]["val_accuracy"] is None
    assert "not trained yet" in succeed("results")
    assert "no answer" in fail("runs")


def test_run_retrains_promotes_and_says_what_to_do_next(with_dvc: Path) -> None:
    output = succeed("run", "training.epochs=3")
    assert "params.yaml: training.epochs: 2 -> 3" in output
    assert "version 1 (good) is champion now" in output
    assert "make serve" in output
    assert (with_dvc / "done.txt").read_text() == "x"
    assert load_params().training.epochs == 3

    assert [row["version"] for row in as_json("results")] == ["1", "2", "3"]

    output = succeed("run")
    assert "is champion already" in output
    assert (with_dvc / "done.txt").read_text() == "x"

    succeed("promote", "poor", "--force", "--reason", "to be beaten")
    output = succeed("run", "gate.min_accuracy=0.99", "--", "--force")
    assert "was refused; the champion stays" in output
    assert (with_dvc / "done.txt").read_text() == "xx"
    assert "the gate refused" in fail("run", "--require-promotion")
    assert as_json("trace")["model"] == "poor"


def test_run_ends_with_the_stage_that_fails(with_dvc: Path) -> None:
    dvc_yaml = with_dvc / "dvc.yaml"
    dvc_yaml.write_text(dvc_yaml.read_text().replace("open(", "nonsense("))
    assert "dvc repro ended with status" in fail("run", "--no-promote")
    dvc_yaml.write_text(DVC_YAML)
    assert "champion" not in succeed("run", "--no-promote").partition("Next:")[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["training.epoch=3"], "training.epoch: unknown key; allowed here: batch_size, epochs"),
        (["training.epochs=many"], "training.epochs: found 'many'"),
        (["training.epochs"], "expected KEY=VALUE"),
        (["=3"], "expected KEY=VALUE"),
        (["data.classes=[a"], "not valid YAML"),
        (["models.good.architecture=resnet_2000"], "models.good.architecture"),
        (["models.good.nonsense=1"], "models.good.nonsense: unknown key"),
        (["--preset", "grey-49"], "preset 'grey-49': no such preset; presets/ has none"),
    ],
)
def test_run_refuses_wrong_parameters_before_it_touches_anything(project: Path, words: list[str], message: str) -> None:
    before = (project / "params.yaml").read_bytes()
    assert message in fail("run", *words)
    assert (project / "params.yaml").read_bytes() == before


def test_models_at_a_time_and_arguments_for_dvc_exclude_each_other(project: Path) -> None:
    before = (project / "params.yaml").read_bytes()
    result = emotion("run", "--jobs", "2", "training.epochs=3", "--", "--force")
    assert result.exit_code == 2
    assert "--jobs runs `dvc repro` several times" in result.stderr
    assert (project / "params.yaml").read_bytes() == before


def test_editing_keeps_comments_and_order(project: Path) -> None:
    edit = prepare_edit(
        project / "params.yaml", [parse_settings(["gate.margin=0.05", "models.vit={architecture: vit}"])]
    )
    edit.write()
    lines = (project / "params.yaml").read_text().splitlines()
    assert lines[0] == "# A comment at the top."
    assert any(line.endswith("# crops") for line in lines)
    assert any("fair:" in line and line.endswith("# second") for line in lines)
    assert edit.params == load_params()
    assert load_params().gate.margin == 0.05
    assert list(load_params().models) == ["good", "fair", "poor", "vit"]


def test_an_edit_that_changes_nothing_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes((ROOT / "params.yaml").read_bytes())
    before = path.stat().st_mtime_ns
    edit = prepare_edit(path, [parse_settings([f"seed={load_params(path).seed}", "models.none_such=null"])])
    assert edit.changes == []
    assert edit.text == path.read_text()
    edit.write()
    assert path.stat().st_mtime_ns == before


PRESETS = sorted(path.stem for path in (ROOT / "presets").glob("*.yaml"))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_means_the_same_whichever_was_there_before(preset: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    kept = ["data.source=faces.zip", "gate.margin=0.05"]

    def prepared(name: str, *words: str) -> Edit:
        return prepare_edit(path, [parse_settings(words)], read_preset(name, ROOT / "presets"))

    def laid_over_the_shipped_file(name: str, *words: str) -> Params:
        path.write_bytes((ROOT / "params.yaml").read_bytes())
        prepared(name, *kept, *words).write()
        return load_params(path)

    expected = laid_over_the_shipped_file(preset)
    assert set(expected.models) == set(read_preset(preset, ROOT / "presets")["models"])
    for before in PRESETS:
        laid_over_the_shipped_file(before, "training.patience=3", "models.mine.architecture=vit")
        edit = prepared(preset)
        assert edit.params == expected, before
        edit.write()
        assert prepared(preset).changes == []
        assert path.read_text().startswith("# Everything that decides a result.")


def test_settings_are_yaml_and_later_ones_win() -> None:
    words = ["a.b=1e-4", "a.c=[x, y]", "a.d=null", "a.b=no", "e=a=b"]
    assert parse_settings(words) == {"a": {"b": "no", "c": ["x", "y"], "d": None}, "e": "a=b"}


def test_an_unknown_preset_is_answered_with_those_there_are() -> None:
    with pytest.raises(ParamsError, match="has colour-256, fer2013, fer2013-ablation, grey-48, zoo"):
        read_preset("grey", ROOT / "presets")


def test_params_are_shown_checked_and_explained(project: Path) -> None:
    assert json.loads(succeed("params"))["training"]["batch_size"] == 64
    assert "valid; models: good, fair, poor" in succeed("params", "--check")
    schema = json.loads(succeed("params", "--schema"))
    assert "dropout" in schema["hyperparameters"]["lenet"]["properties"]
    assert "batch_size" in schema["$defs"]["TrainingParams"]["properties"]
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("dense: [8]", "dence: [8]", 1))
    assert "models.good.dence: unknown key" in fail("params", "--check")


@pytest.mark.slow
def test_ui_shows_the_local_store(project: Path) -> None:
    succeed("promote", "good")
    port = str(free_port())
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    code = "from emotion_detection.cli import app; app()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "ui", "--port", port], cwd=project, env=environment, start_new_session=True
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", seconds=120)
        found = httpx.get(f"http://127.0.0.1:{port}/api/2.0/mlflow/registered-models/get", params={"name": "detector"})
        assert found.json()["registered_model"]["aliases"] == [{"alias": "champion", "version": "1"}]
    finally:
        stop(process)


def test_ui_names_the_pages_of_a_shared_server(server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server_url)
    assert server_url in succeed("ui")
