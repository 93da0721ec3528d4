"""Pretrained weights: fetched from a real HTTP server, checked, loaded as the file has them, and frozen."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from emotion_detection import pretrained
from emotion_detection.backend import keras
from emotion_detection.errors import ParamsError
from emotion_detection.models import InputSpec, backbone_layers, build_model
from emotion_detection.models import efficientnet_b4 as efficientnet
from emotion_detection.pretrained import Online, download

GREY, RGB = InputSpec(48, 1, 3), InputSpec(32, 3, 3)
MOBILENET = {"alpha": 0.1, "min_size": 32}
FILE = "weights/some.h5"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keras's cache, empty."""
    get_file = keras.utils.get_file
    monkeypatch.setattr(keras.utils, "get_file", functools.partial(get_file, cache_dir=str(tmp_path / "cache")))
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache/models"


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory that a server on this machine offers in place of Keras's address."""
    root = tmp_path / "served"
    (root / FILE).parent.mkdir(parents=True)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(root))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(pretrained, "ADDRESS", f"http://127.0.0.1:{server.server_port}/")
        yield root
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def backbone() -> keras.Model:
    """MobileNetV2 with weights that no initialiser gives."""
    model = keras.applications.MobileNetV2(input_shape=(32, 32, 3), alpha=0.1, include_top=False, weights=None)
    random = np.random.default_rng(0)
    model.set_weights([random.uniform(0.5, 1, values.shape) for values in model.get_weights()])
    return model


