"""Vision Transformer, trained from scratch.

A. Dosovitskiy et al., "An image is worth 16x16 words" (2020), at a size for small faces.

    image            uint8 (S, S, C), scaled to [-1, 1]
    patch encoder    P x P patches, each projected to D values        -> (S/P)^2 tokens
    class token, learned position embedding, dropout                  -> (S/P)^2 + 1 tokens
    encoder block    x + attention(norm(x)), x + MLP(norm(x))         depth times
    norm             of the class token
    logits
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import layers, ops

from emotion_detection.models import Count, InputSpec, Rate

Tensor = Any
PACKAGE = "emotion_detection"


def build(
    spec: InputSpec,
    *,
    patch_size: Count = 6,
    dim: Count = 96,
    depth: Count = 6,
    heads: Count = 4,
    mlp_ratio: Count = 2,
    dropout: Rate = 0.1,
) -> keras.Model:
    """Build the network.

    Args:
        spec: image size, channels, classes.
        patch_size: side of a patch, pixels; must divide the image size.
        dim: values per token; must be a multiple of `heads`.
        depth: encoder blocks.
        heads: attention heads per block.
        mlp_ratio: width of the hidden layer of each MLP, in multiples of `dim`.
        dropout: share of values dropped after the embedding, in attention and in the MLPs.

    Raises:
        ValueError: `patch_size` does not divide the image size, or `heads` does not divide `dim`.
    """
    if spec.image_size % patch_size:
        raise ValueError(f"patch_size {patch_size} does not divide the image size {spec.image_size}")
    if dim % heads:
        raise ValueError(f"heads {heads} does not divide dim {dim}")
    image = keras.Input((spec.image_size, spec.image_size, spec.channels), dtype="uint8", name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = layers.Conv2D(dim, patch_size, strides=patch_size, name="patches")(x)
    x = layers.Reshape((-1, dim))(x)
    x = TokenEmbedding(name="embedding")(x)
    x = layers.Dropout(dropout)(x)
    for block in range(depth):
        x = encoder_block(x, heads, mlp_ratio * dim, dropout, name=f"block{block}")
    x = layers.LayerNormalization(epsilon=1e-6, name="norm")(x[:, 0])
    return keras.Model(image, layers.Dense(spec.classes, name="logits")(x), name="vit")


def encoder_block(x: Tensor, heads: int, hidden: int, dropout: float, name: str) -> Tensor:
    """Pre-norm encoder block (R. Xiong et al., "On layer normalization in the transformer architecture", 2020).

    Args:
        x: float (N, tokens, dim).
        heads: attention heads.
        hidden: width of the hidden layer of the MLP.
        dropout: share of values dropped in attention and MLP.
        name: prefix of the layers' names.
    """
    dim = x.shape[-1]
    y = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm1")(x)
    y = layers.MultiHeadAttention(heads, dim // heads, dropout=dropout, name=f"{name}_attention")(y, y)
    x = layers.Add(name=f"{name}_add1")([x, y])
    y = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm2")(x)
    y = layers.Dense(hidden, activation=gelu, name=f"{name}_mlp1")(y)
    y = layers.Dropout(dropout)(y)
    y = layers.Dense(dim, name=f"{name}_mlp2")(y)
    y = layers.Dropout(dropout)(y)
    return layers.Add(name=f"{name}_add2")([x, y])


@keras.saving.register_keras_serializable(package=PACKAGE)  # type: ignore[untyped-decorator]
def gelu(x: Tensor) -> Tensor:
    """Exact GELU (Hendrycks & Gimpel 2016), element-wise."""
    # keras.ops.gelu becomes an operator (Erfc) that the ONNX export does not know.
    return 0.5 * x * (1 + ops.erf(x / math.sqrt(2)))


@keras.saving.register_keras_serializable(package=PACKAGE)
class TokenEmbedding(layers.Layer):  # type: ignore[misc]
    """Puts the class token before the patches and adds the position embedding.

    float (N, patches, dim) -> float (N, patches + 1, dim).
    """

    def build(self, input_shape: tuple[int | None, int, int]) -> None:
        _, patches, dim = input_shape
        initializer = keras.initializers.TruncatedNormal(stddev=0.02)
        self.token = self.add_weight(shape=(1, 1, dim), initializer=initializer, name="class_token")
        self.positions = self.add_weight(shape=(1, patches + 1, dim), initializer=initializer, name="positions")

    def call(self, patches: Tensor) -> Tensor:
        token = ops.broadcast_to(self.token, (ops.shape(patches)[0], 1, patches.shape[-1]))
        return ops.concatenate([token, patches], axis=1) + self.positions
