"""explain.onnx agrees with Keras's own gradients for every architecture, or is not there."""

import logging

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from emotion_detection.backend import keras
from emotion_detection.bundle import Explanation
from emotion_detection.errors import ExportError
from emotion_detection.explain.graph import MAX_DIFFERENCE, channel_weights, check, convert, write_explanation
from emotion_detection.explain.methods import GradCam, explainer, gradient
from emotion_detection.models import InputSpec, architectures, build_model
from tests.test_export import SMALL, pixels, trained

layers, ops = keras.layers, keras.ops
CONVERTED = {  # one for each kind of head; those left out are large, and take half a minute
    "lenet": "grad_cam",
    "emotion_cnn": "grad_cam",
    "mini_xception": "grad_cam",
    "mobilenet_v2": "grad_cam",
    "vit": "attention_rollout",
}


@pytest.fixture(scope="module")
def lenet() -> keras.Model:
    return trained("lenet")


@pytest.fixture(scope="module")
def lenet_bytes(lenet) -> bytes:
    return convert(explainer(lenet), lenet, 18).SerializeToString(deterministic=True)


@pytest.mark.parametrize("architecture", [name for name in architectures() if name != "vit"])
def test_the_head_of_every_architecture_is_written_backwards_as_keras_derives_it(architecture):
    keras.utils.set_random_seed(0)
    model = build_model(architecture, InputSpec(48, 1, 3), SMALL[architecture])
    explain, targets = GradCam(model), np.array([0, 2])
    random = np.random.default_rng(0)
    features = ops.convert_to_tensor(random.uniform(0, 1, (2, *explain.chain[0].shape[1:])), "float32")
    expected = np.asarray(ops.mean(gradient(explain.head, features, targets), axis=(1, 2)))
    found = np.asarray(channel_weights(explain.chain, features, targets))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    assert np.abs(expected).max() > 0


@pytest.mark.parametrize("architecture", CONVERTED)
def test_graph_agrees_with_keras(architecture, tmp_path):
    model, images, path = trained(architecture), pixels(8), tmp_path / "explain.onnx"
    written = write_explanation(path, model, images, 18)
    assert written is not None
    assert written.method == CONVERTED[architecture]
    assert check(path, explainer(model), model, images) <= MAX_DIFFERENCE
    session = ort.InferenceSession(path)
    assert [(value.name, value.type) for value in session.get_inputs()] == [
        ("image", "tensor(uint8)"),
        ("target", "tensor(int64)"),
    ]
    (heat,) = session.run(["heatmap"], {"image": images, "target": np.arange(8) % 3})
    assert (heat.shape, heat.dtype) == ((8, 48, 48), np.float32)
    assert heat.min() >= 0
    tops = heat.max(axis=(1, 2))
    assert set(np.round(tops, 5)) <= {0, 1}
    assert (tops > 0).sum() >= 2  # or there would be nothing to compare


def test_equal_models_give_equal_bytes(lenet_bytes):
    keras.layers.Dense(1)  # shifts Keras's counter of names
    model = trained("lenet")
    assert convert(explainer(model), model, 18).SerializeToString(deterministic=True) == lenet_bytes


def test_weights_are_stored_once(lenet, lenet_bytes):
    graph = onnx.load_from_string(lenet_bytes).graph
    stored = sum(int(np.prod(tensor.dims)) for tensor in graph.initializer)
    assert stored < 1.1 * lenet.count_params() + 2 * 48 * 21


def head(*operations) -> keras.Model:
    image = keras.Input((48, 48, 1), dtype="uint8", name="image")
    x = layers.Conv2D(4, 5, strides=4)(layers.Rescaling(1 / 127.5, offset=-1)(image))
    for operation in operations:
        x = operation(x)
    keras.utils.set_random_seed(0)
    model = keras.Model(image, layers.Dense(3, name="logits")(x), name="small")
    random = np.random.default_rng(0)
    model.set_weights([values + random.uniform(0, 0.2, values.shape) for values in model.get_weights()])
    return model


HEADS = {
    "everything": lambda: head(
        layers.ReLU(),
        layers.BatchNormalization(),
        layers.MaxPooling2D(3, 2, padding="same"),
        layers.SpatialDropout2D(0.2),
        layers.AveragePooling2D(2),
        layers.Flatten(),
        layers.BatchNormalization(scale=False),
        layers.Dense(9, activation="relu"),
        layers.Dense(9),
        layers.ReLU(max_value=3),
        layers.Activation("relu"),
        layers.Dropout(0.1),
    ),
    "global maximum": lambda: head(layers.GlobalMaxPooling2D(), layers.Dense(9, use_bias=False)),
    "global mean": lambda: head(layers.Activation("swish"), layers.GlobalAveragePooling2D()),
}


@pytest.mark.parametrize("name", HEADS)
def test_heads_are_written_backwards_as_keras_derives_them(name, tmp_path):
    model, images, path = HEADS[name](), pixels(16), tmp_path / "explain.onnx"
    assert write_explanation(path, model, images, 18) is not None
    assert check(path, explainer(model), model, images) < MAX_DIFFERENCE
    assert (explainer(model)(images, np.arange(16) % 3).max(axis=(1, 2)) > 0).sum() > 3


UNKNOWN = {
    "activation gelu of layer wide": lambda: head(layers.Flatten(), layers.Dense(4, activation="gelu", name="wide")),
    "layer norm": lambda: head(layers.GlobalAveragePooling2D(), layers.LayerNormalization(name="norm")),
    "between feature map and head": lambda: head(layers.GlobalAveragePooling2D(keepdims=True), layers.Flatten()),
}


@pytest.mark.parametrize("reason", UNKNOWN)
def test_a_head_that_is_not_known_leaves_no_graph_and_says_so(reason, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "emotion_detection.explain.graph"):
        assert write_explanation(tmp_path / "explain.onnx", UNKNOWN[reason](), pixels(4), 18) is None
    assert not list(tmp_path.iterdir())
    assert "explained by occlusion" in caplog.text
    assert reason in caplog.text


def test_a_graph_that_answers_otherwise_is_refused(lenet, lenet_bytes, tmp_path):
    graph = onnx.load_from_string(lenet_bytes)
    weights = next(item for item in graph.graph.initializer if list(item.dims) == [10, 3])
    values = numpy_helper.to_array(weights)[:, ::-1]
    weights.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), weights.name))
    path = tmp_path / "explain.onnx"
    path.write_bytes(graph.SerializeToString())
    with pytest.raises(ExportError, match=r"explain\.onnx: differs from Keras by up to"):
        check(path, explainer(lenet), lenet, pixels(8))


def test_a_conversion_that_goes_wrong_leaves_no_graph(lenet, tmp_path, monkeypatch, caplog):
    from emotion_detection.explain import graph

    honest = graph.channel_weights
    monkeypatch.setattr(graph, "channel_weights", lambda *arguments: -honest(*arguments))
    assert write_explanation(tmp_path / "explain.onnx", lenet, pixels(8), 18) is None
    assert not list(tmp_path.iterdir())
    assert "differs from Keras" in caplog.text


def test_what_was_written_is_named(lenet, tmp_path):
    written = write_explanation(tmp_path / "explain.onnx", lenet, pixels(8), 18)
    assert written == Explanation(method="grad_cam", layer=explainer(lenet).layer)
