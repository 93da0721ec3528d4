"""int8: made of real graphs with ONNX Runtime, judged, kept or refused; and what follows from it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from emotion_detection.bundle import INPUT_NAME, INT8_FILE, INT8_GOLDEN_FILE, MODEL_FILE, read_bundle
from emotion_detection.params import Int8Params
from emotion_detection.quantisation import Faces, Validation, add_int8, answers, described, open_session, write_int8
from emotion_detection.scoring import score
from tests import small_graphs
from tests.serving.tiny import SIZE as TINY
from tests.serving.tiny import write_bundle
from tests.small_graphs import IMAGES

LENIENT = Int8Params(calibration_images=32, tolerance=0.2)


@pytest.fixture(scope="module")
def convolutions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_graphs.convolutions(tmp_path_factory.mktemp("convolutions") / MODEL_FILE)


@pytest.fixture(scope="module")
def attention(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_graphs.attention(tmp_path_factory.mktemp("attention") / MODEL_FILE)


@pytest.fixture
def unfinished(convolutions: Path, tmp_path: Path) -> Path:
    """The directory of a bundle that is being made."""
    (tmp_path / MODEL_FILE).write_bytes(convolutions.read_bytes())
    return tmp_path


def validation(graph: Path) -> Validation:
    """Labels that the graph gets right, all of them."""
    truth = answers(open_session(graph), IMAGES).argmax(axis=1).astype(np.int32)
    assert len(set(truth)) > 2
    return Validation(IMAGES, truth, ece_bins=10)


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def test_a_good_graph_is_kept_with_golden_answers_of_its_own(unfinished: Path, convolutions: Path) -> None:
    found = add_int8(unfinished, IMAGES[:32], validation(convolutions), IMAGES[:14], LENIENT)
    assert (found.method, found.refused, found.fp32_accuracy) == ("static", None, 1.0)
    assert found.int8_accuracy > 0.9
    assert found.speedup > 1
    assert found.int8_bytes == (unfinished / INT8_FILE).stat().st_size < 0.45 * found.fp32_bytes
    with np.load(unfinished / INT8_GOLDEN_FILE) as golden:
        expected = answers(open_session(unfinished / INT8_FILE), IMAGES[:14])
        np.testing.assert_array_equal(golden["probabilities"], expected)
        assert np.abs(expected - answers(open_session(convolutions), IMAGES[:14])).max() > 1e-3
    assert "kept: " in described(found)


def test_ends_and_gates_stay_in_float_and_the_contract_stays(convolutions: Path, tmp_path: Path) -> None:
    write_int8(convolutions, tmp_path / INT8_FILE, IMAGES[:32], LENIENT)
    fp32, int8 = onnx.load(convolutions), onnx.load(tmp_path / INT8_FILE)
    for part in ("input", "output"):
        assert getattr(int8.graph, part) == getattr(fp32.graph, part)
    assert (int8.graph.name, int8.metadata_props) == (fp32.graph.name, fp32.metadata_props)
    made_by = {value: node.op_type for node in int8.graph.node for value in node.output}
    inputs = {node.op_type: [made_by.get(value) for value in node.input] for node in int8.graph.node}
    assert inputs["Softmax"] == ["Div"]
    assert inputs["Sigmoid"] == ["Conv"]
    convs = [[made_by.get(value) for value in node.input] for node in int8.graph.node if node.op_type == "Conv"]
    assert sorted(conv[:2] == ["DequantizeLinear"] * 2 for conv in convs) == [False, True, True, True]
    kinds = {tensor.data_type for tensor in int8.graph.initializer if len(tensor.dims) == 4 and tensor.dims[2] == 3}
    assert kinds == {TensorProto.INT8}


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
def test_equal_graphs_and_faces_give_equal_bytes(convolutions: Path, tmp_path: Path, method: str) -> None:
    params = LENIENT.model_copy(update={"method": method})
    write_int8(convolutions, tmp_path / "one", IMAGES[:32], params)
    write_int8(convolutions, tmp_path / "two", IMAGES[:32], params)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_another_process_gives_the_same_bytes(convolutions: Path, tmp_path: Path) -> None:
    write_int8(convolutions, tmp_path / "here", IMAGES[:32], LENIENT)
    np.save(tmp_path / "faces.npy", IMAGES[:32])
    code = (
        "import sys, numpy as np; from pathlib import Path; from emotion_detection.params import Int8Params; "
        "from emotion_detection.quantisation import write_int8; "
        "write_int8(Path(sys.argv[1]), Path(sys.argv[2]), np.load(sys.argv[3]), Int8Params())"
    )
    arguments = [str(convolutions), str(tmp_path / "there"), str(tmp_path / "faces.npy")]
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, check=True, capture_output=True, text=True
    )
    assert result.stdout == ""
    assert (tmp_path / "there").read_bytes() == (tmp_path / "here").read_bytes()


def test_a_graph_that_lost_too_much_is_refused(unfinished: Path, convolutions: Path) -> None:
    """Ranges come from faces that are all dark: whatever is bright is cut off."""
    params = Int8Params(min_speedup=1000.0)
    found = add_int8(unfinished, IMAGES[:32] // 32, validation(convolutions), IMAGES[:14], params)
    assert (found.refused, found.golden_tolerance) == ("accuracy", None)
    assert found.int8_accuracy < 0.9
    assert [file.name for file in unfinished.iterdir()] == [MODEL_FILE]
    assert "refused for its accuracy" in described(found)


def test_the_tolerance_is_the_largest_loss_that_is_let_pass(unfinished: Path, convolutions: Path) -> None:
    right = validation(convolutions)
    loss = 1 - add_int8(unfinished, IMAGES[:32], right, IMAGES[:14], LENIENT).int8_accuracy
    assert loss > 0
    for tolerance, refused in ((loss, None), (loss - 0.001, "accuracy")):
        params = LENIENT.model_copy(update={"tolerance": tolerance})
        assert add_int8(unfinished, IMAGES[:32], right, IMAGES[:14], params).refused == refused


def test_a_graph_that_is_not_fast_enough_is_refused(unfinished: Path, convolutions: Path) -> None:
    params = LENIENT.model_copy(update={"min_speedup": 1000.0})
    found = add_int8(unfinished, IMAGES[:32], validation(convolutions), IMAGES[:14], params)
    assert (found.refused, found.golden_tolerance) == ("speed", None)
    assert 0 < found.speedup < 1000
    assert [file.name for file in unfinished.iterdir()] == [MODEL_FILE]


def test_attention_is_quantised_as_it_goes(attention: Path, tmp_path: Path) -> None:
    assert write_int8(attention, tmp_path / INT8_FILE, IMAGES[:32], LENIENT) == "dynamic"
    assert operators(tmp_path / INT8_FILE)["MatMulInteger"] == 3
    assert operators(tmp_path / INT8_FILE)["MatMul"] == 2
    found, right = (answers(open_session(path), IMAGES) for path in (tmp_path / INT8_FILE, attention))
    assert (found.argmax(axis=1) == right.argmax(axis=1)).mean() > 0.9


def test_every_face_takes_part_in_calibration_once() -> None:
    faces = Faces(IMAGES)
    assert len(faces) > 1
    batches = []
    for number in range(len(faces)):
        faces.set_range(number, number + 1)
        while (batch := faces.get_next()) is not None:
            batches.append(batch[INPUT_NAME])
    np.testing.assert_array_equal(np.concatenate(batches), IMAGES)


def test_the_gate_judges_what_will_be_served(tmp_path: Path) -> None:
    tiny = write_bundle(tmp_path, int8=True)
    faces = np.random.default_rng(0).integers(0, 256, (50, TINY, TINY, 1), np.uint8)
    scores = score(read_bundle(tmp_path), faces)
    assert scores.precision == "int8"
    np.testing.assert_allclose(scores.probabilities, tiny.answers(faces, "int8"), atol=1e-2)
    assert np.abs(scores.probabilities - tiny.answers(faces)).max() > 5e-2
