"""Which values of which hyperparameters `emotion tune` tries: `tuning` of params.yaml, held against the model.

    space = search_space(params, "vit")
    space.distributions            {"dropout": FloatDistribution(...), "training.learning_rate": ...}
    with_values(params, "vit", {"training.learning_rate": 0.002})         the parameters of one trial

Keys are those below `models.NAME`: hyperparameters of the architecture, and `training.KEY`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from emotion_detection.errors import ParamsError
from emotion_detection.models import check_hyperparameters
from emotion_detection.params import Params, RangeParams, merge, parse_params
from emotion_detection.params_edit import parse_settings

Values = dict[str, Any]
"""Value of each tuned hyperparameter, by key."""

DEFAULT: dict[str, RangeParams] = {
    "training.learning_rate": RangeParams(low=1e-4, high=0.03, log=True),
    "training.optimizer": RangeParams(choices=["adam", "adamw", "sgd"]),
    "training.weight_decay": RangeParams(low=0.0, high=0.1),
    "training.label_smoothing": RangeParams(low=0.0, high=0.2),
    "training.augmentation.rotation": RangeParams(low=0.0, high=30.0),
}
"""What is tuned where params.yaml names nothing, and besides every dropout of the architecture."""
DEFAULT_DROPOUT = RangeParams(low=0.0, high=0.6)
FIXED = {
    "architecture": "another architecture is another model: give it an entry of its own",
    "training.epochs": "all trials have the same, so that they can be compared; see --epochs",
    "training.finetuning": "all trials have the same stages, so that they can be compared",
    "training.monitor": "it is what trials are compared by",
}
IN_LOSS = ("training.label_smoothing", "l2")
"""Part of `val_loss` itself: there, less of it would always look better."""
DIGITS = 4
"""Significant digits of the values that are tried, so that they can be read and written down."""


@dataclass(frozen=True)
class Space:
    """The values that trials of one model are drawn from."""

    model: str
    distributions: Mapping[str, BaseDistribution]
    choices: Mapping[str, Mapping[str, Any]]
    """By key and by the text that stands for it: values that Optuna's database cannot hold, such as lists."""

    def values(self, drawn: Mapping[str, Any]) -> Values:
        """What Optuna has drawn, as it is tried and written into params.yaml."""
        return {key: self._value(key, drawn[key]) for key in self.distributions}

    def drawn(self, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """What Optuna would have to draw to get these values; none if it never does."""
        drawn = {key: _text(values[key]) if key in self.choices else values[key] for key in self.distributions}
        possible = all(_contains(distribution, drawn[key]) for key, distribution in self.distributions.items())
        return drawn if possible else None

    def first(self) -> Values:
        """Some values, always the same."""
        ends = {key: getattr(one, "low", None) for key, one in self.distributions.items()}
        return self.values(
            {key: ends[key] if key not in self.choices else next(iter(self.choices[key])) for key in ends}
        )

    @property
    def size(self) -> float:
        """How many different trials there are; infinite where a value is continuous."""
        return math.prod(_count(distribution) for distribution in self.distributions.values())

    def grid(self) -> Iterator[dict[str, Any]]:
        """All that Optuna can draw, if that is finite."""
        steps = [list(_steps(distribution)) for distribution in self.distributions.values()]
        return (dict(zip(self.distributions, combination, strict=True)) for combination in product(*steps))

    def _value(self, key: str, drawn: Any) -> Any:
        distribution = self.distributions[key]
        if key in self.choices:
            return self.choices[key][drawn]
        if isinstance(distribution, FloatDistribution):
            rounded = float(f"{drawn:.{DIGITS}g}")
            return min(max(rounded, distribution.low), distribution.high)
        return drawn


def search_space(params: Params, name: str) -> Space:
    """The search space of one model, with every range checked against what it is a range of.

    Raises:
        ParamsError: there is no such model; the space is empty, or has a key that the model does not know or that
            cannot be tuned, or a value that is not allowed for it.
    """
    check_hyperparameters(name, params.model(name))
    if unknown := params.tuning.models.keys() - params.models.keys():
        raise ParamsError(f"tuning.models.{min(unknown)}: no such model; params.yaml has {', '.join(params.models)}")
    ranges = _ranges(params, name)
    if not ranges:
        raise ParamsError(f"tuning.models.{name}: leaves nothing to tune; give it a range")
    distributions = {key: _distribution(params, name, key, where, found) for key, (where, found) in ranges.items()}
    choices = {key: {_text(choice): choice for choice in found.choices} for key, (_, found) in ranges.items()}
    return Space(name, dict(sorted(distributions.items())), {key: known for key, known in choices.items() if known})


def with_values(params: Params, name: str, values: Mapping[str, Any]) -> Params:
    """All parameters, with these of one model.

    Raises:
        ParamsError: a value is wrong; the message names the key.
    """
    content = params.model_dump(mode="json")
    content["models"] = merge(content["models"], patch(name, values).get("models", {}))
    changed = parse_params(content)
    check_hyperparameters(name, changed.model(name))
    return changed


def patch(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of one model as a change of params.yaml, for `params_edit.prepare_edit`."""
    return parse_settings(settings(name, values))


def settings(name: str, values: Mapping[str, Any]) -> list[str]:
    """The values of one model as words for `emotion run`."""
    return [f"models.{name}.{key}={json.dumps(value)}" for key, value in values.items()]


def current_values(params: Params, name: str, space: Space) -> Values:
    """What params.yaml has now for the keys of the space, defaults included."""
    training = params.training_of(name).model_dump(mode="json")
    known = {**check_hyperparameters(name, params.model(name)), "training": training}
    return {key: _at(known, key) for key in space.distributions}


def _ranges(params: Params, name: str) -> dict[str, tuple[str, RangeParams]]:
    """By key: where the range stands, for messages, and the range."""
    common = dict(params.tuning.space) or _default_ranges(params, name)
    own = params.tuning.models.get(name, {})
    found = {key: (f"tuning.space.{key}", value) for key, value in common.items()}
    found |= {key: (f"tuning.models.{name}.{key}", value) for key, value in own.items()}
    return {key: (where, value) for key, (where, value) in found.items() if value is not None}


def _default_ranges(params: Params, name: str) -> dict[str, RangeParams | None]:
    known = check_hyperparameters(name, params.model(name))
    dropouts = {key: DEFAULT_DROPOUT for key in known if key.endswith("dropout")}
    biased = IN_LOSS if params.training_of(name).monitor == "val_loss" else ()
    return {key: value for key, value in (DEFAULT | dropouts).items() if key not in biased}


def _distribution(params: Params, name: str, key: str, where: str, found: RangeParams) -> BaseDistribution:
    for fixed, reason in FIXED.items():
        if key == fixed or key.startswith(f"{fixed}."):
            raise ParamsError(f"{where}: cannot be tuned: {reason}")
    if key in IN_LOSS and params.training_of(name).monitor == "val_loss":
        raise ParamsError(f"{where}: is part of val_loss, by which trials are compared; monitor val_accuracy instead")
    for value in found.choices or (found.low, found.high):
        _check(params, name, key, where, value)
    if found.choices:
        return CategoricalDistribution([_text(choice) for choice in found.choices])
    low, high, step = found.low, found.high, found.step
    if low is None or high is None:
        raise ParamsError(f"{where}: give low and high, or choices")
    if step:
        high = low + math.floor((high - low) / step + 1e-9) * step
    if all(isinstance(number, int) for number in (low, high, step or 1)) and not _takes_fractions(params, name, key):
        return IntDistribution(int(low), int(high), log=found.log, step=int(step or 1))
    if step:
        _check(params, name, key, where, low + step)
    return FloatDistribution(low, high, log=found.log, step=step)


def _check(params: Params, name: str, key: str, where: str, value: Any) -> None:
    try:
        with_values(params, name, {key: value})
    except ParamsError as error:
        raise ParamsError(f"{where}: {value} is not allowed: {error}") from None


def _takes_fractions(params: Params, name: str, key: str) -> bool:
    """Whether a hyperparameter is any number, or a whole one."""
    try:
        with_values(params, name, {key: 0.5})
    except ParamsError as error:
        return "valid integer" not in str(error)
    return True


def _at(content: Any, key: str) -> Any:
    for part in key.split("."):
        content = content[part]
    return json.loads(json.dumps(content))  # as in YAML: lists for tuples


def _text(choice: Any) -> str:
    return choice if isinstance(choice, str) else json.dumps(choice)


def _contains(distribution: BaseDistribution, drawn: Any) -> bool:
    if math.isfinite(_count(distribution)):
        return any(drawn == step for step in _steps(distribution))
    return isinstance(drawn, int | float) and distribution.low <= drawn <= distribution.high  # type: ignore[attr-defined]


def _count(distribution: BaseDistribution) -> float:
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    if isinstance(distribution, IntDistribution | FloatDistribution) and distribution.step is not None:
        return round((distribution.high - distribution.low) / distribution.step) + 1
    return math.inf


def _steps(distribution: BaseDistribution) -> Iterator[Any]:
    if isinstance(distribution, CategoricalDistribution):
        yield from distribution.choices
    elif isinstance(distribution, IntDistribution | FloatDistribution) and distribution.step is not None:
        yield from (distribution.low + number * distribution.step for number in range(int(_count(distribution))))
