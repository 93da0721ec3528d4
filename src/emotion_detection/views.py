"""What a model answers where it looks at a face in several ways, and the logits are averaged.

    single      the face as it is
    flip        the face and its mirror image
    ten_crop    corners and centre, 44 of 48 pixels a side scaled up again, each with its mirror image

Ten crops are those of A. Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks" (2012),
who average probabilities; averaged logits do not depend on the temperature, and are what `inference.flip_average` puts
into the served graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from emotion_detection.preprocess import fit

Images = NDArray[np.uint8]
Logits = NDArray[np.float32]
CROP = 44 / 48
"""Side of a crop, as a share of the image's."""


def view_logits(
    predict: Callable[[Images], Logits], images: Images, single: Logits, ten_crop: bool
) -> dict[str, Logits]:
    """Averaged logits (N, K) of each view, by one call of `predict`, with ten crops 11.

    Args:
        predict: logits (N, K) of images.
        images: uint8 (N, S, S, C).
        single: what it gives for the images.
    """
    views = {"single": single, "flip": np.asarray((single + predict(mirror(images))) / 2, np.float32)}
    if ten_crop:
        crops = np.mean([predict(crops) for crops in ten_crops(images)], axis=0)
        views["ten_crop"] = np.asarray(crops, np.float32)
    return views


def mirror(images: Images) -> Images:
    """Left and right exchanged."""
    return np.ascontiguousarray(images[:, :, ::-1])


def ten_crops(images: Images) -> Iterator[Images]:
    """Four corners and the centre, each scaled to (N, S, S, C) as `preprocess.fit` does it, then its mirror image."""
    size = images.shape[1]
    side = round(CROP * size)
    far, middle = size - side, (size - side) // 2
    for top, left in ((0, 0), (0, far), (far, 0), (far, far), (middle, middle)):
        crops = np.stack([fit(image, size) for image in images[:, top : top + side, left : left + side]])
        yield crops
        yield mirror(crops)
