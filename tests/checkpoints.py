"""Tiny Hugging Face checkpoints, from what transformers wrote into tests/golden/vit.npz."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

GOLDEN = Path(__file__).with_name("golden") / "vit.npz"
LABELS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
"""The data set's; the checkpoint has them in another order and under other names."""
Tensors = dict[str, NDArray[Any]]


def golden() -> dict[str, NDArray[Any]]:
    """All arrays that tests/golden/make_vit.py describes."""
    with np.load(GOLDEN, allow_pickle=False) as arrays:
        return dict(arrays)


def golden_tensors() -> Tensors:
    """What model.safetensors of a `ViTForImageClassification` holds, by name."""
    return {name.removeprefix("tensor/"): value for name, value in golden().items() if name.startswith("tensor/")}


def encoder_tensors(pooler: bool = True) -> Tensors:
    """The same weights as model.safetensors of a `ViTModel` holds them."""
    tensors = {name.removeprefix("vit."): value for name, value in golden_tensors().items() if "classifier" not in name}
    dim = len(tensors["layernorm.weight"])
    extra = {"pooler.dense.weight": np.eye(dim, dtype=np.float32), "pooler.dense.bias": np.zeros(dim, np.float32)}
    return tensors | (extra if pooler else {})


def write_checkpoint(
    directory: Path,
    tensors: Mapping[str, NDArray[Any]] | None = None,
    change: Callable[[dict[str, Any]], object] | None = None,
) -> Path:
    """Write config.json, preprocessor_config.json and model.safetensors.

    Args:
        tensors: those of the golden classifier, unless given.
        change: what to change in config.json.
    """
    from safetensors.numpy import save_file

    directory.mkdir(parents=True, exist_ok=True)
    arrays = golden()
    config = json.loads(str(arrays["config"]))
    if change:
        change(config)
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "preprocessor_config.json").write_text(str(arrays["processor"]))
    stored = golden_tensors() if tensors is None else tensors
    save_file({name: np.ascontiguousarray(value) for name, value in stored.items()}, directory / "model.safetensors")
    return directory
