"""ResNet34, trained from scratch.

K. He et al., "Deep residual learning for image recognition" (2015): basic blocks 3-4-6-3, batch norm, projection
shortcuts where the shape changes (their option B).

    image     uint8 (S, S, C), scaled to [-1, 1]
    stem      `small`: conv 3 x 3; `imagenet`: conv 7 x 7, stride 2 - pool 3, stride 2
    stage     3, 4, 6 and 3 blocks of 64, 128, 256 and 512 maps; each stage but the first halves the side
    block     x + (conv 3 x 3 - batch norm - ReLU - conv 3 x 3 - batch norm), then ReLU
    head      global average pooling
    logits
"""

from __future__ import annotations

from typing import Any, Literal

import keras
from keras import layers

from emotion_detection.models import Count, InputSpec, Rate

Tensor = Any
BLOCKS = (3, 4, 6, 3)


def build(
    spec: InputSpec,
    *,
    filters: tuple[Count, Count, Count, Count] = (64, 128, 256, 512),
    stem: Literal["small", "imagenet"] = "small",
    dropout: Rate = 0.0,
) -> keras.Model:
    """Build the network.

    Args:
        spec: image size, channels, classes.
        filters: feature maps of each stage.
        stem: `imagenet` is that of the paper, for images of about 224 pixels; it divides the side by four.
        dropout: share of pooled features dropped.
    """
    image = keras.Input((spec.image_size, spec.image_size, spec.channels), dtype="uint8", name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    if stem == "small":
        x = convolution(x, filters[0], 3, 1, "stem")
    else:
        x = convolution(x, filters[0], 7, 2, "stem")
        x = layers.MaxPooling2D(3, strides=2, padding="same", name="stem_pool")(x)
    for stage, (maps, blocks) in enumerate(zip(filters, BLOCKS, strict=True), 1):
        for block in range(1, blocks + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            x = residual_block(x, maps, stride, f"stage{stage}_block{block}")
    x = layers.GlobalAveragePooling2D(name="head_pool")(x)
    x = layers.Dropout(dropout, name="head_dropout")(x)
    return keras.Model(image, layers.Dense(spec.classes, name="logits")(x), name="resnet34")


def residual_block(x: Tensor, maps: int, stride: int, name: str) -> Tensor:
    """Basic block: float (N, H, W, C) -> (N, H / stride, W / stride, maps)."""
    y = convolution(x, maps, 3, stride, f"{name}_conv1")
    y = convolution(y, maps, 3, 1, f"{name}_conv2", relu=False)
    if stride > 1:
        # A strided 1 x 1 convolution of less than 16 maps, trained on a CPU, writes past its memory: oneDNN issue 6035.
        x = layers.MaxPooling2D(1, strides=stride, padding="same", name=f"{name}_subsampled")(x)
    if x.shape[-1] != maps or stride > 1:
        x = convolution(x, maps, 1, 1, f"{name}_shortcut", relu=False)
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, y]))


def convolution(x: Tensor, maps: int, kernel: int, stride: int, name: str, *, relu: bool = True) -> Tensor:
    """Convolution and batch norm, and ReLU if wanted."""
    options = {"padding": "same", "use_bias": False, "kernel_initializer": "he_normal"}
    x = layers.Conv2D(maps, kernel, stride, name=name, **options)(x)
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x
