"""`emotion tune`: search good hyperparameters of one model on the validation split.

emotion tune vit --trials 40 --epochs 8
emotion tune vit --trials 40 --epochs 8 --write       # brings the best ones into params.yaml; then dvc repro
"""

from __future__ import annotations

import shlex
import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emotion_detection.cli.output import AsJson, print_json, print_table

if TYPE_CHECKING:
    from emotion_detection.tuning.report import Row, Summary

SHOWN = 10
INTERRUPTED = 130


def tune(  # noqa: PLR0913, PLR0917  each is an option
    model: Annotated[str, typer.Argument(help="Entry in `models` of params.yaml.")],
    trials: Annotated[int, typer.Option(min=1, help="Finished trials of the study in all, whoever did them.")],
    epochs: Annotated[int | None, typer.Option(min=1, help="Of each trial; default: training.epochs.")] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="SQLAlchemy URL that machines can share; default: sqlite under tuning/MODEL."),
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Write the best values to params.yaml.")] = False,
    as_json: AsJson = False,
) -> None:
    """Search good hyperparameters of a model: trials by TPE, judged on the validation split, bad ones ended early.

    What is tried stands under `tuning` in params.yaml. Killed and started again, or started several times at once,
    the same command goes on with the same study.
    """
    from emotion_detection.engine import chosen
    from emotion_detection.params import load_params
    from emotion_detection.tuning.report import REPORT, conclude
    from emotion_detection.tuning.search import Search, run_trials
    from emotion_detection.tuning.storage import shown
    from emotion_detection.tuning.task import prepare

    def say(line: str) -> None:
        print(line, file=sys.stderr if as_json else sys.stdout, flush=True)

    search = Search(prepare(model, load_params(), epochs), trials, storage, say)
    say(f"study {search.task.study} in {shown(search.url)}: {search.finished} of {search.wanted} trials are finished")
    try:
        with redirect_stdout(sys.stderr if as_json else sys.stdout):  # Ray tells there when a worker dies
            chosen(run_trials)(search)
    except KeyboardInterrupt:
        again = shlex.join(["emotion", *sys.argv[1:]])
        print(f"\ninterrupted; nothing is lost, the same command goes on: {again}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    summary = conclude(search)
    if as_json:
        print_json(summary.record())
    else:
        _show(summary)
        print(f"pictures and all trials: {search.task.directory / REPORT}/")
    _use(summary, write, as_json)


def _use(summary: Summary, write: bool, as_json: bool) -> None:
    """Write the best values, or show how."""
    from emotion_detection.params import PARAMS_FILE
    from emotion_detection.params_edit import prepare_edit
    from emotion_detection.tuning.space import patch

    edit = prepare_edit(PARAMS_FILE, [patch(summary.model, summary.best.values)])
    if write:
        edit.write()
    if as_json:
        return
    if not edit.changes:
        print("params.yaml has the best values already")
    elif write:
        for change in edit.changes:
            print(f"params.yaml: {change.key}: {'(none)' if change.old is None else change.old} -> {change.new}")
        print(f"`dvc repro` trains {summary.model} with them")
    else:
        print(f"\nThe best values as a change of params.yaml (--write makes it):\n\n{_indented(summary.yaml)}")
        print(f"or, with all that follows: emotion run {shlex.join(summary.settings)}")


def _show(summary: Summary) -> None:
    keys = list(summary.best.values)
    columns = ("trial", f" {summary.metric}", " epochs", "", *(f" {key.removeprefix('training.')}" for key in keys))
    title = f"Best of {len(summary.rows)} trials ({summary.study})"
    print_table(title, columns, [_cells(row, keys) for row in summary.rows[:SHOWN]])
    if summary.importance:
        shares = (f"{key.removeprefix('training.')} {share:.2f}" for key, share in summary.importance.items())
        print(f"importance: {', '.join(shares)}")


def _cells(row: Row, keys: list[str]) -> list[str]:
    value = "" if row.value is None else f"{row.value:.4f}"
    return [str(row.number), value, str(row.epochs), row.state, *(_cell(row.values.get(key)) for key in keys)]


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())
