"""What a retraining changed, as Markdown for a pull request: parameters, stages, and each model against another state.

    before, unknown = first_known(["origin/main", ".cache/baseline"])
    markdown(Retraining(present_state(), before, unknown, stages_of(log), candidate))

A state is a git revision whose dvc.lock is committed (its figures come out of DVC's cache or remote), or a directory
with a params.yaml and the metrics.json of a comparison. Light: no figure is computed here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML

from emotion_detection.artifacts import COMPARISON
from emotion_detection.comparison.table import METRICS_FILE, ComparedModel, Comparison
from emotion_detection.errors import ArtifactError
from emotion_detection.lineage import file_at
from emotion_detection.params import PARAMS_FILE
from emotion_detection.params_edit import leaves

_SAID = {  # by `dvc repro`
    "run": r"^Running stage '([^']+)'",
    "from the cache": r"^Stage '([^']+)' is cached",
    "unchanged": r"^Stage '([^']+)' didn't change",
}


@dataclass(frozen=True)
class State:
    """Parameters and figures at some point."""

    name: str
    params: Mapping[str, Any]
    """By full key: `models.lenet.dropout`."""
    comparison: Comparison


@dataclass(frozen=True)
class Retraining:
    """What there is to tell."""

    now: State
    before: State | None
    """None where nothing is known of it."""
    unknown: Sequence[str] = ()
    """Why states are not known that would have been preferred."""
    stages: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Names by what became of them."""
    candidate: tuple[str, str] | None = None
    """Version and model that may be promoted; none where the best is champion already."""

    def changed_params(self) -> dict[str, tuple[Any, Any]]:
        """Before and now, by key; None: it is not there."""
        old, new = self.before.params if self.before else {}, self.now.params
        return {key: (old.get(key), new.get(key)) for key in {**old, **new} if old.get(key) != new.get(key)}


@dataclass(frozen=True)
class Figure:
    """A column of the table."""

    title: str
    key: str
    form: str
    change: str
    scale: float = 1.0

    def cell(self, now: ComparedModel, before: ComparedModel | None) -> str:
        value, old = getattr(now, self.key), getattr(before, self.key, None)
        if value is None:
            return ""
        change = "" if old in (None, value) else f" ({self.change.format((value - old) * self.scale)})"
        return self.form.format(value * self.scale) + change


FIGURES = (
    Figure("macro-F1", "macro_f1", "{:.3f}", "{:+.3f}"),
    Figure("ECE", "ece", "{:.3f}", "{:+.3f}"),
    Figure("corrupted", "corrupted_accuracy", "{:.3f}", "{:+.3f}"),
    Figure("MB", "bytes", "{:.2f}", "{:+.2f}", 1e-6),
    Figure("MFLOPs", "flops", "{:.1f}", "{:+.1f}", 1e-6),  # times of two runners would say nothing
)


def present_state() -> State:
    """What stands in the current directory.

    Raises:
        ArtifactError: the stage `compare` has not run.
    """
    return _state("here", _read(PARAMS_FILE), _read(COMPARISON / METRICS_FILE))


def first_known(bases: Sequence[str]) -> tuple[State | None, list[str]]:
    """The first of these states that has figures, and why those before it have none."""
    unknown: list[str] = []
    for base in bases:
        try:
            return read_state(base), unknown
        except ArtifactError as error:
            unknown.append(str(error))
    return None, unknown


def read_state(base: str) -> State:
    """The state that a git revision or a directory holds.

    Raises:
        ArtifactError: it holds none; the message says why.
    """
    directory = Path(base)
    if directory.is_dir():
        return _state(base, _read(directory / PARAMS_FILE), _read(directory / METRICS_FILE))
    params = file_at(base, str(PARAMS_FILE))
    if params is None:
        raise ArtifactError(f"{base}: neither a directory nor a git revision with a {PARAMS_FILE} that is known here")
    return _state(re.sub(r"^[0-9a-f]{40}$", lambda commit: commit[0][:12], base), params, _read_from_dvc(base))


def stages_of(log: str) -> dict[str, list[str]]:
    """Stages by what became of them, from what `dvc repro` printed."""
    return {outcome: re.findall(pattern, log, re.M) for outcome, pattern in _SAID.items()}


