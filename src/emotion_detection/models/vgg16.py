"""VGG16 with a small head, trained from scratch unless told otherwise.

K. Simonyan & A. Zisserman, "Very deep convolutional networks for large-scale image recognition" (2014), as
keras.applications has it. Its own head has 124 million weights; ours pools and has one small dense layer.

    image       uint8 (S, S, C), as BGR minus ImageNet's mean, upsized to `min_size`
    backbone    VGG16
    head        global average pooling - dense 256, ReLU - dropout
    logits
"""

from __future__ import annotations

import keras
from keras import layers

from emotion_detection.models import Count, InputSpec, Rate, Unfrozen
from emotion_detection.pretrained import Online, centred_bgr, load_backbone, rgb_input, start_frozen, upsized
from emotion_detection.weights import NONE

ONLINE = Online(
    "tensorflow/keras-applications/vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
    md5="6d6bbae143d832006294945121d1f1fc",
)


def build(
    spec: InputSpec,
    *,
    weights: str = NONE,
    unfrozen: Unfrozen | None = None,
    min_size: Count = 32,
    dense: Count = 256,
    dropout: Rate = 0.5,
) -> keras.Model:
    """Build the network.

    Args:
        spec: image size, channels, classes.
        weights: of the backbone: imagenet, the path of an HDF5 file without head, or none.
        unfrozen: topmost layers of the backbone that go on learning, or all; by default none of a pretrained one.
        min_size: side to which smaller images are upsized, pixels; below 32 the five poolings leave nothing.
        dense: units of the head's hidden layer.
        dropout: share of them dropped.

    Raises:
        ParamsError: the weights cannot be had or do not fit, or a backbone without weights should be frozen.
    """
    image, x = rgb_input(spec)
    x = upsized(centred_bgr(x), min_size)
    backbone = keras.applications.VGG16(input_tensor=x, include_top=False, weights=None)
    load_backbone(backbone, weights, ONLINE)
    x = layers.GlobalAveragePooling2D(name="head_pool")(backbone.output)
    x = layers.Dense(dense, activation="relu", name="head_dense")(x)
    x = layers.Dropout(dropout, name="head_dropout")(x)
    model = keras.Model(image, layers.Dense(spec.classes, name="logits")(x), name="vgg16")
    start_frozen(model, weights, unfrozen, default=0)
    return model
