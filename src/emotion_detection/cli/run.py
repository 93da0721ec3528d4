"""`emotion run`: change parameters, retrain what they touch, promote the best model, print the results.

emotion run models.vit.depth=8 training.epochs=20
emotion run --jobs 2 --preset zoo --no-promote
emotion run --preset grey-48 data.source=fer2013.zip -- --force     # what follows -- goes to `dvc repro`
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Context
from typer.core import TyperCommand

from emotion_detection.cli.params import check_models
from emotion_detection.cli.promotion import decide, refusal, show_decision
from emotion_detection.cli.results import show_results
from emotion_detection.errors import PromotionRefused
from emotion_detection.pushing import measured
from emotion_detection.reproduction import reproduce, train_side_by_side

if TYPE_CHECKING:
    from emotion_detection.params_edit import Edit

NEXT = """\
Next:
  make serve                       the champion at http://127.0.0.1:8000
  make ui                          runs and versions in MLflow's pages
  emotion compare                  all models beside each other, with pictures
  emotion trace champion           from the champion back to commit and data
  emotion run KEY=VALUE ...        change a parameter; only what it touches is rebuilt
"""


class WithDvcArguments(TyperCommand):
    """Sets aside what follows `--`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own, rest = (args[: args.index("--")], args[args.index("--") + 1 :]) if "--" in args else (args, [])
        ctx.meta["dvc"] = rest
        return super().parse_args(ctx, own)


def run(  # noqa: PLR0913, PLR0917  one for each option
    ctx: Context,
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]... [-- DVC_ARGUMENTS]", help="Written to params.yaml; null removes a key."),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Apply presets/NAME.yaml first.")] = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="Train so many models at a time; each has its share of the cores.")
    ] = 1,
    promote: Annotated[bool, typer.Option(help="Pass the best model through the gate.")] = True,
    require_promotion: Annotated[
        bool, typer.Option("--require-promotion", help="Exit status 1 if the gate refuses.")
    ] = False,
) -> None:
    """Retrain what changed, promote the best model through the gate, print the results.

    The best is the one with the highest validation accuracy. If the gate refuses it, the champion stays.
    """
    if jobs > 1 and ctx.meta["dvc"]:
        raise typer.BadParameter("--jobs runs `dvc repro` several times; it takes no arguments for it after --")
    edit = _prepare(preset, settings or [])
    check_models(edit.params)
    for change in edit.changes:
        print(f"params.yaml: {change.key}: {_shown(change.old)} -> {_shown(change.new)}")
    edit.write()
    with measured("run"):
        if jobs > 1:
            train_side_by_side(list(edit.params.models), jobs)
        reproduce(ctx.meta["dvc"])
        _register_all()
        decision = decide(None) if promote else None
    _print_results()
    if decision:
        show_decision(decision)
    print(f"\n{NEXT}", end="")
    if decision and not decision.promoted and require_promotion:
        raise PromotionRefused(refusal(decision))


def _prepare(preset: str | None, settings: Sequence[str]) -> Edit:
    from emotion_detection.params import PARAMS_FILE
    from emotion_detection.params_edit import parse_settings, prepare_edit, read_preset

    return prepare_edit(PARAMS_FILE, [parse_settings(settings)], read_preset(preset) if preset else None)


def _register_all() -> None:
    """DVC does not see MLflow: with another or an emptied registry no stage has run, and yet nothing is registered."""
    from emotion_detection.artifacts import COMPARISON
    from emotion_detection.comparison.publishing import publish
    from emotion_detection.params import load_params
    from emotion_detection.promotion import registered
    from emotion_detection.registry import Registry

    params = load_params()
    registry = Registry(params.registry.model)
    for model in params.models:
        registered(params, registry, model)
    if COMPARISON.is_dir():
        publish(params)


def _print_results() -> None:
    from emotion_detection.params import load_params
    from emotion_detection.registry import Registry
    from emotion_detection.results import collect_results

    params = load_params()
    show_results(collect_results(params, Registry(params.registry.model)))


def _shown(value: object) -> str:
    return "(none)" if value is None else str(value)
