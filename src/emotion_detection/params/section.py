"""What all sections of params.yaml have in common: frozen, strict, and errors that name the key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emotion_detection.errors import ParamsError

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
Share = Annotated[float, Field(ge=0, le=1)]
Unfrozen = Annotated[int, Field(ge=0)] | Literal["all"]
"""How many of a pretrained backbone's topmost layers with weights go on learning."""
ModelType = TypeVar("ModelType", bound=BaseModel)


class Section(BaseModel):
    """A part of params.yaml: immutable, strict about types, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def without_defaults(section: Section, keys: tuple[str, ...]) -> dict[str, Any]:
    """All values of a section, but for those of `keys` that have their default."""
    fields = type(section).model_fields
    return section.model_dump(exclude={key for key in keys if getattr(section, key) == fields[key].default})


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `changes`, mapping by mapping; null removes a key (JSON Merge Patch, RFC 7386)."""
    merged = {key: value for key, value in base.items() if changes.get(key, value) is not None}
    for key, value in changes.items():
        if isinstance(value, Mapping):
            old = merged.get(key)
            merged[key] = merge(old if isinstance(old, Mapping) else {}, value)
        elif value is not None:
            merged[key] = value
    return merged


def validated(kind: type[ModelType], content: Mapping[str, Any], prefix: str) -> ModelType:
    """Check one section; each line of the ParamsError names a key, which starts with `prefix`."""
    try:  # JSON's strict mode takes a list for a tuple and an int for a float, but no "10" for a 10
        return kind.model_validate_json(json.dumps(content, default=str), strict=True)
    except ValidationError as error:
        raise ParamsError("\n".join(_explain(kind, item, prefix) for item in error.errors())) from None


def _explain(kind: type[BaseModel], item: Any, prefix: str) -> str:
    location = [part for part in item["loc"] if part != "[key]"]
    key = prefix + ".".join(str(part) for part in location)
    if item["type"] == "extra_forbidden":
        allowed = ", ".join(_fields_at(kind, location[:-1]))
        return f"{key}: unknown key; allowed here: {allowed}"
    if item["type"] == "missing":
        return f"{key}: missing; add it"
    return f"{key}: found {item['input']!r}; {item['msg'][0].lower()}{item['msg'][1:]}"


def _fields_at(kind: type[BaseModel], location: list[Any]) -> list[str]:
    inside: Any = kind
    for part in location:
        if isinstance(inside, type) and issubclass(inside, BaseModel):
            inside = inside.model_fields[part].annotation if part in inside.model_fields else None
        else:  # of a mapping the values; of a tuple its items
            inside = (get_args(inside) or (None,))[-1 if get_origin(inside) is Mapping else 0]
        while get_origin(inside) in (Annotated, UnionType):
            inside = get_args(inside)[0]
    return list(inside.model_fields) if isinstance(inside, type) and issubclass(inside, BaseModel) else []
