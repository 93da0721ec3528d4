"""Weights of a Hugging Face ViT: their names, their sizes, and how they are read from model.safetensors.

tensors = read_tensors(open_checkpoint("directory"), classifier=True)
tensors["layers.0.attention.q_proj.weight"]
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emotion_detection.errors import ParamsError
from emotion_detection.huggingface import WEIGHTS, Checkpoint, Design, first_line
from emotion_detection.labels import listed

FLOATS = ("F16", "F32", "F64")
_RENAMED = {  # on disk -> in transformers 5, which reads both
    "encoder.layer.": "layers.",
    "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
_UNUSED = {"pooler.dense.weight", "pooler.dense.bias", "embeddings.mask_token"}  # no part of a classifier


def read_tensors(checkpoint: Checkpoint, classifier: bool) -> dict[str, NDArray[np.float32]]:
    """All weights of the encoder, float32, under the names they have in transformers 5, without the prefix `vit.`.

    Args:
        classifier: whether to read `classifier.weight` (classes, dim) and `classifier.bias` as well.

    Raises:
        ParamsError: the file is missing or damaged, or its tensors are not what config.json asks for.
    """
    path = _weights_file(checkpoint.directory)
    expected = expected_shapes(checkpoint.design, len(checkpoint.labels) if classifier else None)
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415

    try:
        with safe_open(path, framework="numpy") as file:
            stored = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  it is no mapping
            found = {name: tuple(part.get_shape()) for name, part in stored.items()}
            _check_tensors(path, found, expected, {part.get_dtype() for part in stored.values()})
            originals = {canonical_name(name): name for name in stored}
            return {name: file.get_tensor(originals[name]).astype(np.float32) for name in expected}
    except SafetensorError as error:
        raise ParamsError(f"{path}: damaged: {first_line(error)}; fetch it again") from error


def expected_shapes(design: Design, classes: int | None) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor that a ViT needs; with a classifier if `classes` is given."""
    dim, hidden, patch = design.dim, design.hidden, design.patch_size
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.cls_token": (1, 1, dim),
        "embeddings.position_embeddings": (1, (design.image_size // patch) ** 2 + 1, dim),
        "embeddings.patch_embeddings.projection.weight": (dim, design.channels, patch, patch),
        "embeddings.patch_embeddings.projection.bias": (dim,),
    }
    for block in range(design.depth):
        for part in ("layernorm_before", "layernorm_after"):
            shapes |= _affine(f"layers.{block}.{part}", dim)
        for part in ("q_proj", "k_proj", "v_proj"):
            shapes |= _affine(f"layers.{block}.attention.{part}", dim, dim, bias=design.qkv_bias)
        shapes |= _affine(f"layers.{block}.attention.o_proj", dim, dim)
        shapes |= _affine(f"layers.{block}.mlp.fc1", hidden, dim) | _affine(f"layers.{block}.mlp.fc2", dim, hidden)
    shapes |= _affine("layernorm", dim)
    return shapes | (_affine("classifier", classes, dim) if classes else {})


def canonical_name(name: str) -> str:
    """The name that a tensor has in a `ViTModel` of transformers 5."""
    name = name.removeprefix("vit.")
    for old, new in _RENAMED.items():
        name = name.replace(old, new)
    return name


def resized_positions(positions: NDArray[np.float32], patches: int) -> NDArray[np.float32]:
    """Position embeddings for `patches` x `patches` patches, interpolated by where the patches lie in the image.

    As A. Dosovitskiy et al. (2020) do for higher resolution (section 3.2); bicubic, as transformers and torch do.

    Args:
        positions: (1, n * n + 1, dim), the class token's first; that one stays.

    Returns:
        (1, patches * patches + 1, dim).
    """
    before = round((positions.shape[1] - 1) ** 0.5)
    grid = positions[0, 1:].reshape(before, before, -1)
    weights = _cubic_weights(before, patches)
    grid = np.einsum("ai,bj,ijd->abd", weights, weights, grid).reshape(patches * patches, -1)
    return np.concatenate([positions[:, :1], grid[None]], axis=1).astype(np.float32)


def _cubic_weights(before: int, after: int) -> NDArray[np.float64]:
    """(after, before): R. Keys, "Cubic convolution interpolation" (1981), with a = -0.75, edges repeated."""
    weights = np.zeros((after, before))
    for row in range(after):
        place = (row + 0.5) * before / after - 0.5
        for tap in range(int(np.floor(place)) - 1, int(np.floor(place)) + 3):
            x = abs(place - tap)
            near = 1.25 * x**3 - 2.25 * x**2 + 1
            far = -0.75 * (x**3 - 5 * x**2 + 8 * x - 4)
            weights[row, np.clip(tap, 0, before - 1)] += near if x <= 1 else far if x < 2 else 0.0
    return weights


def _weights_file(directory: Path) -> Path:
    path = directory / WEIGHTS
    if path.is_file():
        return path
    others = sorted(file.name for file in directory.iterdir() if file.suffix in {".bin", ".h5", ".msgpack", ".json"})
    raise ParamsError(
        f"{path}: missing (there is {listed(others)}). Pickled weights (pytorch_model.bin) can run code and are never "
        "loaded, and neither is a file in several parts. If they are trusted, convert them where torch is installed: "
        "transformers.ViTForImageClassification.from_pretrained(DIRECTORY).save_pretrained(NEW_DIRECTORY)"
    )


def _check_tensors(
    path: Path, stored: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], kinds: set[str]
) -> None:
    found = {canonical_name(name): shape for name, shape in stored.items()}
    optional = _UNUSED | {"classifier.weight", "classifier.bias"}
    problems = {
        "missing": [name for name in expected if name not in found],
        "not part of a ViT classifier": [name for name in found if name not in expected and name not in optional],
        "of another size than config.json says": [
            f"{name} {found[name]} instead of {shape}"
            for name, shape in expected.items()
            if found.get(name, shape) != shape
        ],
        "there twice": [name for name in found if list(map(canonical_name, stored)).count(name) > 1],
        "of a type other than " + ", ".join(FLOATS): sorted(kinds - set(FLOATS)),
    }
    if found_problems := [f"{what}: {listed(names)}" for what, names in problems.items() if names]:
        raise ParamsError(f"{path}: does not fit its config.json: {'; '.join(found_problems)}")


def _affine(name: str, *shape: int, bias: bool = True) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape} | ({f"{name}.bias": shape[:1]} if bias else {})
