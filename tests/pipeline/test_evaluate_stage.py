"""The evaluate stage on real shards and a real, small model."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from emotion_detection.artifacts import SHARDS, Report, model_dir, read_record, report_dir
from emotion_detection.data.shards import load_arrays
from emotion_detection.errors import ArtifactError, ParamsError
from emotion_detection.evaluation import evaluate
from emotion_detection.params import load_params
from tests.workspace import COUNTS, LABELS, MODEL, workspace

FIGURES = {"confusion", "reliability", "roc", "precision_recall", "classes", "mistakes", "training"}
FIGURES |= {"explanations", "feature_maps", "slices", "robustness"}


@pytest.fixture(autouse=True)
def root(tmp_path_factory, tmp_path, monkeypatch):
    monkeypatch.chdir(workspace(tmp_path_factory, tmp_path))
    return tmp_path


def files_of(directory):
    return {path.relative_to(directory): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_report_stands_on_the_shards_and_the_model():
    from emotion_detection.models import load_model

    report = evaluate(MODEL, load_params())
    assert read_record(report_dir(MODEL) / "metrics.json", Report) == report
    arrays = load_arrays(SHARDS, "test")
    logits = load_model("lenet", model_dir(MODEL) / "model.keras").predict(arrays.images, verbose=0)
    assert report.test.accuracy.value == pytest.approx((logits.argmax(axis=1) == arrays.labels).mean())
    assert 1 / 3 < report.test.accuracy.value < 1
    assert (report.val.images, report.test.images) == (COUNTS["val"], COUNTS["test"])
    assert tuple(report.test.recall) == LABELS
    rows = pq.read_table(report_dir(MODEL) / "predictions.parquet").to_pylist()
    found = {row["sha256"]: row["logits"] for row in rows if row["split"] == "test"}
    np.testing.assert_allclose([found[digest] for digest in arrays.sha256], logits, atol=1e-5)
    assert {path.stem for path in (report_dir(MODEL) / "figures").glob("*.png")} == FIGURES


def test_report_has_views_slices_and_corrupted_faces():
    from emotion_detection.models import load_model

    how = "robustness_images: 50, ten_crop: false, bootstrap"
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("bootstrap", how))
    report = evaluate(MODEL, load_params())
    arrays, model = load_arrays(SHARDS, "test"), load_model("lenet", model_dir(MODEL) / "model.keras")
    both = [model.predict(images, verbose=0) for images in (arrays.images, arrays.images[:, :, ::-1].copy())]
    right = np.mean(both, axis=0).argmax(axis=1) == arrays.labels
    assert report.views["flip"].test.value == pytest.approx(right.mean())
    assert report.views["single"].test == report.test.accuracy
    assert report.views["single"].val == report.val.accuracy
    assert set(report.views) == {"single", "flip"}
    for slicing in ("class", "brightness", "contrast", "sharpness"):
        rows = [row for row in report.slices if row.slicing == slicing]
        assert sum(row.images for row in rows) == COUNTS["test"]
        hits = sum(row.images * row.accuracy.value for row in rows)
        assert hits == pytest.approx(COUNTS["test"] * report.test.accuracy.value)
    assert report.robustness.images == 50
    assert 1 / 3 < report.robustness.mean.value < report.robustness.clean.value
    plots = report_dir(MODEL) / "plots"
    changes, slices = (pd.read_csv(plots / f"{name}.csv") for name in ("robustness", "slices"))
    assert changes.loc[0, ["corruption", "accuracy"]].tolist() == ["none", report.robustness.clean.value]
    assert changes["accuracy"][1:].mean() == pytest.approx(report.robustness.mean.value, abs=1e-5)
    assert slices["images"].sum() == 4 * COUNTS["test"]


def test_what_costs_time_can_be_left_out():
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("bootstrap", "robustness_images: 0, ten_crop: false, bootstrap"))
    report = evaluate(MODEL, load_params())
    assert report.robustness is None
    assert len(pd.read_csv(report_dir(MODEL) / "plots/robustness.csv")) == 0
    assert not (report_dir(MODEL) / "figures/robustness.png").exists()


def test_repeating_changes_no_byte_and_leaves_nothing_behind(root):
    evaluate(MODEL, load_params())
    first = files_of(report_dir(MODEL))
    evaluate(MODEL, load_params())
    assert files_of(report_dir(MODEL)) == first
    assert not [path for path in (root / "reports").rglob("*") if path.name.endswith(".tmp")]


def test_command_prints_the_table(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "pipeline.evaluate", raising=False)
    monkeypatch.setattr(sys, "argv", ["evaluate", MODEL])
    runpy.run_module("pipeline.evaluate", run_name="__main__")
    accuracy = read_record(report_dir(MODEL) / "metrics.json", Report).test.accuracy.value
    assert f"{accuracy:.3f}" in capsys.readouterr().out


def test_unknown_model_is_named():
    with pytest.raises(ParamsError, match=r"models\.nobody: no such model; params\.yaml has small"):
        evaluate("nobody", load_params())


@pytest.mark.parametrize("content", [None, b"", b"no model"])
def test_missing_or_damaged_model_is_named(content):
    path = model_dir(MODEL) / "model.keras"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"models/small/model\.keras.*dvc"):
        evaluate(MODEL, load_params())
    assert not report_dir(MODEL).exists()


def test_truncated_model_is_named():
    path = model_dir(MODEL) / "model.keras"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ArtifactError, match=r"models/small/model\.keras"):
        evaluate(MODEL, load_params())


def test_model_of_another_data_set_is_refused():
    from emotion_detection.models import InputSpec, build_model

    build_model("lenet", InputSpec(20, 1, 4), {}).save(model_dir(MODEL) / "model.keras")
    with pytest.raises(ArtifactError, match=r"\(20, 20, 1\) and gives 4 outputs.*\(16, 16, 1\) and 3 labels"):
        evaluate(MODEL, load_params())


def test_diverged_model_is_refused():
    from emotion_detection.models import load_model

    model = load_model("lenet", model_dir(MODEL) / "model.keras")
    model.set_weights([np.full_like(weights, np.nan) for weights in model.get_weights()])
    model.save(model_dir(MODEL) / "model.keras")
    with pytest.raises(ArtifactError, match=r"not finite for 75 of 75 images.*learning_rate"):
        evaluate(MODEL, load_params())


def test_missing_history_is_named():
    (model_dir(MODEL) / "history.json").unlink()
    with pytest.raises(ArtifactError, match=r"models/small/history\.json: missing"):
        evaluate(MODEL, load_params())
