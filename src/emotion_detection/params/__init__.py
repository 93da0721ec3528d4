"""The only reader of params.yaml: frozen, typed, and an unknown key is an error.

    from emotion_detection.params import load_params
    params = load_params()                      # params.yaml of the current directory
    params.training_of("vit").learning_rate     # the model's own value, else the common one

`emotion params --schema` prints the schema. Architectures declare their hyperparameters in the signature
of `build`; `models.check_hyperparameters` compares against it, since reading it needs Keras.

    section.py     what sections have in common: frozen, strict, errors that name the key
    data.py        data, validation
    training.py    training, models
    judging.py     inference, evaluation, export, edge, gate
    tuning.py      tuning
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from emotion_detection.errors import ParamsError
from emotion_detection.params.data import (
    CheckParams,
    ClassParams,
    DataParams,
    SplitParams,
    SyntheticParams,
    ValidationParams,
)
from emotion_detection.params.judging import (
    EdgeParams,
    EvaluationParams,
    ExportParams,
    GateParams,
    InferenceParams,
    Int8Params,
)
from emotion_detection.params.section import SPLITS, Section, Split, Unfrozen, merge, validated
from emotion_detection.params.training import (
    AugmentationParams,
    DistillationParams,
    ModelName,
    ModelParams,
    TrainingParams,
    checked_name,
)
from emotion_detection.params.tuning import RangeParams, TuningParams

__all__ = [
    "PARAMS_FILE",
    "SPLITS",
    "AugmentationParams",
    "CheckParams",
    "ClassParams",
    "DataParams",
    "DistillationParams",
    "EdgeParams",
    "EvaluationParams",
    "Int8Params",
    "ModelParams",
    "Params",
    "RangeParams",
    "RegistryParams",
    "Section",
    "Split",
    "SplitParams",
    "SyntheticParams",
    "TrainingParams",
    "Unfrozen",
    "ValidationParams",
    "checked_name",
    "load_params",
    "merge",
    "parse_params",
    "validated",
]

PARAMS_FILE = Path("params.yaml")


class RegistryParams(Section):
    """Names in MLflow."""

    experiment: str = Field("emotion-detection", min_length=1)
    model: str = Field("emotion-detector", min_length=1)


class Params(Section):
    """All of params.yaml."""

    seed: int = Field(0, ge=0, lt=2**31)
    data: DataParams = DataParams()
    validation: ValidationParams = ValidationParams()
    training: TrainingParams = TrainingParams()
    models: Mapping[ModelName, ModelParams] = Field(min_length=1)
    """Models to train, by name: letters, digits, - and _."""
    inference: InferenceParams = InferenceParams()
    evaluation: EvaluationParams = EvaluationParams()
    export: ExportParams = ExportParams()
    edge: EdgeParams = EdgeParams()
    gate: GateParams = GateParams()
    tuning: TuningParams = TuningParams()
    registry: RegistryParams = RegistryParams()

    def model(self, name: str) -> ModelParams:
        """The entry `models.NAME`.

        Raises:
            ParamsError: there is none.
        """
        if name not in self.models:
            raise ParamsError(f"models.{name}: no such model; params.yaml has {', '.join(self.models)}")
        return self.models[name]

    def training_of(self, name: str) -> TrainingParams:
        """The training parameters of one model: `training`, overridden by `models.NAME.training`."""
        merged = merge(self.training.model_dump(), self.model(name).training)
        return validated(TrainingParams, merged, f"models.{name}.training.")

    def seed_of(self, name: str) -> int:
        """The seed of the training of one model: `training.seed`, else that of all."""
        seed = self.training_of(name).seed
        return self.seed if seed is None else seed

    def flip_average_of(self, name: str) -> bool:
        """Whether the answers of one model are averaged with those to the mirror image.

        Raises:
            ParamsError: `inference.flip_average` names a model that there is not.
        """
        chosen = self.inference.flip_average
        if isinstance(chosen, bool):
            return chosen
        self._check_known("inference.flip_average", chosen)
        return name in chosen

    def has_litert(self, name: str) -> bool:
        """Whether one model becomes LiteRT files as well.

        Raises:
            ParamsError: `edge.litert` names a model that there is not.
        """
        self._check_known("edge.litert", self.edge.litert)
        return name in self.edge.litert

    def _check_known(self, key: str, names: tuple[str, ...]) -> None:
        if unknown := [name for name in names if name not in self.models]:
            raise ParamsError(f"{key}: no such model: {', '.join(unknown)}; params.yaml has {', '.join(self.models)}")


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check the parameter file.

    Raises:
        ParamsError: the file is missing, is not YAML, or has an unknown key, a wrong type or a value out of
            range; the message names each key, what was found and what is allowed.
    """
    try:
        # YAML 1.2, as DVC reads it: 1e-4 is a number and no is a word.
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(f"{path}: no such file; run from the root of the repository") from None
    except YAMLError as error:
        raise ParamsError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise ParamsError(f"{path}: expected a mapping of sections, found {type(content).__name__}")
    return parse_params(content, source=f"{path}: ")


def parse_params(content: Mapping[str, Any], source: str = "") -> Params:
    """Check parameters that are already in memory; errors as `load_params`."""
    params = validated(Params, content, source)
    for name in params.models:
        params.training_of(name)
        params.flip_average_of(name)
        params.has_litert(name)
    return params
