"""mini-Xception: depthwise-separable, residual, 58 thousand weights; the known baseline for FER2013.

O. Arriaga, M. Valdenegro-Toro & P. Ploeger, "Real-time convolutional neural networks for emotion and gender
classification" (2017). With seven classes and 64 x 64 grey faces it has the layers of the published weights
(fer2013_mini_XCEPTION.102-0.66.hdf5, 58,423 parameters), which `weights` takes; their last convolution is left out,
since the order of a file's classes is unknown.

    image     uint8 (S, S, C), scaled to [-1, 1], upsized to `min_size`
    stem      2 x (conv 3 x 3, 8 maps, without padding - batch norm - ReLU)
    module    every second pixel of x, projected by a 1 x 1 convolution
              + (separable conv - batch norm - ReLU - separable conv - batch norm - pool 3, stride 2)
              for 16, 32, 64 and 128 maps
    head      conv 3 x 3, one map per class
    logits    global average of each map
"""

from __future__ import annotations

from typing import Annotated, Any

import keras
from keras import layers
from pydantic import Field

from emotion_detection.models import Count, InputSpec, Unfrozen, backbone_layers
from emotion_detection.pretrained import load_backbone, start_frozen, upsized
from emotion_detection.weights import NONE

Tensor = Any
PUBLIC_CLASSES = 7


def build(
    spec: InputSpec,
    *,
    weights: str = NONE,
    unfrozen: Unfrozen | None = None,
    stem: Count = 8,
    filters: Annotated[tuple[Count, ...], Field(min_length=1)] = (16, 32, 64, 128),
    min_size: Count = 64,
    l2: Annotated[float, Field(ge=0)] = 0.01,
) -> keras.Model:
    """Build the network.

    Args:
        spec: image size, channels, classes.
        weights: none, or the path of the published weights (for grey images, `stem` and `filters` as they are).
        unfrozen: topmost layers below the head that go on learning; by default all.
        stem: feature maps of the first two convolutions.
        filters: feature maps of each module.
        min_size: side to which smaller images are upsized, pixels; the published weights saw 64.
        l2: factor of the squared weights of the first two convolutions in the loss.

    Raises:
        ParamsError: the weights cannot be had or do not fit, or a backbone without weights should be frozen.
    """
    model = network(spec, stem, filters, min_size, l2)
    if weights != NONE:
        public = network(InputSpec(spec.image_size, spec.channels, PUBLIC_CLASSES), stem, filters, min_size, l2)
        load_backbone(public, weights)
        for layer, source in zip(backbone_layers(model), backbone_layers(public), strict=True):
            layer.set_weights(source.get_weights())
    start_frozen(model, weights, unfrozen, default="all")
    return model


def network(spec: InputSpec, stem: int, filters: tuple[int, ...], min_size: int, l2: float) -> keras.Model:
    """The network with random weights; arguments as of `build`."""
    image = keras.Input((spec.image_size, spec.image_size, spec.channels), dtype="uint8", name="image")
    x = upsized(layers.Rescaling(1 / 127.5, offset=-1)(image), min_size)
    for name in ("stem_conv1", "stem_conv2"):
        penalty = keras.regularizers.L2(l2)
        x = layers.Conv2D(stem, 3, use_bias=False, kernel_regularizer=penalty, name=name)(x)
        x = layers.BatchNormalization(name=f"{name}_norm")(x)
        x = layers.ReLU(name=f"{name}_relu")(x)
    for number, maps in enumerate(filters, 1):
        x = module(x, maps, f"module{number}")
    x = layers.Conv2D(spec.classes, 3, padding="same", name="head_conv")(x)
    return keras.Model(image, layers.GlobalAveragePooling2D(name="logits")(x), name="mini_xception")


def module(x: Tensor, maps: int, name: str) -> Tensor:
    """Residual module: float (N, H, W, C) -> (N, H / 2, W / 2, maps), halves rounded up."""
    # A 1 x 1 convolution of stride 2 in two steps: as one, on less than 16 maps, its gradient writes past its memory
    # on a CPU, and the process dies in the first epoch (oneDNN issue 6035).
    every_second = layers.MaxPooling2D(1, strides=2, name=f"{name}_shortcut_stride")(x)
    shortcut = layers.Conv2D(maps, 1, use_bias=False, name=f"{name}_shortcut")(every_second)
    shortcut = layers.BatchNormalization(name=f"{name}_shortcut_norm")(shortcut)
    x = layers.SeparableConv2D(maps, 3, padding="same", use_bias=False, name=f"{name}_conv1")(x)
    x = layers.BatchNormalization(name=f"{name}_conv1_norm")(x)
    x = layers.ReLU(name=f"{name}_relu")(x)
    x = layers.SeparableConv2D(maps, 3, padding="same", use_bias=False, name=f"{name}_conv2")(x)
    x = layers.BatchNormalization(name=f"{name}_conv2_norm")(x)
    x = layers.MaxPooling2D(3, strides=2, padding="same", name=f"{name}_pool")(x)
    return layers.Add(name=f"{name}_add")([x, shortcut])
