"""A compact residual network with squeeze-and-excite, our own, made for faces of about 48 x 48: 2.8 million weights.

Basic blocks after K. He et al., "Deep residual learning for image recognition" (2015), each re-weighting its maps after
J. Hu et al., "Squeeze-and-excitation networks" (2017); shortcuts average before they project, after T. He et al., "Bag
of tricks for image classification with convolutional neural networks" (2018), ResNet-D. ReLU throughout: it quantises
to int8 without a table.

    image     uint8 (S, S, C), scaled to [-1, 1]
    stem      conv 3 x 3
    stage     `blocks` blocks of 64, 128 and 256 maps; each stage halves the side, so 48 -> 24 -> 12 -> 6
    block     x + squeeze-and-excite(conv 3 x 3 - batch norm - ReLU - conv 3 x 3 - batch norm), then ReLU
    head      global average pooling - dropout
    logits
"""

from __future__ import annotations

from typing import Annotated, Any

import keras
from keras import layers
from pydantic import Field

from emotion_detection.models import Count, InputSpec, Rate

Tensor = Any


def build(
    spec: InputSpec,
    *,
    stem: Count = 32,
    filters: Annotated[tuple[Count, ...], Field(min_length=1)] = (64, 128, 256),
    blocks: Annotated[tuple[Count, ...], Field(min_length=1)] = (2, 2, 2),
    reduction: Annotated[int, Field(ge=0)] = 8,
    dropout: Rate = 0.0,
    head_dropout: Rate = 0.4,
) -> keras.Model:
    """Build the network.

    Args:
        spec: image size, channels, classes.
        stem: feature maps of the first convolution.
        filters: feature maps of each stage.
        blocks: residual blocks of each stage, as many numbers as `filters` has.
        reduction: squeeze-and-excite has maps / reduction hidden units; 0: no squeeze-and-excite.
        dropout: share of whole maps dropped at the end of each stage but the last.
        head_dropout: share of pooled features dropped.
    """
    if len(blocks) != len(filters):
        raise ValueError(f"blocks and filters must have one number per stage, found {blocks} and {filters}")
    image = keras.Input((spec.image_size, spec.image_size, spec.channels), dtype="uint8", name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = layers.ReLU(name="stem_relu")(convolution(x, stem, 1, "stem"))
    for stage, (maps, count) in enumerate(zip(filters, blocks, strict=True), 1):
        if stage > 1:
            x = layers.SpatialDropout2D(dropout, name=f"stage{stage}_dropout")(x)
        for block in range(1, count + 1):
            x = residual_block(x, maps, 2 if block == 1 else 1, reduction, f"stage{stage}_block{block}")
    x = layers.GlobalAveragePooling2D(name="head_pool")(x)
    x = layers.Dropout(head_dropout, name="head_dropout")(x)
    return keras.Model(image, layers.Dense(spec.classes, name="logits")(x), name="se_resnet")


def residual_block(x: Tensor, maps: int, stride: int, reduction: int, name: str) -> Tensor:
    """Float (N, H, W, C) -> (N, H / stride, W / stride, maps), halves rounded up."""
    y = layers.ReLU(name=f"{name}_relu1")(convolution(x, maps, stride, f"{name}_conv1"))
    y = convolution(y, maps, 1, f"{name}_conv2")
    if reduction:
        y = excited(y, maps, max(1, maps // reduction), name)
    if stride > 1:
        x = layers.AveragePooling2D(stride, padding="same", name=f"{name}_shortcut_pool")(x)
    if x.shape[-1] != maps:
        x = layers.Conv2D(maps, 1, use_bias=False, kernel_initializer="he_normal", name=f"{name}_shortcut")(x)
        x = layers.BatchNormalization(momentum=0.9, name=f"{name}_shortcut_norm")(x)
    return layers.ReLU(name=f"{name}_relu2")(layers.Add(name=f"{name}_add")([x, y]))


def excited(x: Tensor, maps: int, hidden: int, name: str) -> Tensor:
    """Multiply each map by a number in (0, 1) that depends on the means of all maps."""
    gate = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)
    gate = layers.Conv2D(hidden, 1, activation="relu", name=f"{name}_excite1")(gate)
    gate = layers.Conv2D(maps, 1, activation="sigmoid", name=f"{name}_excite2")(gate)
    return layers.Multiply(name=f"{name}_excited")([x, gate])


def convolution(x: Tensor, maps: int, stride: int, name: str) -> Tensor:
    """Convolution 3 x 3 and batch norm."""
    options = {"padding": "same", "use_bias": False, "kernel_initializer": "he_normal"}
    x = layers.Conv2D(maps, 3, strides=stride, name=name, **options)(x)
    return layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
