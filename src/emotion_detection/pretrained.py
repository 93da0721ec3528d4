"""Backbones with pretrained weights: what they see, where their weights come from, what of them goes on learning.

    image, x = rgb_input(spec, min_size)                                # what Keras's applications expect
    backbone = keras.applications.MobileNetV2(input_tensor=x, ...)
    load_backbone(backbone, weights, Online("folder/file.h5", md5))     # weights: imagenet, a path, or none
    start_frozen(model, weights, unfrozen, default=0)

`imagenet` is downloaded once, by Keras and into Keras's own cache (`KERAS_HOME`, else ~/.keras). What is checked: the
MD5 that Keras's applications publish, where they do (MobileNetV2 has none); the SHA-256 that the file had when it was
first used here, on every later use; and that the file holds exactly the arrays of this backbone. HDF5 is read as
arrays: nothing of a file is unpickled or run.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import keras
from keras import layers
from numpy.typing import NDArray

from emotion_detection.errors import ParamsError
from emotion_detection.models import InputSpec, Unfrozen, freeze
from emotion_detection.weights import IMAGENET, NONE

Tensor = Any
Array = NDArray[Any]
ADDRESS = "https://storage.googleapis.com/"
FORMATS = (".h5", ".hdf5")


@dataclass(frozen=True)
class Online:
    """A file of Keras's applications, without their classification head."""

    path: str
    """Below `ADDRESS`."""
    md5: str | None
    """As Keras publishes it."""


def rgb_input(spec: InputSpec) -> tuple[Tensor, Tensor]:
    """The model's input, and the same as RGB.

    Returns:
        uint8 (N, S, S, C) named "image", and uint8 (N, S, S, 3).
    """
    image = keras.Input((spec.image_size, spec.image_size, spec.channels), dtype="uint8", name="image")
    return image, image if spec.channels == 3 else layers.Concatenate(name="rgb")([image, image, image])


def upsized(x: Tensor, min_size: int) -> Tensor:
    """Float (N, S, S, 3), bilinearly upsized where S is below `min_size`; antialiasing does not survive the export."""
    if x.shape[1] >= min_size:
        return x
    return layers.Resizing(min_size, min_size, interpolation="bilinear", name="upsized")(x)


def centred_bgr(x: Tensor) -> Tensor:
    """RGB (N, S, S, 3) in 0 to 255 -> BGR minus ImageNet's mean, as VGG16 and ResNet50 of Keras were trained on."""
    bgr = keras.ops.take(x, [2, 1, 0], axis=-1)
    return layers.Rescaling(1.0, offset=[-103.939, -116.779, -123.68], name="centred")(bgr)


def start_frozen(model: keras.Model, weights: str, unfrozen: Unfrozen | None, default: Unfrozen) -> None:
    """Freeze what is pretrained, but for the topmost `unfrozen` layers; without pretrained weights, nothing.

    Raises:
        ParamsError: a frozen backbone is asked for, but has no weights.
    """
    if weights != NONE:
        freeze(model, default if unfrozen is None else unfrozen)
    elif unfrozen not in (None, "all"):
        raise ParamsError(
            f"models.NAME.unfrozen: found {unfrozen}, but {model.name} has `weights: none`, and a frozen backbone with "
            "random weights learns nothing; set models.NAME.weights, or leave `unfrozen` out"
        )


def load_backbone(backbone: keras.Model, weights: str, online: Online | None = None) -> None:
    """Fill a backbone with `weights`: "none", "imagenet" (then `online` says which file), or a path.

    Raises:
        ParamsError: the file cannot be had, is of another format, or does not fit.
    """
    if weights == NONE:
        return
    if weights == IMAGENET and online is None:
        raise ParamsError(f"models.NAME.weights: {backbone.name} has no ImageNet weights; give a path, or none")
    path = download(online) if weights == IMAGENET and online else local(weights)
    weighted = [layer for layer in backbone.layers if layer.weights]
    try:
        with h5py.File(path) as file:
            of_keras_2 = "layer_names" in file.attrs or "model_weights" in file
            stored = in_order(file) if of_keras_2 else by_class(file, backbone)
    except (OSError, KeyError) as error:
        raise ParamsError(f"models.NAME.weights: {path} cannot be read: {error}; fetch it anew") from None
    if len(stored) != len(weighted):
        raise ParamsError(
            f"models.NAME.weights: {path} has {len(stored)} layers with weights, {backbone.name} has {len(weighted)}; "
            "it belongs to another architecture"
        )
    for layer, arrays in zip(weighted, stored, strict=True):
        _fill(layer, arrays, path)


