"""The export stage on a real, small model: a verified bundle, or none."""

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from emotion_detection import export, quantisation
from emotion_detection.artifacts import SHARDS, Report, bundle_dir, model_dir, read_record, report_dir
from emotion_detection.bundle import EXPLAIN_FILE, GOLDEN_FILE, INT8_FILE, MODEL_FILE, Explanation, read_bundle
from emotion_detection.data.shards import load_arrays
from emotion_detection.errors import ArtifactError, BundleError, ExportError
from emotion_detection.evaluation import evaluate
from emotion_detection.export import export_bundle, golden_faces
from emotion_detection.face_quality import measure
from emotion_detection.golden import read_golden
from emotion_detection.params import load_params
from emotion_detection.reference import entropy_bits, histogram
from emotion_detection.stats import expected_calibration_error, fit_temperature, softmax
from tests.workspace import COUNTS, LABELS, MODEL, PARAMS, SIZE, workspace

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    directory = workspace(tmp_path_factory, tmp_path_factory.mktemp("evaluated"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        evaluate(MODEL, load_params())
    return directory


@pytest.fixture(autouse=True)
def root(evaluated, tmp_path, monkeypatch):
    shutil.copytree(evaluated, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_in_process(module, monkeypatch):
    """Exit status of `python -m module small`, without another start of TensorFlow."""
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(sys, "argv", [module, MODEL])
    try:
        runpy.run_module(module, run_name="__main__")
    except SystemExit as end:
        return end.code
    return 0


def alter(monkeypatch, change):
    """Let `change` spoil the graph between conversion and comparison."""
    honest = export.convert

    def spoilt(*arguments):
        graph = honest(*arguments)
        change(graph)
        return graph

    monkeypatch.setattr(export, "convert", spoilt)


def test_bundle_answers_as_the_model_does_on_the_whole_test_split():
    bundle = export_bundle(MODEL, load_params())
    report = read_record(report_dir(MODEL) / "metrics.json", Report)
    arrays = load_arrays(SHARDS, "test")
    from emotion_detection.models import load_model

    logits = load_model("lenet", model_dir(MODEL) / "model.keras").predict(arrays.images, verbose=0)
    (found,) = ort.InferenceSession(bundle.model_path).run(["probabilities"], {"image": arrays.images})
    np.testing.assert_allclose(found, softmax(logits / report.temperature), atol=1e-5)
    assert (found.argmax(axis=1) == arrays.labels).mean() == pytest.approx(bundle.info.metrics["test_accuracy"])


def test_bundle_says_where_it_comes_from_and_how_good_it_is():
    from emotion_detection.models import load_model

    info = export_bundle(MODEL, load_params()).info
    report = read_record(report_dir(MODEL) / "metrics.json", Report)
    assert (info.model, info.architecture, info.labels) == (MODEL, "lenet", LABELS)
    assert (info.image_size, info.channels, info.temperature) == (SIZE, 1, report.temperature)
    assert info.metrics == {
        "val_accuracy": report.val.accuracy.value,
        "test_accuracy": report.test.accuracy.value,
        "test_macro_f1": report.test.macro_f1.value,
        "test_ece": report.test.ece,
        "parity": info.metrics["parity"],
    }
    assert 0 <= info.metrics["parity"] < 1e-5
    assert info.reference_shares == pytest.approx(dict.fromkeys(LABELS, 1 / 3))
    assert info.lineage.training_id == "1" * 64
    assert len(info.lineage.data_hash) == 64
    assert set(info.files) == {MODEL_FILE, EXPLAIN_FILE, GOLDEN_FILE}
    names = [layer.name for layer in load_model("lenet", model_dir(MODEL) / "model.keras").layers]
    assert info.explanation == Explanation(method="grad_cam", layer=[n for n in names if n.startswith("conv2d")][-1])


def test_bundle_says_what_drift_is_measured_against():
    from emotion_detection.models import load_model

    bundle = export_bundle(MODEL, load_params())
    reference, faces, val = bundle.info.reference, load_arrays(SHARDS, "train").images, load_arrays(SHARDS, "val")
    qualities = [measure(face, SIZE) for face in faces]
    for feature in ("brightness", "contrast", "sharpness"):
        values = [getattr(quality, feature) for quality in qualities]
        assert reference.histogram(feature) == histogram(feature, values)
    logits = load_model("lenet", model_dir(MODEL) / "model.keras").predict(val.images, verbose=0)
    probabilities, predicted = softmax(logits / bundle.info.temperature), logits.argmax(axis=1)
    assert reference.confidence == histogram("confidence", probabilities.max(axis=1))
    assert reference.entropy == histogram("entropy", entropy_bits(probabilities))
    assert tuple(reference.predicted.values()) == tuple(np.bincount(predicted, minlength=len(LABELS)))
    assert tuple(reference.predicted) == LABELS
    assert reference.accuracy == pytest.approx(bundle.info.metrics["val_accuracy"])
    assert reference.mean_confidence == pytest.approx(probabilities.max(axis=1).mean(), abs=1e-5)


def test_golden_faces_are_drawn_and_answered_by_keras():
    from emotion_detection.models import load_model

    bundle = export_bundle(MODEL, load_params())
    golden = read_golden(bundle.directory / GOLDEN_FILE, bundle.info)
    np.testing.assert_array_equal(golden.images, golden_faces(SIZE, 1))
    assert len(np.unique(golden.images, axis=0)) == 14
    logits = load_model("lenet", model_dir(MODEL) / "model.keras").predict(golden.images, verbose=0)
    np.testing.assert_allclose(golden.probabilities, softmax(logits / bundle.info.temperature), atol=1e-6)


def test_the_mirror_image_is_judged_calibrated_and_served_but_not_explained(root):
    from emotion_detection.models import load_model

    plain = export_bundle(MODEL, load_params())
    (root / "params.yaml").write_text(f"{PARAMS}\ninference: {{flip_average: [{MODEL}]}}\n")
    with pytest.raises(ArtifactError, match=r"metrics\.json: judged without the mirror image, but .* run `dvc repro`"):
        export_bundle(MODEL, load_params())
    explanation = plain.explain_path.read_bytes()
    report, bundle = evaluate(MODEL, load_params()), export_bundle(MODEL, load_params())
    model = load_model("lenet", model_dir(MODEL) / "model.keras")

    def averaged(images):
        return np.mean([model.predict(faces, verbose=0) for faces in (images, images[:, :, ::-1].copy())], axis=0)

    val, test = load_arrays(SHARDS, "val"), load_arrays(SHARDS, "test")
    assert report.flip_average
    assert report.temperature == pytest.approx(fit_temperature(averaged(val.images), val.labels), rel=1e-4)
    probabilities = softmax(averaged(test.images) / report.temperature)
    ece = expected_calibration_error(probabilities, test.labels, load_params().evaluation.ece_bins)
    assert report.test.ece == pytest.approx(ece, abs=1e-5)
    assert report.test.accuracy == report.views["flip"].test
    single = model.predict(test.images, verbose=0).argmax(axis=1) == test.labels
    assert report.views["single"].test.value == pytest.approx(single.mean())
    session = ort.InferenceSession(bundle.model_path)
    found, mirrored = (
        session.run(["probabilities"], {"image": faces})[0]
        for faces in (test.images, np.ascontiguousarray(test.images[:, :, ::-1]))
    )
    np.testing.assert_allclose(found, probabilities, atol=1e-5)
    np.testing.assert_allclose(found, mirrored, atol=1e-6)
    assert bundle.explain_path.read_bytes() == explanation


@pytest.mark.parametrize(
    ("limits", "refused"), [("tolerance: 1.0, min_speedup: 0.0", None), ("min_speedup: 1000.0", "speed")]
)
def test_int8_is_in_the_bundle_or_the_reason_why_not(root, limits, refused):
    (root / "params.yaml").write_text(PARAMS.replace("enabled: false", f"calibration_images: 30, {limits}"))
    bundle = export_bundle(MODEL, load_params())
    tried = bundle.info.quantisation
    assert (tried.method, tried.refused) == ("static", refused)
    arrays = load_arrays(SHARDS, "val")
    answers = {
        name: probabilities(bundle.directory / name, arrays.images)
        for name in (MODEL_FILE, INT8_FILE)
        if name in bundle.info.files
    }
    assert (answers[MODEL_FILE].argmax(axis=1) == arrays.labels).mean() == tried.fp32_accuracy
    assert (INT8_FILE in answers) == bundle.info.has_int8 == (refused is None)
    if refused is None:
        assert (answers[INT8_FILE].argmax(axis=1) == arrays.labels).mean() == tried.int8_accuracy
        path, _ = bundle.golden("int8")
        golden = read_golden(path, bundle.info)
        np.testing.assert_array_equal(golden.images, golden_faces(SIZE, 1))
        np.testing.assert_array_equal(golden.probabilities, probabilities(bundle.graph_path("int8"), golden.images))
    again = export_bundle(MODEL, load_params()).info
    assert (again.files, again.digest()) == (bundle.info.files, bundle.info.digest())


def test_a_graph_that_cannot_be_quantised_is_exported_without(root, monkeypatch, capsys):
    (root / "params.yaml").write_text(PARAMS.replace("enabled: false", "enabled: true"))
    monkeypatch.setattr(quantisation, "_quantise_static", no_such_operator)
    assert export_bundle(MODEL, load_params()).info.quantisation is None
    assert "warning: no int8: ONNX Runtime cannot quantise model.onnx: no such operator" in capsys.readouterr().err


def no_such_operator(*_):
    raise RuntimeError("no such operator")


def probabilities(path, images):
    return ort.InferenceSession(path).run(["probabilities"], {"image": images})[0]


def test_repeating_changes_nothing():
    assert export_bundle(MODEL, load_params()).info == export_bundle(MODEL, load_params()).info


def test_command_prints_size_and_parity():
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}
    command = [sys.executable, "-m", "pipeline.export", MODEL]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    info = read_bundle(bundle_dir(MODEL)).info
    assert f"{info.metrics['parity']:.1e}" in result.stdout
    assert "MB" in result.stdout
    assert not {"warning", "tensorflow", "error"} & set(result.stderr.lower().split()), result.stderr


def test_altered_graph_leaves_no_bundle(root, monkeypatch):
    def flip(graph):
        bias = next(tensor for tensor in graph.graph.initializer if list(tensor.dims) == [len(LABELS)])
        values = np.float32([5, -5, 0])
        bias.raw_data = values.tobytes()

    alter(monkeypatch, flip)
    with pytest.raises(ExportError, match=r"model\.onnx: differs from Keras by up to .* for \d+ of 20 test images"):
        export_bundle(MODEL, load_params())
    assert not bundle_dir(MODEL).exists()
    assert not list((root / "bundles").iterdir())


def test_invalid_graph_leaves_no_bundle(monkeypatch):
    alter(monkeypatch, lambda graph: graph.graph.node.pop())
    with pytest.raises(ExportError, match="invalid graph"):
        export_bundle(MODEL, load_params())
    assert not bundle_dir(MODEL).exists()


def test_failed_export_keeps_the_bundle_that_stood_there(monkeypatch):
    before = export_bundle(MODEL, load_params()).info
    alter(monkeypatch, lambda graph: graph.graph.node.pop())
    with pytest.raises(ExportError):
        export_bundle(MODEL, load_params())
    assert read_bundle(bundle_dir(MODEL)).info == before


def test_failure_ends_the_command_with_one_line(monkeypatch, capsys):
    (model_dir(MODEL) / "run.json").write_text("{}")
    assert run_in_process("pipeline.export", monkeypatch) == 1
    captured = capsys.readouterr()
    assert "error: models/small/run.json: not a valid RunInfo" in captured.err
    assert not bundle_dir(MODEL).exists()


def test_more_parity_images_than_there_are_means_all_of_them(root):
    (root / "params.yaml").write_text(PARAMS.replace("parity_images: 20", f"parity_images: {10 * COUNTS['test']}"))
    assert export_bundle(MODEL, load_params()).info.metrics["parity"] < 1e-5


def test_model_that_was_never_evaluated_is_named():
    (report_dir(MODEL) / "metrics.json").unlink()
    with pytest.raises(ArtifactError, match=r"reports/small/metrics\.json: missing; `dvc repro`"):
        export_bundle(MODEL, load_params())


def test_tampered_bundle_is_refused():
    bundle = export_bundle(MODEL, load_params())
    data = bytearray(bundle.model_path.read_bytes())
    data[len(data) // 2] ^= 1
    bundle.model_path.write_bytes(data)
    with pytest.raises(BundleError, match=r"bundles/small/model\.onnx: SHA-256"):
        read_bundle(bundle_dir(MODEL))
