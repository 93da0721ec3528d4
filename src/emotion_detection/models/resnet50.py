"""ResNet50 with ImageNet weights, of which only the top goes on learning.

K. He et al., "Deep residual learning for image recognition" (2015), as keras.applications has it.

    image       uint8 (S, S, C), as BGR minus ImageNet's mean, upsized to `min_size`
    backbone    ResNet50, pretrained; the topmost `unfrozen` layers learn
    head        global average pooling - dropout
    logits
"""

from __future__ import annotations

import keras
from keras import layers

from emotion_detection.models import Count, InputSpec, Rate, Unfrozen
from emotion_detection.pretrained import Online, centred_bgr, load_backbone, rgb_input, start_frozen, upsized
from emotion_detection.weights import IMAGENET

ONLINE = Online(
    "tensorflow/keras-applications/resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
    md5="4d473c1dd8becc155b73f8504c6f6626",
)
LAST_STAGE = 20
"""Layers with weights in the last of the four stages."""


def build(
    spec: InputSpec,
    *,
    weights: str = IMAGENET,
    unfrozen: Unfrozen | None = None,
    min_size: Count = 96,
    dropout: Rate = 0.2,
) -> keras.Model:
    """Build the network.

    Args:
        spec: image size, channels, classes.
        weights: of the backbone: imagenet, the path of an HDF5 file without head, or none.
        unfrozen: topmost layers of the backbone that go on learning, or all; by default the last stage (20 layers) of
            a pretrained one.
        min_size: side to which smaller images are upsized, pixels.
        dropout: share of pooled features dropped.

    Raises:
        ParamsError: the weights cannot be had or do not fit, or a backbone without weights should be frozen.
    """
    image, x = rgb_input(spec)
    x = upsized(centred_bgr(x), min_size)
    backbone = keras.applications.ResNet50(input_tensor=x, include_top=False, weights=None)
    load_backbone(backbone, weights, ONLINE)
    x = layers.GlobalAveragePooling2D(name="head_pool")(backbone.output)
    x = layers.Dropout(dropout, name="head_dropout")(x)
    model = keras.Model(image, layers.Dense(spec.classes, name="logits")(x), name="resnet50")
    start_frozen(model, weights, unfrozen, default=LAST_STAGE)
    return model