def in_order(file: h5py.File) -> list[list[Array]]:
    """Arrays of each layer with weights, of a file that Keras 2 wrote: the layers have an order."""
    group = file if "layer_names" in file.attrs else file["model_weights"]
    names = [(layer, group[layer].attrs["weight_names"]) for layer in group.attrs["layer_names"]]
    return [[group[layer][name][()] for name in weights] for layer, weights in names if len(weights)]


def by_class(file: h5py.File, model: keras.Model) -> list[list[Array]]:
    """Arrays of each layer with weights, of a file that Keras 3 wrote: layers are numbered within their class."""
    numbers: Counter[str] = Counter()
    found = []
    for layer in model.layers:
        kind = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(layer).__name__).lower()
        name = f"{kind}_{numbers[kind]}" if numbers[kind] else kind
        numbers[kind] += 1
        if layer.weights:
            stored = file.get(f"layers/{name}/vars", {})
            found.append([stored[key][()] for key in sorted(stored, key=int)])
    return found


def _fill(layer: keras.Layer, arrays: list[Array], path: Path) -> None:
    expected, found = [tuple(weight.shape) for weight in layer.weights], [array.shape for array in arrays]
    if expected != found:
        raise ParamsError(
            f"models.NAME.weights: {path} does not fit layer {layer.name}: it has arrays of shapes {found}, "
            f"expected {expected}; it belongs to another architecture, width or number of channels"
        )
    layer.set_weights(arrays)
    if isinstance(layer, layers.Normalization):
        layer.finalize_state()


def local(weights: str) -> Path:
    """The file at a path.

    Raises:
        ParamsError: there is none, or it is of another format.
    """
    path = Path(weights).expanduser()
    if not path.is_file():
        raise ParamsError(
            f"models.NAME.weights: {weights}: no such file; allowed: {IMAGENET}, {NONE}, or the path of an HDF5 file"
        )
    if path.suffix not in FORMATS:
        raise ParamsError(
            f"models.NAME.weights: {weights}: its name ends in {path.suffix!r}; allowed: "
            f"{' or '.join(FORMATS)} (of `model.save_weights` in Keras 2, or .weights.h5 in Keras 3)"
        )
    return path


def download(online: Online) -> Path:
    """Fetch a file into Keras's cache, unless it is there.

    Raises:
        ParamsError: it cannot be fetched, or is not the file that it should be.
    """
    url, name = ADDRESS + online.path, online.path.rpartition("/")[2]
    try:
        path = Path(keras.utils.get_file(name, url, cache_subdir="models", file_hash=online.md5, hash_algorithm="md5"))
    except Exception as error:  # Keras raises no class of its own
        raise ParamsError(
            f"models.NAME.weights: {name} cannot be downloaded: {error}; fetch {url} by other means, and set "
            f"models.NAME.weights to the path of the file (or to {NONE})"
        ) from None
    _compare_with_first_use(path, url)
    return path


def _compare_with_first_use(path: Path, url: str) -> None:
    noted = path.with_name(path.name + ".sha256")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not noted.exists():
        noted.write_text(found)
    elif noted.read_text().strip() != found:
        raise ParamsError(
            f"models.NAME.weights: {path} is not what it was when it was downloaded from {url} (SHA-256 {found}, noted "
            f"in {noted.name}); remove both, and they are fetched anew"
        )
