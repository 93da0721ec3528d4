"""EfficientNetB4 with ImageNet weights, frozen under a head of two dense layers.

M. Tan & Q. Le, "EfficientNet: Rethinking model scaling for convolutional neural networks" (2019), as
keras.applications has it. Fine-tuning goes on from the trained head: `training.finetuning` in params.yaml.

    image       uint8 (S, S, C), as RGB, upsized to `min_size`; the backbone scales by itself
    backbone    EfficientNetB4, pretrained and frozen
    head        global average pooling - dense, ReLU - batch norm - dense, ReLU - dropout
    logits
"""

from __future__ import annotations

from typing import Literal

import keras
import numpy as np
from keras import layers

from emotion_detection.models import Count, InputSpec, Rate, Unfrozen
from emotion_detection.pretrained import Online, load_backbone, rgb_input, start_frozen, upsized
from emotion_detection.weights import IMAGENET, NONE

MD5 = {
    "b0": "50bc09e76180e00e4465e1a485ddc09d",
    "b1": "74c4e6b3e1f6a1eea24c589628592432",
    "b2": "111f8e2ac8aa800a7a99e3239f7bfb39",
    "b3": "af6d107764bb5b1abb91932881670226",
    "b4": "ebc24e6d6c33eaebbd558eafbeedf1ba",
}
IMAGENET_STD = (0.229, 0.224, 0.225)


def build(
    spec: InputSpec,
    *,
    weights: str = IMAGENET,
    unfrozen: Unfrozen | None = None,
    variant: Literal["b0", "b1", "b2", "b3", "b4"] = "b4",
    min_size: Count = 96,
    dense: tuple[Count, Count] = (256, 128),
    dropout: Rate = 0.3,
) -> keras.Model:
    """Build the network.

    Args:
        spec: image size, channels, classes.
        weights: of the backbone: imagenet, the path of an HDF5 file without head, or none.
        unfrozen: topmost layers of the backbone that go on learning, or all; by default none of a pretrained one.
        variant: size of the backbone; b4 is the one that the architecture is named for.
        min_size: side to which smaller images are upsized, pixels.
        dense: units of the head's hidden layers.
        dropout: share of the second one's dropped.

    Raises:
        ParamsError: the weights cannot be had or do not fit, or a backbone without weights should be frozen.
    """
    image, x = rgb_input(spec)
    x = upsized(layers.Rescaling(1.0, name="pixels")(x), min_size)
    application = getattr(keras.applications, f"EfficientNet{variant.upper()}")
    backbone = application(input_tensor=x, include_top=False, weights=None)
    load_backbone(backbone, weights, Online(f"keras-applications/efficientnet{variant}_notop.h5", MD5[variant]))
    if weights != NONE:
        divide_by_std(backbone)
    x = layers.GlobalAveragePooling2D(name="head_pool")(backbone.output)
    x = layers.Dense(dense[0], activation="relu", name="head_dense1")(x)
    x = layers.BatchNormalization(momentum=0.9, name="head_norm")(x)
    x = layers.Dense(dense[1], activation="relu", name="head_dense2")(x)
    x = layers.Dropout(dropout, name="head_dropout")(x)
    model = keras.Model(image, layers.Dense(spec.classes, name="logits")(x), name="efficientnet_b4")
    start_frozen(model, weights, unfrozen, default=0)
    return model


def divide_by_std(backbone: keras.Model) -> None:
    """Scale as the published weights were trained.

    Their `variance` holds the standard deviation, of which the layer takes the root. Keras makes up for it with one
    more layer, but only where it downloads the weights itself; the same factor is put into `variance` here.
    """
    layer = next(layer for layer in backbone.layers if isinstance(layer, layers.Normalization))
    mean, variance, count = layer.get_weights()
    layer.set_weights([mean, variance * np.array(IMAGENET_STD, np.float32), count])
    layer.finalize_state()
