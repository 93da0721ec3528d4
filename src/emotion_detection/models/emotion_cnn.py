"""EmotionCNN: the plain convolutional network that is widely used on 48 x 48 grey faces.

Small 3 x 3 kernels in a growing stack as in K. Simonyan & A. Zisserman, "Very deep convolutional networks for
large-scale image recognition" (2014), with one wide dense layer and dropout between the blocks.

    image        uint8 (S, S, C), scaled to [-1, 1]
    conv 32      conv 64 - pool 2 - dropout .25
    conv 128     pool 2
    conv 128     pool 2 - dropout .25
    dense 1024   dropout .5
    logits

All convolutions are 3 x 3 without padding. Batch norm (can be left out) stands before the ReLU of the dense layer and
of all convolutions but the first; there after the pooling, where it costs a quarter.
"""

from __future__ import annotations

import keras
from keras import layers

from emotion_detection.models import Count, InputSpec, Rate


def build(
    spec: InputSpec,
    *,
    filters: tuple[Count, Count, Count, Count] = (32, 64, 128, 128),
    dense: Count = 1024,
    dropout: Rate = 0.25,
    dense_dropout: Rate = 0.5,
    batch_norm: bool = True,
) -> keras.Model:
    """Build the network.

    Args:
        spec: image size, channels, classes.
        filters: feature maps of each convolution.
        dense: units of the hidden dense layer.
        dropout: share of values dropped after the first and the last pooling.
        dense_dropout: share of values dropped after the hidden dense layer.
        batch_norm: whether to use batch norm; with it the network learns several times faster.
    """

    def activated(x: keras.KerasTensor) -> keras.KerasTensor:
        return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x) if batch_norm else x)

    image = keras.Input((spec.image_size, spec.image_size, spec.channels), dtype="uint8", name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = layers.Conv2D(filters[0], 3, activation="relu")(x)
    for index, maps in enumerate(filters[1:]):
        x = layers.Conv2D(maps, 3, use_bias=not batch_norm)(x)
        x = activated(layers.MaxPooling2D(2)(x))
        if index != 1:
            x = layers.Dropout(dropout)(x)
    x = activated(layers.Dense(dense, use_bias=not batch_norm)(layers.Flatten()(x)))
    x = layers.Dropout(dense_dropout)(x)
    # Wide activations through a large initial head start at twice the loss of guessing, and cost epochs.
    head = keras.initializers.TruncatedNormal(stddev=0.01)
    logits = layers.Dense(spec.classes, kernel_initializer=head, name="logits")(x)
    return keras.Model(image, logits, name="emotion_cnn")
