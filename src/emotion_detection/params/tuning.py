"""`tuning`: what `emotion tune` tries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from emotion_detection.params.section import Section


class RangeParams(Section):
    """Values of one hyperparameter that `emotion tune` tries: from `low` to `high`, or one of `choices`."""

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    """Try as many values between 1 and 10 as between 10 and 100."""
    step: int | float | None = Field(None, gt=0)
    """Try `low` and whole steps from there only."""
    choices: list[bool | int | float | str | list[bool | int | float | str]] = Field(default_factory=list)

    @model_validator(mode="after")
    def be_one_kind(self) -> RangeParams:
        ends = [end for end in (self.low, self.high) if end is not None]
        if self.choices and (ends or self.log or self.step):
            raise ValueError("choices stand alone, without low, high, log and step")
        if not self.choices and len(ends) < 2:
            raise ValueError("give low and high, or choices")
        if any(choice in self.choices[:place] for place, choice in enumerate(self.choices)):
            raise ValueError("a choice stands there twice")
        if ends and ends[0] >= ends[1]:
            raise ValueError("low must be below high")
        if self.log and (self.step or ends[0] <= 0):
            raise ValueError("log needs low above 0, and no step")
        return self


def _flat_ranges(content: Any, prefix: str = "") -> Any:
    """`{training: {learning_rate: {low: ...}}}` is the same as `{training.learning_rate: {low: ...}}`."""
    if not isinstance(content, Mapping):
        return content
    flat: dict[str, Any] = {}
    for key, value in content.items():
        nested = isinstance(value, Mapping) and not set(value) & set(RangeParams.model_fields)
        found = _flat_ranges(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
        if twice := flat.keys() & found.keys():
            raise ValueError(f"{', '.join(twice)} stands there twice")
        flat |= found
    return flat


Ranges = Annotated[Mapping[str, RangeParams | None], BeforeValidator(_flat_ranges)]
"""By key below `models.NAME`, such as `dropout` or `training.learning_rate`; null: it is not tuned."""


class TuningParams(Section):
    """What `emotion tune` tries; no stage of the pipeline reads it."""

    pruner: Literal["median", "hyperband", "none"] = "median"
    """What ends a trial that does badly after some epochs: worse than the median of the others, or Hyperband."""
    startup: int = Field(10, ge=1)
    """So many trials are drawn at random, and none of them is ended early by `median`."""
    space: Ranges = Field(default_factory=dict)
    """For every model; empty: what `tuning/space.py` has for all."""
    models: Mapping[str, Ranges] = Field(default_factory=dict)
    """By model, over `space`."""
