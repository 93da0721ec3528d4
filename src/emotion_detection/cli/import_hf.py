"""`emotion import-hf`: an image-classification ViT that somebody else fine-tuned becomes a challenger.

emotion import-hf owner/vit-of-emotions                      # a commit of it goes to params.yaml, not a branch
emotion import-hf downloads/vit-of-emotions --name theirs
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emotion_detection.errors import ParamsError
from emotion_detection.reproduction import reproduce

if TYPE_CHECKING:
    from emotion_detection.params import Params


def import_hf(
    checkpoint: Annotated[
        str, typer.Argument(metavar="ID_OR_DIR", help="On huggingface.co, or a directory with its files.")
    ],
    name: Annotated[str | None, typer.Option(help="Entry in `models`; default: the last part of ID_OR_DIR.")] = None,
    revision: Annotated[str, typer.Option(help="Branch, tag or commit on huggingface.co.")] = "main",
) -> None:
    """Add an image-classification ViT that somebody else fine-tuned to `models`: evaluated, exported, registered.

    Its labels are mapped to the data set's by name, and must be the same emotions. Nothing is trained or promoted.
    """
    from emotion_detection.params import PARAMS_FILE, load_params
    from emotion_detection.params_edit import prepare_edit

    model = _model_name(name or re.sub(r"[^a-z0-9]+", "_", Path(checkpoint).name.lower()).strip("_"))
    entry = _entry(checkpoint, revision)
    _check_unused(load_params(), model, entry)
    reproduce(["shards"])
    _check_fits_data(entry)
    edit = prepare_edit(PARAMS_FILE, [{"models": {model: entry}}])
    edit.write()
    print(f"params.yaml: models.{model}: {entry}" if edit.changes else f"params.yaml has models.{model} already")
    reproduce([f"register@{model}"])
    _say_what_next(model)


def _model_name(name: str) -> str:
    from emotion_detection.params import checked_name

    try:
        return checked_name(name)
    except ValueError as error:
        raise ParamsError(f"--name: found {name!r}; {error}") from None


def _entry(checkpoint: str, revision: str) -> dict[str, Any]:
    """What goes to params.yaml; a revision that can move is replaced by the commit that it is now."""
    from emotion_detection.huggingface import checkpoint_directory, open_checkpoint
    from emotion_detection.huggingface_tensors import read_tensors

    local = Path(checkpoint).expanduser().is_dir()
    directory = checkpoint_directory(checkpoint, revision)
    read_tensors(open_checkpoint(str(directory)), classifier=True)
    pinned = {} if local else {"revision": directory.name}
    return {"architecture": "vit", "weights": checkpoint, **pinned, "head": "checkpoint", "training": {"epochs": 0}}


def _check_unused(params: Params, model: str, entry: dict[str, Any]) -> None:
    from emotion_detection.params import ModelParams

    if params.models.get(model) not in (None, ModelParams(**entry)):
        raise ParamsError(
            f"models.{model}: there is such a model already; choose another with --name, or remove it with "
            f"`emotion run models.{model}=null`"
        )


def _check_fits_data(entry: dict[str, Any]) -> None:
    """Build the model once: labels, channels, sizes and every tensor are looked at."""
    from emotion_detection.artifacts import SHARDS
    from emotion_detection.data.shards import read_dataset_info
    from emotion_detection.models import InputSpec, build_model

    info = read_dataset_info(SHARDS)
    spec = InputSpec(info.image_size, info.channels, len(info.labels), info.labels)
    own = {"architecture", "training"}
    build_model("vit", spec, {key: value for key, value in entry.items() if key not in own})


def _say_what_next(model: str) -> None:
    from emotion_detection.params import load_params
    from emotion_detection.promotion import registered
    from emotion_detection.registry import Registry

    params = load_params()
    version = registered(params, Registry(params.registry.model), model).version
    print(
        f"\nversion {version} ({model}) is registered. Next:\n"
        f"  emotion gate {version}         what the gate would say of it\n"
        f"  emotion promote {version}      the champion, if the gate lets it\n"
        "  emotion results        beside the other models"
    )
