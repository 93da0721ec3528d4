"""MobileNetV2 with ImageNet weights: the smallest of the pretrained networks.

M. Sandler et al., "MobileNetV2: Inverted residuals and linear bottlenecks" (2018), as keras.applications has it.

    image       uint8 (S, S, C), as RGB in [-1, 1], upsized to `min_size`
    backbone    MobileNetV2 of width `alpha`, pretrained and frozen
    head        global average pooling - dropout
    logits
"""

from __future__ import annotations

from typing import Annotated

import keras
from keras import layers
from pydantic import Field

from emotion_detection.models import Count, InputSpec, Rate, Unfrozen
from emotion_detection.pretrained import Online, load_backbone, rgb_input, start_frozen, upsized
from emotion_detection.weights import IMAGENET, NONE

ALPHAS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
SIZES = (96, 128, 160, 192, 224)


def build(
    spec: InputSpec,
    *,
    weights: str = IMAGENET,
    unfrozen: Unfrozen | None = None,
    alpha: Annotated[float, Field(gt=0)] = 1.0,
    min_size: Count = 96,
    dropout: Rate = 0.2,
) -> keras.Model:
    """Build the network.

    Args:
        spec: image size, channels, classes.
        weights: of the backbone: imagenet, the path of an HDF5 file without head, or none.
        unfrozen: topmost layers of the backbone that go on learning, or all; by default none of a pretrained one.
        alpha: width; for imagenet one of 0.35, 0.5, 0.75, 1.0, 1.3 and 1.4.
        min_size: side to which smaller images are upsized, pixels.
        dropout: share of pooled features dropped.

    Raises:
        ValueError: there are no ImageNet weights of this width.
        ParamsError: the weights cannot be had or do not fit, or a backbone without weights should be frozen.
    """
    image, x = rgb_input(spec)
    x = upsized(layers.Rescaling(1 / 127.5, offset=-1, name="scaled")(x), min_size)
    backbone = keras.applications.MobileNetV2(input_tensor=x, alpha=alpha, include_top=False, weights=None)
    load_backbone(backbone, weights, online(alpha, x.shape[1]) if weights == IMAGENET else None)
    if weights == NONE:
        forget_sooner(backbone)
    x = layers.GlobalAveragePooling2D(name="head_pool")(backbone.output)
    x = layers.Dropout(dropout, name="head_dropout")(x)
    model = keras.Model(image, layers.Dense(spec.classes, name="logits")(x), name="mobilenet_v2")
    start_frozen(model, weights, unfrozen, default=0)
    return model


def forget_sooner(backbone: keras.Model) -> None:
    """Let batch norm average over tens of batches. Keras's momentum, 0.999, is for ImageNet's hundreds of thousands:
    after some epochs on thousands of faces, inference would still see the statistics of the start."""
    for layer in backbone.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.9


def online(alpha: float, size: int) -> Online:
    """The ImageNet weights of a width, trained at this input size if there are such, else at 224."""
    if alpha not in ALPHAS:
        raise ValueError(f"there are no ImageNet weights for alpha {alpha}; there are for {ALPHAS}")
    trained = size if size in SIZES else SIZES[-1]
    name = f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{float(alpha)}_{trained}_no_top.h5"
    return Online(f"tensorflow/keras-applications/mobilenet_v2/{name}", md5=None)
