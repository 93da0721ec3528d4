"""Which layers of a Keras model say something about places, and where in the image their cells lie.

features, *rest = head_chain(model)       # KerasTensor (N, h, w, K), and those computed from it, down to the logits
rows, columns = placement(features)       # (S, h), (S, w): rows @ cells @ columns.T is the map in pixels

Models are flat functional graphs, channels last.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotion_detection.backend import keras

Tensor = Any
Places = NDArray[np.float64]
ATTENTION = "_attention"  # how the names of the attention layers of a ViT's blocks end

_PASSIVE = ("Pooling", "Dropout", "BatchNormalization", "ZeroPadding", "Cropping")
_SHRINKS = 0.75  # a block ends where the next layer's side is below this share


def producer(tensor: Tensor) -> tuple[Any, list[Tensor]]:
    """The layer or operation that computes a tensor, and its input tensors."""
    history = tensor._keras_history
    return history.operation, history.operation._inbound_nodes[history.node_index].input_tensors


def is_map(tensor: Tensor) -> bool:
    """Whether a tensor is (N, h, w, K) with more than one cell."""
    return len(tensor.shape) == 4 and min(tensor.shape[1:3]) > 1


def head_chain(model: keras.Model) -> list[Tensor]:
    """Tensors from the last feature map to the logits.

    The first is the output of the last layer with a map that is not merely pooled, normalised or dropped from another:
    what Selvaraju et al. (2017) call the last convolutional layer, with its activation. Everything after it is a chain.
    Empty where the head has no such start, as in a ViT, or where no convolution comes before it.
    """
    chain = [model.output]
    while not is_map(chain[0]) or _passive(chain[0]):
        _, inputs = producer(chain[0])
        if len(inputs) != 1:
            return []
        chain.insert(0, inputs[0])
    return chain if any(_convolves(operation) for operation, _, _ in spatial_path(chain[0])) else []


def attention_layers(model: keras.Model) -> list[Any]:
    """The self-attention layers of a ViT, first block first; empty for other models."""
    return [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.MultiHeadAttention) and layer.name.endswith(ATTENTION)
    ]


def patch_map(model: keras.Model) -> Tensor:
    """Output of the layer of a ViT that cuts the image into patches: the last that gives a map."""
    return [layer.output for layer in model.layers if is_map(layer.output)][-1]


def spatial_path(tensor: Tensor) -> Iterator[tuple[Any, Tensor, Tensor]]:
    """The way from a map back to the image: each operation with the map that it reads and the map that it gives.

    Where maps join, as at the end of a residual block, the way goes along the first of the largest.
    """
    while True:
        operation, inputs = producer(tensor)
        maps = [source for source in inputs if len(source.shape) == 4]
        if not maps:
            return
        source = max(maps, key=lambda candidate: candidate.shape[1])
        yield operation, source, tensor
        tensor = source


def block_maps(features: Tensor) -> list[Tensor]:
    """Last map of each block of convolutions, first block first; a block ends where the maps become smaller."""
    blocks, convolved = [], False
    for operation, source, result in reversed(list(spatial_path(features))):
        if convolved and result.shape[1] < _SHRINKS * source.shape[1]:
            blocks.append(_unpadded(source))
        convolved = convolved or _convolves(operation)
    return [*blocks, features]


def _unpadded(tensor: Tensor) -> Tensor:
    operation, inputs = producer(tensor)
    return _unpadded(inputs[0]) if type(operation).__name__.startswith(("ZeroPadding", "Dropout")) else tensor


def placement(tensor: Tensor) -> tuple[Places, Places]:
    """Where the cells of a map lie in the image: matrices that interpolate linearly between the cells' centres.

    The centre of a cell is that of its receptive field; unpadded convolutions, for one, leave the first centre away
    from the border (A. Araujo et al., "Computing receptive fields of convolutional neural networks", Distill 2019).

    Args:
        tensor: (N, h, w, K), of a model for S x S images.

    Returns:
        float64 (S, h) for rows and (S, w) for columns; each row sums to 1, or to less outside of all centres.
    """
    places, sizes = [np.arange(cells, dtype=float) for cells in tensor.shape[1:3]], tensor.shape[1:3]
    for operation, source, result in spatial_path(tensor):
        sizes = source.shape[1:3]
        places = [
            _before(operation, axis, centres, sizes[axis], result.shape[1 + axis])
            for axis, centres in enumerate(places)
        ]
    rows, columns = (_interpolation(centres, size) for centres, size in zip(places, sizes, strict=True))
    return rows, columns


def _before(operation: Any, axis: int, centres: Places, size: int, result: int) -> Places:
    """Centres in the input of an operation, for centres in its output; `size` and `result` are the sides of the two."""
    kind, scale, shift = type(operation).__name__, 1.0, 0.0
    window = getattr(operation, "kernel_size", None) or getattr(operation, "pool_size", None)
    if kind == "ZeroPadding2D":
        shift = -operation.padding[axis][0]
    elif kind == "Cropping2D":
        shift = operation.cropping[axis][0]
    elif window is None or "Transpose" in kind:
        scale = size / result
        shift = (scale - 1) / 2
    else:
        scale = operation.strides[axis]
        reach = (window[axis] - 1) * getattr(operation, "dilation_rate", (1, 1))[axis] + 1
        padding = max(0, (result - 1) * scale + reach - size) // 2 if operation.padding == "same" else 0
        shift = (reach - 1) / 2 - padding
    return centres * scale + shift


def _interpolation(centres: Places, size: int) -> Places:
    step = centres[1] - centres[0]
    knots = np.concatenate([[centres[0] - step], centres, [centres[-1] + step]])
    cells = np.eye(len(knots))[1:-1]  # beyond the outermost centres, a map falls to zero as it does between two
    return np.stack([np.interp(np.arange(size), knots, cell) for cell in cells], axis=1)


def _convolves(operation: Any) -> bool:
    return "Conv" in type(operation).__name__


def _passive(tensor: Tensor) -> bool:
    return any(word in type(producer(tensor)[0]).__name__ for word in _PASSIVE)