@pytest.fixture(scope="module", params=["keras 3", "whole model of keras 2", "weights of keras 2"])
def weights_file(
    request: pytest.FixtureRequest, backbone: keras.Model, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    directory = tmp_path_factory.mktemp("weights")
    if request.param == "keras 3":
        backbone.save_weights(directory / "a.weights.h5")
        return directory / "a.weights.h5"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras calls the format legacy
        backbone.save(directory / "whole.h5")
    if request.param == "weights of keras 2":
        with h5py.File(directory / "whole.h5") as whole, h5py.File(directory / "weights.h5", "w") as file:
            for name, group in whole["model_weights"].items():
                whole.copy(group, file, name)
            file.attrs.update(whole["model_weights"].attrs)
        return directory / "weights.h5"
    return directory / "whole.h5"


def arrays(layers: list[keras.Layer]) -> list[np.ndarray]:
    return [values for layer in layers for values in layer.get_weights()]


def assert_same(first: list[np.ndarray], second: list[np.ndarray]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_loaded_weights_are_those_of_the_file(weights_file: Path, backbone: keras.Model) -> None:
    model = build_model("mobilenet_v2", GREY, MOBILENET | {"weights": str(weights_file)})
    assert_same(arrays(backbone_layers(model)), backbone.get_weights())


def test_grey_faces_reach_the_backbone_as_keras_prepares_colour(weights_file: Path, backbone: keras.Model) -> None:
    model = build_model("mobilenet_v2", InputSpec(32, 1, 3), MOBILENET | {"weights": str(weights_file)})
    faces = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 1), dtype=np.uint8)
    colour = faces.repeat(3, axis=3).astype("float32")
    expected = backbone(keras.applications.mobilenet_v2.preprocess_input(colour), training=False)
    found = keras.Model(model.input, model.get_layer("head_pool").input)(faces, training=False)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_blue_comes_first_and_the_mean_is_taken_off_for_vgg16_and_resnet50(channels: int) -> None:
    image, rgb = pretrained.rgb_input(InputSpec(8, channels, 3))
    faces = np.random.default_rng(0).integers(0, 256, (2, 8, 8, channels), dtype=np.uint8)
    found = keras.Model(image, pretrained.centred_bgr(rgb))(faces)
    colour = np.broadcast_to(faces, (2, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(found, keras.applications.resnet50.preprocess_input(colour.copy()), atol=1e-4)
    np.testing.assert_allclose(found, keras.applications.vgg16.preprocess_input(colour.copy()), atol=1e-4)


@pytest.mark.usefixtures("cache")
def test_efficientnet_answers_as_keras_with_imagenet_does(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras puts one more layer in where it downloads the weights itself; ours must make up for it."""
    original = keras.applications.EfficientNetB0(input_shape=(32, 32, 3), include_top=False, weights=None)
    normalization = next(layer for layer in original.layers if isinstance(layer, keras.layers.Normalization))
    normalization.set_weights([np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225]), np.array(0)])
    path = served / "keras-applications/efficientnetb0_notop.h5"
    path.parent.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        original.save(path)
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setitem(efficientnet.MD5, "b0", md5)
    from keras.src.applications import efficientnet as theirs

    monkeypatch.setattr(theirs, "BASE_WEIGHTS_PATH", pretrained.ADDRESS + "keras-applications/")
    monkeypatch.setitem(theirs.WEIGHTS_HASHES, "b0", ("", md5))
    monkeypatch.setattr(theirs.file_utils, "get_file", keras.utils.get_file)
    expected = keras.applications.EfficientNetB0(input_shape=(32, 32, 3), include_top=False, weights="imagenet")
    model = build_model("efficientnet_b4", RGB, {"variant": "b0", "min_size": 32})
    faces = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    find = keras.Model(model.input, model.get_layer("stem_conv").output)
    theirs_find = keras.Model(expected.input, expected.get_layer("stem_conv").output)
    found, wanted = find(faces), theirs_find(faces.astype("float32"))
    assert float(keras.ops.std(wanted)) > 0.1
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def trained(model: keras.Model, spec: InputSpec) -> keras.Model:
    """After one step at a high learning rate."""
    faces = np.random.default_rng(0).integers(0, 256, (4, spec.image_size, spec.image_size, spec.channels), np.uint8)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)
    model.optimizer.learning_rate = 0.1
    model.train_on_batch(faces, np.arange(4) % spec.classes)
    return model


def changed(model: keras.Model, spec: InputSpec) -> set[str]:
    """Names of the layers that a step of training changes."""
    before = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
    trained(model, spec)
    after = {name: model.get_layer(name).get_weights() for name in before}
    return {name for name in before if not all(map(np.array_equal, before[name], after[name]))}


def test_no_weight_of_a_frozen_backbone_changes(backbone: keras.Model, tmp_path: Path) -> None:
    backbone.save_weights(tmp_path / "a.weights.h5")
    model = build_model("mobilenet_v2", GREY, MOBILENET | {"weights": str(tmp_path / "a.weights.h5")})
    assert changed(model, GREY) == {"logits"}


@pytest.mark.parametrize(("unfrozen", "expected"), [(4, {"Conv_1", "block_16_project"}), ("all", None)])
def test_unfrozen_layers_change_and_batch_norm_does_not(
    unfrozen: int | str, expected: set[str] | None, backbone: keras.Model, tmp_path: Path
) -> None:
    keras.utils.set_random_seed(0)
    fresh = keras.models.clone_model(backbone)  # through random weights a gradient gets everywhere
    fresh.save_weights(tmp_path / "a.weights.h5")
    hyperparameters = {"weights": str(tmp_path / "a.weights.h5"), "unfrozen": unfrozen, "dropout": 0.0}
    model = build_model("mobilenet_v2", GREY, MOBILENET | hyperparameters)
    layers = {layer.name for layer in backbone_layers(model) if not isinstance(layer, keras.layers.BatchNormalization)}
    assert changed(model, GREY) == (expected or layers) | {"logits"}


def test_without_weights_everything_learns() -> None:
    model = build_model("mobilenet_v2", GREY, MOBILENET | {"weights": "none"})
    assert all(layer.trainable for layer in model.layers)


@pytest.mark.parametrize("unfrozen", [0, 5])
def test_frozen_backbone_without_weights_is_refused(unfrozen: int) -> None:
    with pytest.raises(ParamsError, match=rf"unfrozen: found {unfrozen}, but mobilenet_v2 has `weights: none`"):
        build_model("mobilenet_v2", GREY, MOBILENET | {"weights": "none", "unfrozen": unfrozen})


def test_weights_of_another_width_name_the_layer_and_both_shapes(weights_file: Path) -> None:
    with pytest.raises(ParamsError, match=r"does not fit layer \w+: it has arrays of shapes \[.*expected \["):
        build_model("mobilenet_v2", GREY, {"alpha": 0.35, "min_size": 32, "weights": str(weights_file)})


def test_weights_of_another_architecture_are_refused(weights_file: Path) -> None:
    with pytest.raises(ParamsError, match=r"does not fit layer|layers with weights.*another architecture"):
        build_model("mini_xception", GREY, {"weights": str(weights_file)})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.h5", None, r"missing\.h5: no such file; allowed: imagenet, none, or the path"),
        ("weights.pt", b"x", r"ends in '\.pt'; allowed: \.h5 or \.hdf5"),
        ("broken.h5", b"no HDF5 at all", r"broken\.h5 cannot be read: .*; fetch it anew"),
        ("empty.h5", b"", r"empty\.h5 cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ParamsError, match=rf"models\.NAME\.weights: .*{message}"):
        build_model("mobilenet_v2", GREY, MOBILENET | {"weights": str(tmp_path / name)})


def test_imagenet_for_an_architecture_without_it() -> None:
    with pytest.raises(ParamsError, match="mini_xception has no ImageNet weights"):
        build_model("mini_xception", GREY, {"weights": "imagenet"})


def test_width_without_imagenet_weights_says_which_there_are() -> None:
    with pytest.raises(ParamsError, match=r"no ImageNet weights for alpha 0\.1; there are for \(0\.35, 0\.5"):
        build_model("mobilenet_v2", GREY, MOBILENET)


def test_download_once(served: Path, cache: Path) -> None:
    (served / FILE).write_bytes(b"content")
    path = download(Online(FILE, md5=hashlib.md5(b"content").hexdigest()))
    assert path == cache / "some.h5"
    (served / FILE).unlink()
    assert download(Online(FILE, md5=None)).read_bytes() == b"content"


@pytest.mark.usefixtures("cache")
def test_wrong_checksum_is_refused(served: Path) -> None:
    (served / FILE).write_bytes(b"something else")
    with pytest.raises(ParamsError, match=r"some\.h5 cannot be downloaded: .*md5"):
        download(Online(FILE, md5="0" * 32))


@pytest.mark.usefixtures("cache")
def test_file_without_published_checksum_must_stay_what_it_was(served: Path) -> None:
    (served / FILE).write_bytes(b"content")
    path = download(Online(FILE, md5=None))
    path.write_bytes(b"altered")
    with pytest.raises(ParamsError, match=r"is not what it was .*remove both"):
        download(Online(FILE, md5=None))


@pytest.mark.usefixtures("cache", "served")
def test_failed_download_names_the_url_and_the_param() -> None:
    url = f"{pretrained.ADDRESS}{FILE}"
    with pytest.raises(
        ParamsError, match=rf"some\.h5 cannot be downloaded: .*404.*; fetch {url} .*models\.NAME\.weights"
    ):
        download(Online(FILE, md5=None))


def real(name: str) -> Path:
    path = Path(os.environ.get("REAL_DATA_DIR", "")) / name
    if not path.is_file():
        pytest.skip(f"REAL_DATA_DIR has no {name}")
    return path


def test_real_mobilenet_weights() -> None:
    path = real("mobilenet_v2_0.35_224_no_top_imagenet.weights.h5")
    expected = keras.applications.MobileNetV2(input_shape=(96, 96, 3), alpha=0.35, include_top=False, weights=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns of groups that hold no weights
        expected.load_weights(path)
    model = build_model("mobilenet_v2", GREY, {"alpha": 0.35, "weights": str(path)})
    assert_same(arrays(backbone_layers(model)), expected.get_weights())
    assert changed(model, GREY) == {"logits"}


def test_public_mini_xception_weights() -> None:
    path = real("fer2013_mini_XCEPTION.102-0.66.hdf5")
    model = build_model("mini_xception", InputSpec(64, 1, 3), {"weights": str(path)})
    loaded = {layer.name: layer.get_weights() for layer in backbone_layers(model)}
    with h5py.File(path) as file:
        group = file["model_weights"]
        for theirs, ours in {
            "conv2d_1": "stem_conv1",
            "batch_normalization_2": "stem_conv2_norm",
            "separable_conv2d_1": "module1_conv1",
            "batch_normalization_5": "module1_conv2_norm",
            "conv2d_3": "module1_shortcut",
            "batch_normalization_3": "module1_shortcut_norm",
            "separable_conv2d_8": "module4_conv2",
            "batch_normalization_12": "module4_shortcut_norm",
            "batch_normalization_14": "module4_conv2_norm",
        }.items():
            layer = group[theirs]
            assert_same(loaded[ours], [layer[name][()] for name in layer.attrs["weight_names"]])
