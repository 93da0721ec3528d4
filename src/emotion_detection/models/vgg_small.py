"""A VGG-like network made for faces of about 48 x 48: 1.2 million weights.

After K. Simonyan & A. Zisserman, "Very deep convolutional networks for large-scale image recognition" (2014), with
batch norm (Ioffe & Szegedy 2015) and global average pooling (M. Lin et al., "Network in network", 2013) in place of the
wide dense layers.

    image     uint8 (S, S, C), scaled to [-1, 1]
    block     2 x (conv 3 x 3 - batch norm - ReLU), for 32, 64, 128 and 256 maps; between blocks pool 2 - dropout
    head      global average pooling - dropout
    logits
"""

from __future__ import annotations

from typing import Annotated

import keras
from keras import layers
from pydantic import Field

from emotion_detection.models import Count, InputSpec, Rate


def build(
    spec: InputSpec,
    *,
    filters: Annotated[tuple[Count, ...], Field(min_length=1)] = (32, 64, 128, 256),
    dropout: Rate = 0.2,
    head_dropout: Rate = 0.4,
) -> keras.Model:
    """Build the network.

    Args:
        spec: image size, channels, classes.
        filters: feature maps of each block.
        dropout: share of values dropped after each pooling.
        head_dropout: share of pooled features dropped.
    """
    image = keras.Input((spec.image_size, spec.image_size, spec.channels), dtype="uint8", name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    for block, maps in enumerate(filters, 1):
        if block > 1:
            x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
            x = layers.Dropout(dropout, name=f"block{block}_dropout")(x)
        for name in (f"block{block}_conv1", f"block{block}_conv2"):
            x = layers.Conv2D(maps, 3, padding="same", use_bias=False, kernel_initializer="he_normal", name=name)(x)
            x = layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
            x = layers.ReLU(name=f"{name}_relu")(x)
    x = layers.GlobalAveragePooling2D(name="head_pool")(x)
    x = layers.Dropout(head_dropout, name="head_dropout")(x)
    return keras.Model(image, layers.Dense(spec.classes, name="logits")(x), name="vgg_small")
