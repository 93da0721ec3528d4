"""Keras -> ONNX: every architecture answers alike, equal models give equal bytes, and a wrong graph is refused."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from emotion_detection.artifacts import DatasetInfo, Interval, Report, SplitMetrics
from emotion_detection.backend import keras
from emotion_detection.canonical import canonical
from emotion_detection.errors import ExportError
from emotion_detection.export import check, convert
from emotion_detection.models import InputSpec, architectures, build_model
from emotion_detection.stats import softmax

LABELS = ("angry", "happy", "sad")
SMALL = {
    "lenet": {"filters": (4, 4)},
    "emotion_cnn": {"filters": (4, 4, 4, 4), "dense": 8},
    "vit": {"patch_size": 12, "dim": 8, "depth": 1, "heads": 2},
    "mini_xception": {"stem": 4, "filters": (8, 8)},
    "mobilenet_v2": {"weights": "none", "alpha": 0.1, "min_size": 64},
    "resnet34": {"filters": (4, 4, 8, 8)},
    "resnet50": {"weights": "none", "min_size": 48},
    "efficientnet_b4": {"weights": "none", "variant": "b0", "dense": (8, 8)},
    "vgg16": {"dense": 8},
    "vgg_small": {"filters": (4, 8)},
    "se_resnet": {"stem": 4, "filters": (8, 16), "blocks": (1, 2)},
}


def dataset(size: int = 48, channels: int = 1) -> DatasetInfo:
    return DatasetInfo(
        labels=LABELS,
        image_size=size,
        channels=channels,
        counts={},
        class_weights={},
        reference_shares=dict.fromkeys(LABELS, 1 / 3),
        files={},
        data_hash="0" * 64,
    )


def report(temperature: float = 1.7) -> Report:
    exact = Interval(value=0.5, low=0.4, high=0.6)
    split = SplitMetrics(
        images=9,
        accuracy=exact,
        balanced_accuracy=0.5,
        macro_f1=exact,
        roc_auc=0.5,
        ece_before=0.2,
        ece=0.1,
        precision={},
        recall={},
    )
    return Report(model="small", temperature=temperature, val=split, test=split)


def trained(architecture: str = "lenet", size: int = 48, channels: int = 1) -> keras.Model:
    """Untrained, with statistics and biases that a wrong conversion would show, and uncorrelated logits of spread 2."""
    keras.utils.set_random_seed(0)
    model = build_model(architecture, InputSpec(size, channels, len(LABELS)), SMALL.get(architecture, {}))
    random = np.random.default_rng(0)
    images = pixels(20, size, channels)
    for weight in model.trainable_weights:
        if len(weight.shape) == 1:  # biases and scales
            weight.assign_add(random.uniform(0, 0.1, weight.shape))
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    model(images, training=True)  # without the statistics of these images a deep network lets no signal through
    # mini_xception averages after its last convolution, whose centre is then what a dense layer would be.
    head = model.get_layer("head_conv" if architecture == "mini_xception" else "logits")
    features = keras.Model(model.input, head.input).predict(images, verbose=0)
    features = features.reshape(len(images), -1, features.shape[-1]).mean(axis=1)
    mean = features.mean(axis=0)
    _, spread, directions = np.linalg.svd(features - mean, full_matrices=False)
    dense = directions[: len(LABELS)].T * (2 * np.sqrt(len(images)) / spread[: len(LABELS)])
    kernel = np.zeros(head.kernel.shape)
    kernel[(1, 1) if kernel.ndim == 4 else ...] = dense
    head.set_weights([kernel, -mean @ dense])
    return model


def pixels(count: int, size: int = 48, channels: int = 1) -> np.ndarray:
    """Blocks of random light: white noise alone would look alike to a network that averages it."""
    random = np.random.default_rng(1)
    blocks = random.integers(200, size=(count, 4, 4, channels), dtype=np.uint8)
    noise = random.integers(56, size=(count, size, size, channels), dtype=np.uint8)
    return blocks.repeat(size // 4, axis=1).repeat(size // 4, axis=2) + noise


def written(graph: onnx.ModelProto, directory: Path) -> Path:
    path = directory / "model.onnx"
    path.write_bytes(graph.SerializeToString(deterministic=True))
    return path


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return trained()


@pytest.fixture(scope="module")
def graph_bytes(model) -> bytes:
    return convert(model, dataset(), report(), 18).SerializeToString(deterministic=True)


@pytest.fixture
def graph(graph_bytes) -> onnx.ModelProto:
    return onnx.load_from_string(graph_bytes)


@pytest.fixture(scope="module")
def expected(model) -> np.ndarray:
    return softmax(model.predict(pixels(20), verbose=0) / 1.7)


LARGE = {"resnet50", "efficientnet_b4"}  # they take half a minute to convert


@pytest.mark.parametrize("architecture", [name for name in architectures() if name not in LARGE])
def test_every_architecture_answers_to_colours_as_keras_does(architecture, tmp_path):
    """All of them answer to greys in pipeline/test_zoo.py."""
    model, images = trained(architecture, channels=3), pixels(20, channels=3)
    path = written(convert(model, dataset(channels=3), report(), 18), tmp_path)
    expected = softmax(model.predict(images, verbose=0) / 1.7)
    assert np.ptp(expected, axis=0).min() > 0.3  # answers that depend on the image
    assert check(path, images, expected, 1e-4) <= 1e-4


def test_graph_says_what_it_takes_and_gives(graph, tmp_path):
    session = ort.InferenceSession(written(graph, tmp_path))
    (image,), (probabilities,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.type, image.shape) == ("image", "tensor(uint8)", ["N", 48, 48, 1])
    assert (probabilities.name, probabilities.type, probabilities.shape) == ("probabilities", "tensor(float)", ["N", 3])
    metadata = session.get_modelmeta().custom_metadata_map
    assert tuple(json.loads(metadata["labels"])) == LABELS
    assert float(metadata["temperature"]) == 1.7
    assert session.get_modelmeta().graph_name == "small"
    assert graph.opset_import[0].version == 18


@pytest.mark.parametrize("count", [1, 2, 8, 9])
def test_any_number_of_images_can_be_compared(graph, expected, tmp_path, count):
    check(written(graph, tmp_path), pixels(20)[:count], expected[:count], 1e-5)


def test_temperature_is_in_the_graph(model):
    sharp, soft = (
        ort.InferenceSession(convert(model, dataset(), report(t), 18).SerializeToString()).run(
            None, {"image": pixels(5)}
        )[0]
        for t in (0.5, 4.0)
    )
    np.testing.assert_allclose(sharp.sum(axis=1), 1, rtol=1e-5)
    assert (sharp.max(axis=1) > soft.max(axis=1)).all()


def convert_in_new_interpreter(seed: int) -> str:
    code = """
