"""Change params.yaml by KEY=VALUE words and presets, keeping its comments; nothing invalid is ever written.

edit = prepare_edit(Path("params.yaml"), [parse_settings(["models.vit.depth=8"])], preset=read_preset("zoo"))
edit.changes            [Change(key="models.vit.depth", old=4, new=8), ...]
edit.write()
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq
from ruamel.yaml.error import YAMLError

from emotion_detection.artifacts import atomic_file
from emotion_detection.errors import ParamsError
from emotion_detection.params import Params, load_params, merge, parse_params

PRESETS = Path("presets")
WHOLE_SECTIONS = ("training", "models")
"""What a preset replaces as a whole: a learning rate, or a model, of the preset before would not fit."""


@dataclass(frozen=True)
class Change:
    """One value that an edit sets; None: it is not there."""

    key: str
    old: Any
    new: Any


@dataclass(frozen=True)
class Edit:
    """A checked new version of the parameter file."""

    path: Path
    text: str
    params: Params
    changes: list[Change]

    def write(self) -> None:
        """Replace the file, if anything changes.

        Raises:
            ArtifactError: it cannot be written.
        """
        if self.changes:
            with atomic_file(self.path) as temporary:
                temporary.write_text(self.text, encoding="utf-8")


def parse_settings(words: Sequence[str]) -> dict[str, Any]:
    """`["a.b=1", "a.c=[x]"]` -> `{"a": {"b": 1, "c": ["x"]}}`; values are YAML, null removes a key.

    Raises:
        ParamsError: a word is not KEY=VALUE, or its value is not YAML.
    """
    return reduce(merge_patches, (_parse_setting(word) for word in words), {})


def read_preset(name: str, directory: Path = PRESETS) -> dict[str, Any]:
    """The sections of a preset, for `prepare_edit`.

    Raises:
        ParamsError: there is none of this name; the message says which there are.
    """
    available = sorted(path.stem for path in directory.glob("*.yaml"))
    if name not in available:
        raise ParamsError(f"preset {name!r}: no such preset; {directory}/ has {', '.join(available) or 'none'}")
    content = _load(
        YAML(typ="safe"), (directory / f"{name}.yaml").read_text(encoding="utf-8"), f"{directory}/{name}.yaml"
    )
    if not isinstance(content, dict):
        raise ParamsError(f"{directory}/{name}.yaml: expected a mapping of sections, found {type(content).__name__}")
    return content


def prepare_edit(path: Path, patches: Iterable[Mapping[str, Any]], preset: Mapping[str, Any] | None = None) -> Edit:
    """Change the parameter file in memory, and check the result.

    Args:
        path: the parameter file.
        patches: JSON merge patches (RFC 7386), applied one after the other.
        preset: applied before them; `WHOLE_SECTIONS` that it has lose all that it does not name.

    Raises:
        ParamsError: the file or the result is not valid; the message names each key.
    """
    load_params(path)  # what is wrong already is not the edit's fault
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    content = yaml.load(path.read_text(encoding="utf-8"))
    before = dict(leaves(content))
    preset = preset or {}
    for section in WHOLE_SECTIONS:
        if section in preset:
            _prune(content.get(section, {}), preset[section])
    for patch in (preset, *patches):
        _apply(content, patch)
    params = parse_params(content, source=f"{path}: ")
    after = dict(leaves(content))
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    text = io.StringIO()
    yaml.dump(content, text)
    changes = [Change(key, before.get(key), after.get(key)) for key in keys]
    return Edit(path, text.getvalue(), params, changes)


def merge_patches(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """One patch that does what both do in turn. Unlike `merge` it keeps the nulls, which still have to remove keys."""
    merged = dict(first)
    for key, value in second.items():
        old = merged.get(key)
        nested = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = merge_patches(old, value) if nested else value  # type: ignore[arg-type]
    return merged


def _parse_setting(word: str) -> dict[str, Any]:
    key, separator, text = word.partition("=")
    parts = key.split(".")
    if not separator or not all(parts):
        raise ParamsError(f"{word!r}: expected KEY=VALUE, such as training.epochs=20")
    value = _load(YAML(typ="safe"), text, word)
    return reduce(lambda inner, part: {part: inner}, reversed(parts), value)


def _load(yaml: YAML, text: str, source: str) -> Any:
    try:
        return yaml.load(text)
    except YAMLError as error:
        raise ParamsError(f"{source}: not valid YAML: {error}") from None


def _prune(content: dict[str, Any], kept: Mapping[str, Any]) -> None:
    """Remove every key that `kept` does not have as well."""
    for key in set(content) - set(kept):
        del content[key]
    for key, value in content.items():
        if isinstance(value, dict) and isinstance(kept[key], Mapping):
            _prune(value, kept[key])


def _apply(content: dict[str, Any], patch: Mapping[str, Any]) -> None:
    for key, value in patch.items():
        if value is None:
            content.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(content.get(key), dict):
            _apply(content[key], value)
        elif content.get(key) != value:  # an equal value keeps the way it is written
            content[key] = _as_written(value)


def _as_written(value: Any) -> Any:
    """Lists in one line: over several the comment behind the key would go astray with the next change."""
    if isinstance(value, list):
        value = CommentedSeq(value)
        value.fa.set_flow_style()
    return merge({}, value) if isinstance(value, Mapping) else value


def leaves(content: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Every value of nested mappings with its full key, `models.vit.depth`."""
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
