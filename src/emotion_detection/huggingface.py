"""ViT checkpoints in Hugging Face's format: where they are, and what they say of themselves; no torch, no pickle.

    checkpoint = open_checkpoint("google/vit-base-patch16-224-in21k", revision="a commit of it")  # or a directory
    checkpoint.design, checkpoint.labels

A checkpoint is config.json, model.safetensors and, unless the defaults of ViTImageProcessor hold,
preprocessor_config.json, of a `ViTModel` or a `ViTForImageClassification`. Code that comes with it is never run.
`huggingface_tensors` reads the weights.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emotion_detection.errors import ParamsError

os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # that torch is missing is as it should be

CONFIG, PROCESSOR, WEIGHTS = "config.json", "preprocessor_config.json", "model.safetensors"
LARGEST_JSON = 16 << 20  # bytes; 21,843 labels take 1.5 MB
DEEPEST = 1000  # layers; ViT-22B has 48


@dataclass(frozen=True)
class Design:
    """What decides the graph of a ViT."""

    image_size: int
    """Side of the images that the encoder sees, pixels."""
    channels: int
    patch_size: int
    dim: int
    depth: int
    heads: int
    hidden: int
    """Width of the hidden layer of each MLP."""
    dropout: float = 0.1
    epsilon: float = 1e-6
    """Of the layer norms."""
    activation: str = "gelu"
    qkv_bias: bool = True
    scale: float | list[float] = 1 / 127.5
    """Pixel values are multiplied by this, for all channels or for each; then `offset` is added."""
    offset: float | list[float] = -1


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on this machine."""

    directory: Path
    design: Design
    labels: tuple[str, ...]
    """Of its classifier's outputs; made-up names where it has no classifier."""


def open_checkpoint(weights: str, revision: str = "main") -> Checkpoint:
    """Download a checkpoint if need be, and read everything but its weights.

    Args:
        weights: id on Hugging Face's hub, or a local directory.
        revision: branch, tag or commit on the hub; only a commit stays what it is.

    Raises:
        ParamsError: the hub cannot be reached or has no such checkpoint, a file is missing or damaged, or it is no ViT.
    """
    directory = checkpoint_directory(weights, revision)
    config = _config(directory)
    scale, offset = _normalisation(directory, config.num_channels)
    design = Design(
        image_size=_side(config.image_size, "image_size", directory),
        channels=config.num_channels,
        patch_size=_side(config.patch_size, "patch_size", directory),
        dim=config.hidden_size,
        depth=config.num_hidden_layers,
        heads=config.num_attention_heads,
        hidden=config.intermediate_size,
        dropout=float(config.hidden_dropout_prob),
        epsilon=config.layer_norm_eps,
        activation=config.hidden_act,
        qkv_bias=config.qkv_bias,
        scale=scale,
        offset=offset,
    )
    return Checkpoint(directory, design, tuple(config.id2label[index] for index in sorted(config.id2label)))


def checkpoint_directory(weights: str, revision: str = "main") -> Path:
    """Where the files of a checkpoint are; those from the hub are downloaded once, into a folder named by the commit.

    Raises:
        ParamsError: there is no such directory, or the hub cannot be reached or has no such checkpoint.
    """
    if Path(weights).expanduser().is_dir():
        return Path(weights).expanduser()
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", weights):
        raise ParamsError(
            f"models.NAME.weights: {weights}: no such directory; allowed: none, a directory, or an id of huggingface.co"
        )
    from huggingface_hub import snapshot_download  # noqa: PLC0415  a second that a local directory does not need

    try:
        return Path(snapshot_download(weights, revision=revision, allow_patterns=[CONFIG, PROCESSOR, WEIGHTS]))
    except Exception as error:  # the client raises whatever its HTTP library raises
        raise ParamsError(
            f"models.NAME.weights: {weights}, revision {revision}, cannot be downloaded "
            f"({type(error).__name__}: {first_line(error)}). Fetch {CONFIG}, {PROCESSOR} and {WEIGHTS} in another way, "
            "put them into one directory, and set models.NAME.weights to that directory"
        ) from error


def _config(directory: Path) -> Any:
    from huggingface_hub.errors import StrictDataclassError  # noqa: PLC0415
    from transformers import ViTConfig  # noqa: PLC0415  seconds that a training from scratch does not need

    content = _json(directory / CONFIG)
    if content.get("model_type") != "vit":
        raise ParamsError(
            f"{directory / CONFIG}: model_type is {content.get('model_type')!r}; only vit can be read here"
        )
    try:
        config: Any = ViTConfig.from_dict(content)
        sizes = (config.hidden_size, config.intermediate_size, config.num_attention_heads, config.num_channels)
        if min(sizes) < 1 or not 1 <= config.num_hidden_layers <= DEEPEST:
            raise ValueError("a size is out of range")
        if set(config.id2label) != set(range(len(config.id2label))):
            raise ValueError("id2label is not numbered from 0")
    except (StrictDataclassError, TypeError, ValueError, AttributeError) as error:
        raise ParamsError(f"{directory / CONFIG}: not the configuration of a ViT: {first_line(error)}") from error
    return config


def _normalisation(directory: Path, channels: int) -> tuple[list[float], list[float]]:
    """Factor and summand for each channel that do what the image processor does to pixels of 0 to 255."""
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil  # noqa: PLC0415

    path = directory / PROCESSOR
    try:
        processor = ViTImageProcessorPil.from_dict(_json(path)) if path.exists() else ViTImageProcessorPil()
        mean, std = processor.image_mean, processor.image_std
        if not processor.do_normalize:
            mean, std = [0.0] * channels, [1.0] * channels
        rescale = float(processor.rescale_factor) if processor.do_rescale else 1.0
        if not len(mean) == len(std) == channels or min(std) <= 0:
            raise ValueError(f"image_mean {mean} and image_std {std} do not fit {channels} channels")
        return [rescale / float(s) for s in std], [-float(m) / float(s) for m, s in zip(mean, std, strict=True)]
    except (TypeError, ValueError) as error:
        raise ParamsError(f"{path}: not the configuration of an image processor: {first_line(error)}") from error


def _side(value: Any, what: str, directory: Path) -> int:
    sides = set(value) if isinstance(value, list | tuple) else {value}
    if len(sides) != 1 or min(sides) < 1:
        raise ParamsError(f"{directory / CONFIG}: {what} is {value}; only squares can be used here")
    return int(sides.pop())


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise ValueError(f"larger than {LARGEST_JSON >> 20} MB")
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("not a JSON object")
    except FileNotFoundError:
        raise ParamsError(f"{path}: missing; a checkpoint is {CONFIG}, {PROCESSOR} and {WEIGHTS}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ParamsError(f"{path}: cannot be read: {first_line(error)}") from error
    return content


def first_line(error: Exception) -> str:
    """What an exception of a library says, in one line."""
    return next((" ".join(line.split()) for line in str(error).splitlines() if line.strip()), type(error).__name__)