import hashlib
from tests.test_export import *
graph = convert(trained("vit"), dataset(), report(), 18)
print(hashlib.sha256(graph.SerializeToString(deterministic=True)).hexdigest())
"""
    import os

    root = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONHASHSEED": str(seed), "PYTHONPATH": f"{root}{os.pathsep}{root / 'src'}"}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout


def test_equal_models_give_equal_bytes(tmp_path):
    keras.layers.Dense(1)  # shifts Keras's counter of names
    here = written(convert(trained("vit"), dataset(), report(), 18), tmp_path).read_bytes()
    import hashlib

    assert convert_in_new_interpreter(seed=5).strip() == hashlib.sha256(here).hexdigest()


def test_altered_weight_is_refused(graph, expected, tmp_path):
    weights = next(item for item in graph.graph.initializer if item.dims == [100, 10] or len(item.dims) == 4)
    values = numpy_helper.to_array(weights).copy()
    values.flat[0] += 5
    weights.CopyFrom(numpy_helper.from_array(values, weights.name))
    with pytest.raises(ExportError, match=r"differs from Keras by up to .*max_difference 1e-05.* of 20 test images"):
        check(written(graph, tmp_path), pixels(20), expected, 1e-5)


def test_swapped_classes_are_refused_whatever_difference_is_allowed(graph, expected, tmp_path):
    with pytest.raises(ExportError, match=r"another top class for \d+ of 20"):
        check(written(graph, tmp_path), pixels(20), expected[:, ::-1], 1.0)


def test_answers_that_are_no_numbers_are_refused(graph, expected, tmp_path):
    for tensor in graph.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) > 1:
            values = np.full(tuple(tensor.dims), np.nan, np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    with pytest.raises(ExportError, match="differs from Keras by up to nan"):
        check(written(graph, tmp_path), pixels(20), expected, 1e-5)


def test_unknown_operator_is_refused(graph, expected, tmp_path):
    graph.graph.node[3].op_type = "Erfc"
    with pytest.raises(ExportError, match=r"invalid graph.*Erfc"):
        check(written(graph, tmp_path), pixels(20), expected, 1e-5)


def test_file_that_is_no_graph_is_refused(expected, tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(ExportError, match="invalid graph"):
        check(tmp_path / "model.onnx", pixels(20), expected, 1e-5)


@pytest.mark.parametrize("name", ["image", "probabilities"])
def test_other_names_of_input_or_output_are_refused(graph, expected, tmp_path, name):
    for node in graph.graph.node:
        node.input[:] = ["other" if value == name else value for value in node.input]
        node.output[:] = ["other" if value == name else value for value in node.output]
    for value in (*graph.graph.input, *graph.graph.output):
        value.name = "other" if value.name == name else value.name
    with pytest.raises(ExportError, match="ONNX Runtime cannot run it"):
        check(written(graph, tmp_path), pixels(20), expected, 1e-5)


def test_fixed_batch_is_refused(graph, expected, tmp_path):
    graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    with pytest.raises(ExportError, match="cannot run it on uint8"):
        check(written(graph, tmp_path), pixels(20), expected, 1e-5)


def test_other_number_of_classes_is_refused(graph, expected, tmp_path):
    with pytest.raises(ExportError, match=r"expected float32 \(20, 4\)"):
        check(written(graph, tmp_path), pixels(20), np.c_[expected, expected[:, 0]], 1e-5)


def test_operation_that_tf2onnx_does_not_know_is_refused(tmp_path):
    image = keras.Input((8, 8, 1), dtype="uint8", name="image")
    x = keras.ops.erfinv(keras.ops.cast(image, "float32") / 300)
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(x)))
    images = pixels(4, size=8)
    expected = softmax(model.predict(images, verbose=0) / 1.7)
    with pytest.raises(ExportError, match=r"export\.opset"):
        check(written(convert(model, dataset(8), report(), 18), tmp_path), images, expected, 1e-5)


def two_ways_of_writing(order: list[int], prefix: str) -> onnx.ModelProto:
    """y = relu(x + 1) * (x + 2), nodes in one of several orders, values under other names."""
    nodes = [
        helper.make_node("Add", ["x", f"{prefix}one"], [f"{prefix}a"]),
        helper.make_node("Add", ["x", f"{prefix}two"], [f"{prefix}b"]),
        helper.make_node("Relu", [f"{prefix}a"], [f"{prefix}c"]),
        helper.make_node("Mul", [f"{prefix}c", f"{prefix}b"], ["y"]),
    ]
    constants = [("one", 1.0), ("two", 2.0)][:: 1 if order[0] == 0 else -1]
    weights = [numpy_helper.from_array(np.float32([value]), prefix + name) for name, value in constants]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"])] for name in ("x", "y")]
    graph = helper.make_graph([nodes[index] for index in order], "g", *ends, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def test_canonical_form_forgets_order_and_names_but_not_the_computation():
    first, second = two_ways_of_writing([0, 1, 2, 3], "p"), two_ways_of_writing([1, 0, 2, 3], "q")
    assert first.SerializeToString() != second.SerializeToString()
    forms = [canonical(model).SerializeToString(deterministic=True) for model in (first, second)]
    assert forms[0] == forms[1]
    x = np.float32([-3, 0, 2])
    (y,) = ort.InferenceSession(forms[0]).run(["y"], {"x": x})
    np.testing.assert_allclose(y, np.maximum(x + 1, 0) * (x + 2))


def test_canonical_form_tells_different_weights_apart_and_is_stable():
    first, other = two_ways_of_writing([0, 1, 2, 3], "p"), two_ways_of_writing([0, 1, 2, 3], "p")
    other.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.float32([7]), "pone"))
    assert canonical(first) != canonical(other)
    assert canonical(canonical(first)) == canonical(first)


def test_graph_with_branches_is_left_alone():
    branch = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["z"])],
        "b",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N"])],
    )
    model = two_ways_of_writing([0, 1, 2, 3], "p")
    model.graph.node.append(helper.make_node("If", ["condition"], ["w"], then_branch=branch, else_branch=branch))
    assert canonical(model) == model
