"""The compare stage on finished models: the page, its numbers, what it leaves out, and the run in MLflow."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from emotion_detection.artifacts import (
    COMPARISON,
    SHARDS,
    CorruptionAccuracy,
    Interval,
    Report,
    Robustness,
    bundle_dir,
    read_record,
    report_dir,
    write_record,
)
from emotion_detection.bundle import read_bundle
from emotion_detection.cli import app
from emotion_detection.comparison.compare import compare, differing_faces, read_entry
from emotion_detection.comparison.publishing import publish
from emotion_detection.comparison.table import TITLES, is_best, read_comparison
from emotion_detection.data.shards import load_arrays
from emotion_detection.errors import ArtifactError, ImageTooLarge
from emotion_detection.inference import Answers
from emotion_detection.mlflow_store import connect
from emotion_detection.params import load_params
from emotion_detection.registry import Registry
from emotion_detection.reporting import write_predictions
from emotion_detection.results import collect_results
from emotion_detection.scoring import score
from tests.clone import free_port
from tests.project import ACCURACY, add_int8, write_exported, write_judged, write_trained
from tests.workspace import LABELS, SIZE

ROOT = Path(__file__).parents[2]
FILES = {"index.html", "comparison.md", "comparison.csv", "agreement.csv", "metrics.json"}
FILES |= {f"figures/{name}.png" for name in ("tradeoff", "agreement", "faces")}


def write_answers(model: str) -> np.ndarray:
    """The answers of the model's bundle to the test images, as evaluate leaves them; returns the classes."""
    arrays = load_arrays(SHARDS, "test")
    probabilities = score(read_bundle(bundle_dir(model)), arrays.images).probabilities
    temperature = read_record(report_dir(model) / "metrics.json", Report).temperature
    logits = (temperature * np.log(probabilities + 1e-9)).astype(np.float32)
    answers = Answers("test", LABELS, arrays.images, arrays.sha256, arrays.labels, logits)
    write_predictions(report_dir(model) / "predictions.parquet", [answers])
    return probabilities.argmax(axis=1)


@pytest.fixture(autouse=True)
def answers(project: Path) -> dict[str, np.ndarray]:
    """Classes that each model gives to the test images."""
    assert project == Path.cwd()
    return {model: write_answers(model) for model in ACCURACY}


def test_the_stage_writes_a_page_that_needs_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_module("pipeline.compare", run_name="__main__")
    assert {str(path.relative_to(COMPARISON)) for path in COMPARISON.rglob("*") if path.is_file()} == FILES
    html = (COMPARISON / "index.html").read_text()
    HTMLParser().feed(html)
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', html)
    assert len(sources) == 3
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "prefers-color-scheme: dark" in html
    markdown = (COMPARISON / "comparison.md").read_text()
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", markdown)
    assert [name for name in pictures if not (COMPARISON / name).is_file()] == []
    for words in (capsys.readouterr().out, html, markdown):
        assert all(model in words for model in ACCURACY)
        assert "0.900 (0.800 to 1.000)" in words


def test_tables_in_markdown_have_as_many_cells_as_titles() -> None:
    compare(load_params())
    tables = re.findall(r"(?:^\|.*\n)+", (COMPARISON / "comparison.md").read_text(), re.M)
    assert len(tables) == 2
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert tables[0].splitlines()[0] == f"| {' | '.join(TITLES)} |"
    assert len(tables[0].splitlines()) == 2 + len(ACCURACY)
    assert "**0.900 (0.800 to 1.000)**" in tables[0]


