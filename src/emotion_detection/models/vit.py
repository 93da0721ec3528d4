"""Vision Transformer, from scratch or from a checkpoint in Hugging Face's format.

A. Dosovitskiy et al., "An image is worth 16x16 words" (2020). From scratch at a size for small faces; with `weights`
in the checkpoint's size, with its normalisation inside the graph.

    image            uint8 (S, S, C), resized and repeated if the checkpoint wants it, scaled to [-1, 1]
    patch encoder    P x P patches, each projected to D values        -> (S/P)^2 tokens
    class token, learned position embedding, dropout                  -> (S/P)^2 + 1 tokens
    encoder block    x + attention(norm(x)), x + MLP(norm(x))         depth times
    norm             of the class token
    logits
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from emotion_detection.huggingface import Design, open_checkpoint
from emotion_detection.huggingface_tensors import read_tensors, resized_positions
from emotion_detection.labels import output_order
from emotion_detection.models import Count, InputSpec, Rate, Unfrozen, freeze

Tensor = Any
Weights = NDArray[np.float32]
Sizes = Mapping[str, int | None]  # hyperparameters that a checkpoint decides; None: params.yaml says nothing
PACKAGE = "emotion_detection"


def build(
    spec: InputSpec,
    *,
    patch_size: Count | None = None,
    dim: Count | None = None,
    depth: Count | None = None,
    heads: Count | None = None,
    mlp_ratio: Count | None = None,
    dropout: Rate | None = None,
    weights: str = "none",
    revision: str = "main",
    input_size: Count | None = None,
    head: Literal["new", "checkpoint"] = "new",
    unfrozen: Unfrozen = "all",
) -> keras.Model:
    """Build the network, from scratch or from a checkpoint in Hugging Face's format.

    Args:
        spec: image size, channels, classes; with `head: checkpoint` also the labels.
        patch_size: side of a patch, pixels; must divide the input size. 6, or what the checkpoint has.
        dim: values per token; must be a multiple of `heads`. 96, or what the checkpoint has.
        depth: encoder blocks. 6, or what the checkpoint has.
        heads: attention heads per block. 4, or what the checkpoint has.
        mlp_ratio: width of the hidden layer of each MLP, in multiples of `dim`. 2, or what the checkpoint has.
        dropout: share of values dropped after the embedding, in attention and in the MLPs. 0.1, or what the
            checkpoint has.
        weights: `none`, an id of Hugging Face's hub such as google/vit-base-patch16-224-in21k, or a directory with
            config.json, model.safetensors and preprocessor_config.json.
        revision: branch, tag or commit on the hub; only a commit makes the training reproducible.
        input_size: side to which the graph resizes the images, pixels: the data set's, or what the checkpoint has.
            Position embeddings of a checkpoint are interpolated to any other size.
        head: `new`: a random one. `checkpoint`: its own, its outputs mapped by name to the data set's labels.
        unfrozen: topmost layers of a checkpoint that go on learning, or `all`; the norm at the end counts as one,
            each block as five.

    Raises:
        ParamsError: the checkpoint cannot be had, is damaged or no ViT, or its labels are not those of the data set.
        ValueError: `patch_size` does not divide the input size, `heads` does not divide `dim`, or a value is not the
            checkpoint's.
    """
    sizes = {"patch_size": patch_size, "dim": dim, "depth": depth, "heads": heads, "mlp_ratio": mlp_ratio}
    if weights == "none":
        if head != "new" or unfrozen != "all":
            raise ValueError("head and unfrozen need weights")
        return assemble(spec, scratch_design(spec, sizes, dropout, input_size))
    checkpoint = open_checkpoint(weights, revision)
    check_against(sizes, checkpoint.design)
    order = output_order(checkpoint.labels, spec.labels) if head == "checkpoint" else None
    tensors = read_tensors(checkpoint, classifier=order is not None)  # before anything of its size is built
    design = replace(
        checkpoint.design,
        image_size=input_size or checkpoint.design.image_size,
        dropout=checkpoint.design.dropout if dropout is None else dropout,
    )
    model = assemble(spec, design)
    fill(model, design, tensors, order)
    freeze(model, unfrozen)
    return model


def scratch_design(spec: InputSpec, sizes: Sizes, dropout: float | None, input_size: int | None) -> Design:
    """The design without a checkpoint."""
    dim = sizes["dim"] or 96
    return Design(
        image_size=input_size or spec.image_size,
        channels=spec.channels,
        patch_size=sizes["patch_size"] or 6,
        dim=dim,
        depth=sizes["depth"] or 6,
        heads=sizes["heads"] or 4,
        hidden=(sizes["mlp_ratio"] or 2) * dim,
        dropout=0.1 if dropout is None else dropout,
    )


def check_against(sizes: Sizes, design: Design) -> None:
    """Compare what params.yaml says with a checkpoint.

    Raises:
        ValueError: a value differs.
    """
    theirs = {**asdict(design), "mlp_ratio": design.hidden / design.dim}
    for name, ours in sizes.items():
        if ours not in {None, theirs[name]}:
            raise ValueError(f"{name} is {ours}, but {theirs[name]:g} in the checkpoint; leave it out")


def assemble(spec: InputSpec, design: Design) -> keras.Model:
    """The network with random weights.

    Raises:
        ValueError: the design does not add up, or does not take the data set's images.
    """
    if design.image_size % design.patch_size:
        raise ValueError(f"patch_size {design.patch_size} does not divide the image size {design.image_size}")
    if design.dim % design.heads:
        raise ValueError(f"heads {design.heads} does not divide dim {design.dim}")
    if design.activation not in ACTIVATIONS:
        raise ValueError(f"activation {design.activation} is not known here; there is {', '.join(ACTIVATIONS)}")
    image = keras.Input((spec.image_size, spec.image_size, spec.channels), dtype="uint8", name="image")
    x = layers.Rescaling(design.scale, offset=design.offset)(with_channels(image, design.channels))
    if spec.image_size != design.image_size:
        x = layers.Resizing(design.image_size, design.image_size, interpolation="bilinear")(x)
    x = layers.Conv2D(design.dim, design.patch_size, strides=design.patch_size, name="patches")(x)
    x = layers.Reshape((-1, design.dim))(x)
    x = TokenEmbedding(name="embedding")(x)
    x = layers.Dropout(design.dropout)(x)
    for block in range(design.depth):
        x = encoder_block(x, design, name=f"block{block}")
    x = layers.LayerNormalization(epsilon=design.epsilon, name="norm")(x[:, 0])
    return keras.Model(image, layers.Dense(spec.classes, name="logits")(x), name="vit")


def with_channels(image: Tensor, channels: int) -> Tensor:
    """Repeat grey images for a network that takes colour; a ValueError if that does not help."""
    if (image.shape[-1], channels) == (1, 3):
        return layers.Concatenate(name="rgb")([image] * 3)
    if image.shape[-1] != channels:
        raise ValueError(f"the checkpoint takes {channels} channels; data.channels is {image.shape[-1]}")
    return image


def encoder_block(x: Tensor, design: Design, name: str) -> Tensor:
    """Pre-norm encoder block (R. Xiong et al., "On layer normalization in the transformer architecture", 2020).

    Args:
        x: float (N, tokens, dim).
        design: heads, width, dropout, epsilon, activation.
        name: prefix of the layers' names.
    """
    dim, dropout, epsilon = design.dim, design.dropout, design.epsilon
    y = layers.LayerNormalization(epsilon=epsilon, name=f"{name}_norm1")(x)
    y = layers.MultiHeadAttention(design.heads, dim // design.heads, dropout=dropout, name=f"{name}_attention")(y, y)
    x = layers.Add(name=f"{name}_add1")([x, y])
    y = layers.LayerNormalization(epsilon=epsilon, name=f"{name}_norm2")(x)
    y = layers.Dense(design.hidden, activation=ACTIVATIONS[design.activation], name=f"{name}_mlp1")(y)
    y = layers.Dropout(dropout)(y)
    y = layers.Dense(dim, name=f"{name}_mlp2")(y)
    y = layers.Dropout(dropout)(y)
    return layers.Add(name=f"{name}_add2")([x, y])


def fill(model: keras.Model, design: Design, tensors: Mapping[str, Weights], order: Sequence[int] | None) -> None:
    """Put what `read_tensors` gave into the network; into its head in this order, if there is one."""
    positions = resized_positions(tensors["embeddings.position_embeddings"], design.image_size // design.patch_size)
    kernel, bias = _affine(tensors, "embeddings.patch_embeddings.projection")
    model.get_layer("patches").set_weights([kernel.transpose(2, 3, 1, 0), bias])
    model.get_layer("embedding").set_weights([tensors["embeddings.cls_token"], positions])
    for block in range(design.depth):
        _fill_block(model, f"block{block}", tensors, f"layers.{block}")
    model.get_layer("norm").set_weights(_affine(tensors, "layernorm"))
    if order is not None:
        kernel, bias = _affine(tensors, "classifier")
        model.get_layer("logits").set_weights([kernel[order].T, bias[order]])


def _fill_block(model: keras.Model, name: str, tensors: Mapping[str, Weights], source: str) -> None:
    for ours, theirs in {"norm1": "layernorm_before", "norm2": "layernorm_after"}.items():
        model.get_layer(f"{name}_{ours}").set_weights(_affine(tensors, f"{source}.{theirs}"))
    for ours, theirs in {"mlp1": "mlp.fc1", "mlp2": "mlp.fc2"}.items():
        kernel, bias = _affine(tensors, f"{source}.{theirs}")
        model.get_layer(f"{name}_{ours}").set_weights([kernel.T, bias])
    attention = model.get_layer(f"{name}_attention")
    parts = {"q": attention.query_dense, "k": attention.key_dense, "v": attention.value_dense}
    for part, layer in {**parts, "o": attention.output_dense}.items():
        kernel, bias = _affine(tensors, f"{source}.attention.{part}_proj")
        shapes = [weight.shape for weight in layer.weights]  # Keras has the heads on an axis of their own
        layer.set_weights([kernel.T.reshape(shapes[0]), bias.reshape(shapes[1])])


def _affine(tensors: Mapping[str, Weights], name: str) -> list[Weights]:
    """Weight and bias; a bias that the checkpoint was trained without is zero."""
    weight = tensors[f"{name}.weight"]
    return [weight, tensors.get(f"{name}.bias", np.zeros(len(weight), np.float32))]


@keras.saving.register_keras_serializable(package=PACKAGE)  # type: ignore[untyped-decorator]
def gelu(x: Tensor) -> Tensor:
    """Exact GELU (Hendrycks & Gimpel 2016), element-wise."""
    # keras.ops.gelu becomes an operator (Erfc) that the ONNX export does not know.
    return 0.5 * x * (1 + ops.erf(x / math.sqrt(2)))


@keras.saving.register_keras_serializable(package=PACKAGE)  # type: ignore[untyped-decorator]
def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by its approximation with tanh (Hendrycks & Gimpel 2016), element-wise."""
    return 0.5 * x * (1 + ops.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


ACTIVATIONS = {"gelu": gelu, "gelu_new": gelu_tanh, "gelu_pytorch_tanh": gelu_tanh, "relu": "relu", "silu": "silu"}
"""By the name they have in config.json."""


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
