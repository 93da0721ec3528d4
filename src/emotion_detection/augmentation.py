"""Random changes of training images: mirror, rotation, zoom, shift and contrast, in one step.

The geometric changes are multiplied into one affine map per image, so that pixels are interpolated once. All
randomness comes from the seed that is given: the same epoch looks the same however often it is repeated and on
however many threads, which a resumed training relies on.
"""

from __future__ import annotations

import math
from typing import Any

from emotion_detection.backend import tf
from emotion_detection.params import AugmentationParams

Tensor = Any


def augment(images: Tensor, seed: Tensor, params: AugmentationParams) -> Tensor:
    """Change each image of a batch at random.

    Args:
        images: uint8 (N, S, S, C).
        seed: int (2,); decides all random values.
        params: largest changes; what lies outside the image is filled by its mirror image.

    Returns:
        uint8 (N, S, S, C).
    """
    size = tf.shape(images)[1]
    draws = tf.unstack(tf.random.stateless_uniform((tf.shape(images)[0], 6), seed, -1, 1), axis=1)
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),
        transforms=affine_maps(draws[:5], tf.cast(size, tf.float32), params),
        output_shape=(size, size),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )
    factor = 1 + params.contrast * draws[5][:, None, None, None]
    mean = tf.reduce_mean(moved, axis=(1, 2, 3), keepdims=True)
    changed = tf.round(mean + factor * (moved - mean))
    return tf.ensure_shape(tf.saturate_cast(changed, tf.uint8), images.shape)


def affine_maps(draws: list[Tensor], size: Tensor, params: AugmentationParams) -> Tensor:
    """Map positions in the changed image to positions in the original.

    Args:
        draws: five float (N,) in [-1, 1]: mirror, rotation, zoom, shift to the right, shift down.
        size: side of the images, pixels.
        params: largest changes.

    Returns:
        float (N, 8): the first two rows of the matrix and a zero third, as ImageProjectiveTransformV3 wants them.
    """
    side = tf.where(draws[0] < 0, -1.0, 1.0) if params.flip else tf.ones_like(draws[0])
    angle = draws[1] * params.rotation * math.pi / 180
    scale = 1 + params.zoom * draws[2]
    right, down = params.shift * size * draws[3], params.shift * size * draws[4]
    a, b = side * scale * tf.cos(angle), -side * scale * tf.sin(angle)
    c, d = scale * tf.sin(angle), scale * tf.cos(angle)
    centre = (size - 1) / 2
    x, y = centre - (a + b) * centre + right, centre - (c + d) * centre + down
    zero = tf.zeros_like(a)
    return tf.stack([a, b, x, c, d, y, zero, zero], axis=1)