def test_models_stand_beside_each_other_on_corrupted_images() -> None:
    path = report_dir("good") / "metrics.json"
    rows = [
        CorruptionAccuracy(corruption=name, strength=strength, accuracy=Interval(value=value, low=0, high=1))
        for name, strength, value in (("blur", 0.1, 0.6), ("blur", 0.2, 0.4), ("noise", 0.1, 0.75))
    ]
    whole = Interval(value=0.58, low=0.5, high=0.7)
    robustness = Robustness(images=9, clean=whole, mean=whole, rows=tuple(rows))
    write_record(path, read_record(path, Report).model_copy(update={"robustness": robustness}))
    found = compare(load_params())
    assert found.models["good"].by_corruption == pytest.approx({"blur": 0.5, "noise": 0.75})
    markdown = (COMPARISON / "comparison.md").read_text()
    table = next(table for table in re.findall(r"(?:^\|.*\n)+", markdown, re.M) if "corrupted" in table)
    assert table.splitlines()[0] == "| model | accuracy | corrupted | blur | noise |"
    assert table.splitlines()[2:] == ["| good | 0.900 | 0.580 | 0.50 | 0.75 |"]
    assert len({line.count("|") for line in table.splitlines()}) == 1
    assert "<td>0.580</td><td>0.50</td><td>0.75</td>" in (COMPARISON / "index.html").read_text()


@pytest.mark.usefixtures("answers")
def test_size_and_time_are_those_of_what_is_served_with_fp32_beside_them() -> None:
    size = add_int8("good").model_path.stat().st_size
    good, fair = (compare(load_params()).models[name] for name in ("good", "fair"))
    assert (good.precision, good.bytes, good.fp32_bytes) == ("int8", size + 2, size)
    assert (fair.precision, fair.bytes, fair.milliseconds) == ("fp32", fair.fp32_bytes, fair.fp32_milliseconds)
    text = (COMPARISON / "comparison.md").read_text().splitlines()
    lines = {line.split(" | ")[0]: line for line in reversed(text)}  # the first table comes last
    assert [lines[f"| {name}"].count("(fp32 ") for name in ("good", "fair")] == [3, 0]
    [result] = [each for each in collect_results(load_params(), None) if each.model == "good"]
    assert (result.precision, result.megabytes, result.fp32_megabytes) == ("int8", (size + 2) / 1e6, size / 1e6)
    assert all(time and time > 0 for time in (result.milliseconds, result.fp32_milliseconds))


def test_figures_are_those_of_reports_and_bundles(answers: dict[str, np.ndarray]) -> None:
    found = compare(load_params())
    assert found == read_comparison()
    assert list(found.models) == ["good", "fair", "poor"]  # best first
    good = found.models["good"]
    assert (good.accuracy, good.accuracy_low, good.macro_f1, good.ece, good.parameters) == (0.9, 0.8, 0.9, 0.1, 10)
    assert good.bytes == (bundle_dir("good") / "model.onnx").stat().st_size
    assert good.flops == 2 * SIZE * SIZE * len(LABELS)
    assert all(model.milliseconds > 0 and model.milliseconds_batch > 0 for model in found.models.values())
    assert (is_best(found, "good")[0], is_best(found, "fair")[0]) == (True, False)
    table = pd.read_csv(COMPARISON / "comparison.csv").set_index("model")
    assert table.loc["poor", "accuracy"] == 0.6
    pair = pd.read_csv(COMPARISON / "agreement.csv").set_index(["first", "second"]).loc[("good", "poor")]
    assert pair["agreement"] == pytest.approx((answers["good"] == answers["poor"]).mean())


def test_faces_are_those_with_different_answers(answers: dict[str, np.ndarray]) -> None:
    entries = [read_entry(name) for name in ACCURACY]
    faces = differing_faces(entries, max_pixels=SIZE**2)
    arrays = load_arrays(SHARDS, "test")
    by_image = {image.tobytes(): place for place, image in enumerate(arrays.images)}
    assert 0 < len(faces) <= 12
    for face in faces:
        place = by_image[face.image.tobytes()]
        assert face.true == LABELS[arrays.labels[place]]
        said = {model: answer for model, (answer, _) in face.answers.items()}
        assert said == {model: LABELS[answers[model][place]] for model in ACCURACY}
        assert len(set(said.values())) > 1


