"""Architectures: one module each, with `build(spec, *, hyperparameters...) -> keras.Model`, chosen by name.

    from emotion_detection.models import InputSpec, build_model
    model = build_model("lenet", InputSpec(image_size=48, channels=1, classes=7), {"dropout": 0.2})

A new architecture is one new module here and one entry under `models` in params.yaml. `build` gives logits for
uint8 images and does all scaling itself. The keyword arguments of `build`, with their annotations and defaults, are
the architecture's hyperparameters: they are what params.yaml is checked against and what `emotion params --schema`
prints. Keras is imported only where a signature or a model is needed.
"""

from __future__ import annotations

import inspect
import pkgutil
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, create_model

from emotion_detection.errors import ArtifactError, ParamsError
from emotion_detection.params import ModelParams, Section, validated
from emotion_detection.params import Unfrozen as Unfrozen

if TYPE_CHECKING:
    import keras

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True)
class InputSpec:
    """What the data set asks of a model."""

    image_size: int
    """Side S of the square images, pixels."""
    channels: int
    """C: 1 for grey, 3 for RGB."""
    classes: int
    labels: tuple[str, ...] = ()
    """Names of the classes in the order of the outputs, where an architecture must know them."""


def architectures() -> list[str]:
    """Names of all architectures, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def build_model(architecture: str, spec: InputSpec, hyperparameters: Mapping[str, Any]) -> keras.Model:
    """Build an untrained model.

    Returns:
        Model from uint8 (N, S, S, C), named "image", to float32 logits (N, classes).

    Raises:
        ParamsError: the architecture does not exist, a hyperparameter is unknown or out of range, or the
            architecture cannot work at this image size.
    """
    values = _checked(architecture, hyperparameters, f"{architecture}.")
    try:
        model: keras.Model = import_architecture(architecture).build(spec, **values)
    except ValueError as error:
        # Keras colours the cause and adds all arguments of the call.
        reason = " ".join(re.sub(r"\x1b\[\d+m", "", str(error)).partition("\n\nArguments")[0].split())
        raise ParamsError(
            f"models: {architecture} cannot be built for {spec.image_size} x {spec.image_size} images"
            f" with {values}: {reason}"
        ) from error
    return model


def load_model(architecture: str, path: Path) -> keras.Model:
    """Load a trained model; importing its module makes the layers known that Keras does not have itself.

    Raises:
        ArtifactError: the file is missing or is not a Keras model.
    """
    import_architecture(architecture)
    backend = import_module("emotion_detection.backend")
    try:
        model: keras.Model = backend.keras.saving.load_model(path)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be loaded: {error}; `dvc repro` makes it anew") from error
    return model


def backbone_layers(model: keras.Model) -> list[keras.Layer]:
    """Layers with weights below the head, bottom first; the head's layers are `logits` and those named `head...`."""
    return [layer for layer in model.layers if layer.weights and not layer.name.startswith(("head", "logits"))]


def freeze(model: keras.Model, unfrozen: Unfrozen) -> None:
    """Let the head and the topmost `unfrozen` layers of the backbone learn, and nothing else.

    Batch norm of the backbone stays in inference mode throughout: statistics of a small new data set would undo what
    was learnt before (Keras guide "Transfer learning & fine-tuning"). To be called before `compile`.
    """
    layers = backbone_layers(model)
    first = 0 if unfrozen == "all" else max(0, len(layers) - unfrozen)
    for index, layer in enumerate(layers):
        # Keras runs a batch norm that is not trainable in inference mode.
        layer.trainable = index >= first and type(layer).__name__ != "BatchNormalization"


def check_hyperparameters(name: str, model: ModelParams) -> dict[str, Any]:
    """Compare one entry of `models` in params.yaml with the signature of its architecture's `build`.

    Returns:
        All hyperparameters, those left out with their defaults.

    Raises:
        ParamsError: the architecture does not exist, a hyperparameter is unknown, of a wrong type or out of range.
    """
    return _checked(model.architecture, model.hyperparameters, f"models.{name}.")


def hyperparameter_schema(architecture: str) -> dict[str, Any]:
    """JSON schema of the hyperparameters of an architecture.

    Raises:
        ParamsError: there is no such architecture.
    """
    return _signature(architecture).model_json_schema()


def import_architecture(architecture: str) -> ModuleType:
    """Import the module of an architecture.

    Raises:
        ParamsError: there is no such architecture.
    """
    if architecture not in architectures():
        raise ParamsError(f"architecture: found {architecture!r}; there is {', '.join(architectures())}")
    import_module("emotion_detection.backend")  # before the module imports Keras by itself, and all its chatter
    return import_module(f"{__name__}.{architecture}")


def _checked(architecture: str, hyperparameters: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    checked = validated(_signature(architecture, prefix), hyperparameters, prefix)
    return {name: getattr(checked, name) for name in type(checked).model_fields}


def _signature(architecture: str, prefix: str = "") -> type[Section]:
    """Pydantic model with one field per keyword argument of `build`."""
    try:
        build = import_architecture(architecture).build
    except ParamsError as error:
        raise ParamsError(f"{prefix}{error}") from None
    fields: dict[str, Any] = {
        parameter.name: (parameter.annotation, ... if parameter.default is parameter.empty else parameter.default)
        for parameter in inspect.signature(build, eval_str=True).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    return create_model(architecture, __base__=Section, __doc__=inspect.getdoc(build), **fields)
