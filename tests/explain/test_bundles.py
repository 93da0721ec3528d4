"""Heat maps from a bundle alone, and what a bundle must hold for them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from emotion_detection.artifacts import model_dir
from emotion_detection.bundle import (
    BUNDLE_FILE,
    EXPLAIN_FILE,
    BundleInfo,
    ModelBundle,
    file_sha256,
    read_bundle,
    write_bundle_info,
)
from emotion_detection.errors import BundleError
from emotion_detection.explain.bundles import BundleExplainer, predictor
from emotion_detection.explain.heatmaps import occlusion
from emotion_detection.explain.methods import explainer
from emotion_detection.models import load_model
from tests.workspace import MODEL, SIZE


@pytest.fixture
def bundle(finished: Path) -> ModelBundle:
    return read_bundle(finished / "bundles" / MODEL)


def altered(bundle: ModelBundle, **changes: object) -> ModelBundle:
    write_bundle_info(bundle.directory, bundle.info.model_copy(update=changes))
    return read_bundle(bundle.directory)


def test_explain_onnx_gives_what_keras_gives(bundle, test_images):
    model = load_model("lenet", model_dir(MODEL) / "model.keras")
    explain, targets = BundleExplainer(bundle, predictor(bundle)), np.arange(len(test_images)) % 3
    assert explain.method == "grad_cam"
    heat = explain(test_images, targets)
    assert heat.shape == (len(test_images), SIZE, SIZE)
    np.testing.assert_allclose(heat, explainer(model)(test_images, targets), atol=1e-3)
    assert heat.any()


def test_without_explain_onnx_occlusion_takes_its_place(bundle, test_images):
    (bundle.directory / EXPLAIN_FILE).unlink()
    files = {name: checksum for name, checksum in bundle.info.files.items() if name != EXPLAIN_FILE}
    bare = altered(bundle, explanation=None, files=files)
    explain, targets = BundleExplainer(bare, predictor(bare)), np.arange(4) % 3
    assert explain.method == "occlusion"
    assert bare.explain_path is None
    expected = occlusion(predictor(bundle), test_images[:4], targets)
    np.testing.assert_array_equal(explain(test_images[:4], targets), expected)
    assert expected.any()


def test_bundles_from_before_explanations_are_read_and_keep_their_digest(bundle):
    path = bundle.directory / BUNDLE_FILE
    content = json.loads(path.read_text())
    del content["explanation"], content["files"][EXPLAIN_FILE]
    path.write_text(json.dumps(content))
    old = read_bundle(bundle.directory).info
    assert old.explanation is None
    assert "explanation" not in json.loads(old.model_dump_json(exclude={"explanation"}))
    import hashlib

    as_it_was = BundleInfo.model_validate(content).model_dump_json(exclude={"explanation", "quantisation"})
    assert old.digest() == hashlib.sha256(as_it_was.encode()).hexdigest() != bundle.info.digest()


def test_an_explanation_without_its_graph_is_refused(bundle):
    files = {name: checksum for name, checksum in bundle.info.files.items() if name != EXPLAIN_FILE}
    with pytest.raises(BundleError, match=r"has an explanation, but names no explain\.onnx"):
        altered(bundle, files=files)


def test_a_graph_with_other_bytes_is_refused(bundle):
    path = bundle.directory / EXPLAIN_FILE
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(BundleError, match=r"explain\.onnx: SHA-256"):
        read_bundle(bundle.directory)


@pytest.mark.parametrize("content", ["model.onnx", "noise"])
def test_a_graph_that_is_no_explanation_is_refused(bundle, content):
    path = bundle.directory / EXPLAIN_FILE
    if content == "noise":
        path.write_bytes(b"no graph")
    else:
        shutil.copy(bundle.model_path, path)
    other = altered(bundle, files=bundle.info.files | {EXPLAIN_FILE: file_sha256(path)})
    with pytest.raises(
        BundleError, match=r"explain\.onnx: (ONNX Runtime cannot load|cannot be run).*export the model again"
    ):
        BundleExplainer(other, predictor(other))


def test_graphs_that_have_changed_since_the_bundle_was_read_are_refused(bundle):
    for path in (bundle.explain_path, bundle.model_path):
        path.write_bytes(path.read_bytes() + b"\0")
    for load in (lambda: BundleExplainer(bundle, None), lambda: predictor(bundle)):
        with pytest.raises(BundleError, match=r"\.onnx: has changed since the bundle was read"):
            load()
