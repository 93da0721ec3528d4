"""LeNet with batch norm: small, fast, the baseline.

After Y. LeCun et al., "Gradient-based learning applied to document recognition", Proc. IEEE 86 (1998), in today's
form: 3 x 3 ReLU convolutions, maximum pooling, batch norm (Ioffe & Szegedy 2015), dropout and L2.

    image        uint8 (S, S, C), scaled to [-1, 1]
    conv 6       3 x 3, ReLU - batch norm - pool 2 - dropout
    conv 16      3 x 3, ReLU - batch norm - pool 2 - dropout
    dense 100    ReLU - batch norm - dropout
    dense 10     ReLU - batch norm
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
    filters: tuple[Count, ...] = (6, 16),
    kernel_size: Count = 3,
    dense: tuple[Count, ...] = (100, 10),
    dropout: Rate = 0.0,
    l2: Annotated[float, Field(ge=0)] = 1e-4,
) -> keras.Model:
    """Build the network.

    Args:
        spec: image size, channels, classes.
        filters: feature maps of each convolution.
        kernel_size: side of the convolution kernels, pixels.
        dense: units of each hidden dense layer.
        dropout: share of values dropped after each pooling and the first dense layer.
        l2: factor of the squared weights in the loss.
    """
    penalty = keras.regularizers.L2(l2)
    image = keras.Input((spec.image_size, spec.image_size, spec.channels), dtype="uint8", name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    for maps in filters:
        x = layers.Conv2D(maps, kernel_size, activation="relu", kernel_regularizer=penalty)(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.MaxPooling2D(2)(x)
        x = layers.Dropout(dropout)(x)
    x = layers.Flatten()(x)
    for index, units in enumerate(dense):
        x = layers.Dense(units, activation="relu", kernel_regularizer=penalty)(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        if index == 0:
            x = layers.Dropout(dropout)(x)
    logits = layers.Dense(spec.classes, kernel_regularizer=penalty, name="logits")(x)
    return keras.Model(image, logits, name="lenet")