def test_pictures_may_be_as_large_as_the_data_set_allows() -> None:
    params = load_params()
    data = params.data.model_copy(update={"max_pixels": 1})
    with pytest.raises(ImageTooLarge, match="at most 1 in all"):
        compare(params.model_copy(update={"data": data}))


def test_what_is_no_longer_in_params_is_left_out() -> None:
    path = Path("params.yaml")
    path.write_text(path.read_text().replace("  poor: {architecture: lenet, filters: [4], dense: [8]}\n", ""))
    assert list(compare(load_params()).models) == ["good", "fair"]
    assert bundle_dir("poor").exists()
    assert "poor" not in (COMPARISON / "comparison.md").read_text()


def test_one_model_alone_and_models_that_agree() -> None:
    params = load_params()
    only = params.model_copy(update={"models": {"good": params.models["good"]}})
    compare(only)
    assert {path.name for path in (COMPARISON / "figures").iterdir()} == {"tradeoff.png"}
    assert "Where they agree" not in (COMPARISON / "index.html").read_text()
    twins = params.model_copy(update={"models": {"good": params.models["good"], "fair": params.models["fair"]}})
    (report_dir("fair") / "predictions.parquet").write_bytes((report_dir("good") / "predictions.parquet").read_bytes())
    compare(twins)
    assert "All models give the same answers." in (COMPARISON / "index.html").read_text()


def test_models_judged_on_other_images_are_refused() -> None:
    arrays = load_arrays(SHARDS, "test")
    logits = np.zeros((len(arrays.labels), len(LABELS)), np.float32)
    other = Answers("test", LABELS, arrays.images, arrays.sha256[::-1], arrays.labels, logits)
    write_predictions(report_dir("fair") / "predictions.parquet", [other])
    with pytest.raises(ArtifactError, match=r"reports/fair: judged on other test images than good; run `dvc repro`"):
        compare(load_params())
    assert not COMPARISON.exists()


def test_a_missing_file_is_named() -> None:
    (report_dir("poor") / "predictions.parquet").unlink()
    with pytest.raises(ArtifactError, match=r"reports/poor/predictions\.parquet: missing; `dvc repro` makes it"):
        compare(load_params())


def test_the_page_goes_into_mlflow_once(sqlite_uri: str) -> None:
    params, client = load_params(), connect(sqlite_uri)
    compare(params)
    run_id = publish(params)
    assert publish(params) == run_id
    run = client.get_run(run_id)
    assert (run.info.run_name, run.info.status) == ("comparison", "FINISHED")
    assert run.data.tags["mlflow.note.content"] == (COMPARISON / "comparison.md").read_text()
    files = {
        file.path for folder in ("comparison", "comparison/figures") for file in client.list_artifacts(run_id, folder)
    }
    assert {f"comparison/{name}" for name in FILES} <= files
    assert Registry("detector").runs("tests", 10) == []  # `emotion runs` lists models
    write_trained("good", training_id="again")
    write_judged("good")
    write_exported("good", parameters=11)
    compare(params)
    assert publish(params) != run_id


def test_without_mlflow_the_page_is_made_all_the_same() -> None:
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{free_port()}", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pipeline.compare"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr.startswith("warning: MLflow at http://127.0.0.1:")
    assert (COMPARISON / "index.html").is_file()


def test_the_command_prints_the_table_and_the_path() -> None:
    missing = CliRunner().invoke(app, ["compare"])
    assert missing.exit_code == 1
    assert missing.stderr == "error: comparison/metrics.json: missing; `dvc repro` makes it, `dvc pull` fetches it\n"
    found = compare(load_params())
    printed = CliRunner().invoke(app, ["compare"]).stdout
    assert "comparison/index.html" in printed
    assert all(model in printed for model in ACCURACY)
    assert json.loads(CliRunner().invoke(app, ["compare", "--json"]).stdout) == found.model_dump()