def markdown(retraining: Retraining) -> str:
    """The report, for a pull request or a summary."""
    return "\n".join([*_params(retraining), *_stages(retraining), *_figures(retraining), *_candidate(retraining)])


def _params(retraining: Retraining) -> Iterator[str]:
    if retraining.before is None:
        yield "Nothing is known of what it was before, so these are figures without a comparison:"
        yield from (f"* {reason}" for reason in retraining.unknown)
        yield ""
        return
    changed = retraining.changed_params()
    yield f"Against `{retraining.before.name}`: {'these parameters' if changed else 'no parameter'} changed."
    yield ""
    if changed:
        yield from ("| parameter | before | now |", "|---|---|---|")
        yield from (f"| {key} | {_cell(old)} | {_cell(new)} |" for key, (old, new) in changed.items())
        yield ""


def _stages(retraining: Retraining) -> Iterator[str]:
    for outcome, names in retraining.stages.items():
        if names:
            yield f"* {outcome} ({len(names)}): {', '.join(names)}"
    yield ""


def _figures(retraining: Retraining) -> Iterator[str]:
    now, before = retraining.now.comparison, retraining.before.comparison.models if retraining.before else {}
    yield f"{now.images:,} test images; in brackets the change. ▲ ▼: the accuracy before lies outside the interval."
    yield ""
    yield f"| model | accuracy (interval) | {' | '.join(figure.title for figure in FIGURES)} |"
    yield f"|---|---:|{'---:|' * len(FIGURES)}"
    for name, model in now.models.items():
        cells = [figure.cell(model, before.get(name)) for figure in FIGURES]
        yield f"| {name} | {_accuracy(model, before.get(name))} | {' | '.join(cells)} |"
    yield from (f"| {name} | gone |{' |' * len(FIGURES)}" for name in before if name not in now.models)
    yield from ("", *_chart(now.models, before))


def _accuracy(now: ComparedModel, before: ComparedModel | None) -> str:
    text = f"{now.accuracy:.3f} ({now.accuracy_low:.3f} to {now.accuracy_high:.3f})"
    if before is None:
        return text
    mark = " ▲" if before.accuracy < now.accuracy_low else " ▼" if before.accuracy > now.accuracy_high else ""
    return text if now.accuracy == before.accuracy else f"{text} {now.accuracy - before.accuracy:+.3f}{mark}"


def _chart(now: Mapping[str, ComparedModel], before: Mapping[str, ComparedModel]) -> Iterator[str]:
    """Drawn by GitHub itself; a comment can hold no picture of ours."""
    both = set(now) <= set(before)
    yield from ("```mermaid", "xychart-beta")
    yield f'    title "Test accuracy{": bars now, line before" if both else ""}"'
    yield f"    x-axis {json.dumps(list(now))}"
    yield "    y-axis 0 --> 1"
    yield f"    bar [{', '.join(f'{model.accuracy:.3f}' for model in now.values())}]"
    if both:
        yield f"    line [{', '.join(f'{before[name].accuracy:.3f}' for name in now)}]"
    yield from ("```", "")


def _candidate(retraining: Retraining) -> Iterator[str]:
    if retraining.candidate is None:
        yield "The best model is champion already: there is nothing to promote."
    else:
        version, model = retraining.candidate
        yield f"Candidate, by validation accuracy: version {version} ({model}). `emotion gate {version}` judges it."
    yield ""


def _cell(value: Any) -> str:
    return "(none)" if value is None else f"`{value}`".replace("|", "\\|").replace("\n", " ")


def _state(name: str, params: str, metrics: str) -> State:
    try:
        comparison = Comparison.model_validate_json(metrics)
    except ValidationError as error:
        raise ArtifactError(f"{name}: {METRICS_FILE} has another form than today's ({error.error_count()})") from None
    return State(name, dict(leaves(YAML(typ="safe").load(params))), comparison)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ArtifactError(f"{path}: missing; `dvc repro` makes the figures, `make baseline` keeps them") from None


def _read_from_dvc(revision: str) -> str:
    import dvc.api  # noqa: PLC0415  takes a second
    from dvc.exceptions import DvcException  # noqa: PLC0415

    try:
        return str(dvc.api.read(str(COMPARISON / METRICS_FILE), rev=revision))
    except (DvcException, OSError) as error:
        raise ArtifactError(
            f"{revision}: its figures are not to be had (is its dvc.lock committed, and pushed?): {error}"
        ) from None
