"""Golden faces: pictures that travel with a bundle, and what the Keras model answers to them.

    write_golden(directory / GOLDEN_FILE, faces, probabilities)      # export
    check_golden(bundle, engine.predict)                             # the server, before a model answers anybody

They show on the machine that serves whether graph, runtime and processor still give the answers of the training. A
graph in int8 has a file of its own, with the answers that it gave itself where it was made, and its own tolerance. The
faces are drawn: pictures of people have no business in a file that is copied to every server.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotion_detection.bundle import BundleInfo, ModelBundle, Precision
from emotion_detection.errors import BundleError, GoldenMismatch

TOLERANCE = 1e-3
"""Largest difference of any probability between two machines; instruction sets round differently."""
INT8_TOLERANCE = 1e-2
"""The same for int8. Its sums are exact everywhere, but a machine may round an activation to the neighbouring step:
between x86 and WebAssembly that moved one of a hundred faces by 2.6e-3, and the others by 1e-7."""


@dataclass(frozen=True)
class GoldenFaces:
    """Inputs and the right outputs."""

    images: NDArray[np.uint8]
    """(N, S, S, C)"""
    probabilities: NDArray[np.float32]
    """(N, K), in the order of the bundle's labels."""


def write_golden(path: Path, images: NDArray[np.uint8], probabilities: NDArray[Any]) -> None:
    """Write the file; equal arrays give equal bytes.

    Args:
        images: uint8 (N, S, S, C).
        probabilities: (N, K) of the Keras model, calibrated.
    """
    with path.open("wb") as file:  # a path would be given another suffix
        np.savez(file, images=images, probabilities=probabilities.astype(np.float32))


def read_golden(path: Path, info: BundleInfo) -> GoldenFaces:
    """Read the file; nothing in it is executed.

    Raises:
        BundleError: it cannot be read, or does not fit the bundle's input and labels.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            golden = GoldenFaces(arrays["images"], arrays["probabilities"])
    except Exception as error:  # a broken archive ends in almost anything
        raise BundleError(f"{path}: cannot be read: {error}; export the model again") from None
    count = golden.images.shape[0] if golden.images.ndim else 0
    found = [(array.shape, array.dtype.name) for array in (golden.images, golden.probabilities)]
    faces = (count, info.image_size, info.image_size, info.channels)
    if count == 0 or found != [(faces, "uint8"), ((count, len(info.labels)), "float32")]:
        raise BundleError(f"{path}: holds {found}, which do not fit bundle.json; export the model again")
    return golden


def check_golden(
    bundle: ModelBundle, predict: Callable[[NDArray[np.uint8]], NDArray[np.float32]], precision: Precision = "fp32"
) -> float | None:
    """Compare answers with those of the training, all faces at once.

    Args:
        predict: uint8 (N, S, S, C) -> float32 (N, K), with the graph of `precision`.

    Returns:
        Largest difference of any probability; none where the bundle is from before there were golden faces.

    Raises:
        BundleError: the file cannot be read.
        GoldenMismatch: a difference is above the bundle's tolerance. Within it, the most probable class can only
            differ where the first two are closer than twice the tolerance.
    """
    known = bundle.golden(precision)
    if known is None:
        return None
    path, tolerance = known
    golden, graph = read_golden(path, bundle.info), bundle.graph_path(precision)
    difference = float(np.abs(predict(golden.images) - golden.probabilities).max())
    if not difference <= tolerance:  # a NaN is not below anything
        raise GoldenMismatch(
            f"{graph}: its answers to the golden faces differ by up to {difference:.2g} from those at training, "
            f"allowed is {tolerance:g}; this machine computes otherwise, or the export was wrong"
        )
    return difference
