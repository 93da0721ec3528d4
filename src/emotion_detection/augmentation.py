"""Random changes of training images, of single ones (`augment`) and of pairs with their labels (`mix`).

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
ERASED_AREA = (0.02, 0.2)
ERASED_ASPECT = 3.3
"""Longer over shorter side of an erased rectangle, at most."""
_LIGHT, _ERASE, _MIX = range(1, 4)
"""Each kind of change has its own random numbers, so that switching one on leaves the others as they are."""


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
    changed = mean + factor * (moved - mean)
    if params.brightness:
        changed += 255 * params.brightness * uniform(seed, _LIGHT, (tf.shape(images)[0], 1, 1, 1), -1)
    if params.erasing:
        changed = erase(changed, seed, params.erasing)
    return tf.ensure_shape(tf.saturate_cast(tf.round(changed), tf.uint8), images.shape)


def erase(images: Tensor, seed: Tensor, probability: float) -> Tensor:
    """Fill a random rectangle of some images with their mean (Z. Zhong et al., "Random erasing", 2017).

    Args:
        images: float (N, S, S, C).
        seed: int (2,).
        probability: of each image to lose a rectangle.
    """
    count, size = tf.shape(images)[0], tf.shape(images)[1]
    draws = uniform(seed, _ERASE, (5, count))
    area = ERASED_AREA[0] + (ERASED_AREA[1] - ERASED_AREA[0]) * draws[0]
    aspect = tf.exp(math.log(ERASED_ASPECT) * (2 * draws[1] - 1))
    hole = rectangle(tf.sqrt(area * aspect), tf.sqrt(area / aspect), draws[2], draws[3], size)
    hole = hole & (draws[4] < probability)[:, None, None, None]
    return tf.where(hole, tf.reduce_mean(images, axis=(1, 2, 3), keepdims=True), images)


def mix(
    images: Tensor, targets: Tensor, weights: Tensor, seed: Tensor, params: AugmentationParams
) -> tuple[Tensor, Tensor, Tensor]:
    """Mix each image of a batch with another one, and their labels and weights in the same proportion.

    Either pixel by pixel (H. Zhang et al., "mixup", 2017) or by a rectangle (S. Yun et al., "CutMix", 2019).

    Args:
        images: uint8 (N, S, S, C), in random order: the partner of each is the one as far from the batch's other end.
        targets: float32 (N, K).
        weights: float32 (N,).
        seed: int (2,).
        params: which of the two, and how strongly.

    Returns:
        The three, mixed; as they are where neither `mixup` nor `cutmix` is above zero.
    """
    if not params.mixup and not params.cutmix:
        return images, targets, weights
    count, size = tf.shape(images)[0], tf.shape(images)[1]
    draws = uniform(seed, _MIX, (3, count))
    rectangular = draws[2][0] < 0.5 if params.mixup and params.cutmix else tf.constant(params.cutmix > 0)
    share = beta(seed, tf.where(rectangular, params.cutmix or 1.0, params.mixup or 1.0), count)
    side = tf.sqrt(1 - share)
    hole = tf.cast(rectangle(side, side, draws[0], draws[1], size), tf.float32)
    kept = tf.where(rectangular, 1 - hole, share[:, None, None, None])
    share = tf.reduce_mean(kept, axis=(1, 2, 3))  # of whole pixels

    def blended(values: Tensor, kept: Tensor) -> Tensor:
        values = tf.cast(values, tf.float32)
        return kept * values + (1 - kept) * values[::-1]

    pixels = tf.ensure_shape(tf.saturate_cast(tf.round(blended(images, kept)), tf.uint8), images.shape)
    return pixels, blended(targets, share[:, None]), blended(weights, share)


def rectangle(height: Tensor, width: Tensor, down: Tensor, right: Tensor, size: Tensor) -> Tensor:
    """A rectangle in each image, wholly inside.

    Args:
        height, width: float (N,), shares of the side; what is above 1 counts as 1.
        down, right: float (N,) in [0, 1], where it lies: 0 at the upper left, 1 at the lower right end.
        size: side of the images, pixels.

    Returns:
        bool (N, size, size, 1).
    """

    def covered(length: Tensor, place: Tensor) -> Tensor:
        length = tf.round(tf.minimum(length, 1.0) * tf.cast(size, tf.float32))
        start = tf.round(place * (tf.cast(size, tf.float32) - length))
        pixel = tf.range(size, dtype=tf.float32)
        return (pixel >= start[:, None]) & (pixel < (start + length)[:, None])

    return (covered(height, down)[:, :, None] & covered(width, right)[:, None, :])[..., None]


def beta(seed: Tensor, alpha: Tensor, count: Tensor) -> Tensor:
    """Random float32 (count,) with the distribution Beta(alpha, alpha)."""
    first, second = (
        tf.random.stateless_gamma((count,), tf.random.fold_in(seed, 10 * _MIX + number), alpha) for number in (1, 2)
    )
    return first / (first + second)


def uniform(seed: Tensor, kind: int, shape: Any, low: float = 0.0) -> Tensor:
    """Random float32 in [low, 1)."""
    return tf.random.stateless_uniform(shape, tf.random.fold_in(seed, kind), low, 1)


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
