"""`emotion results` and `emotion runs`: what has been trained, and how good it is."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emotion_detection.cli.output import AsJson, print_json, print_table
from emotion_detection.errors import RegistryError

if TYPE_CHECKING:
    from mlflow.entities import Run

    from emotion_detection.artifacts import Interval
    from emotion_detection.results import Result

COLUMNS: tuple[str, ...] = (
    "model",
    " val accuracy",
    " test accuracy",
    " macro-F1",
    " ECE",
    " parameters",
    " MB",
    " ms per face",
)
COLUMNS += ("version", "alias", "verdict")
FIGURES = ("val/accuracy", "test/accuracy", "test/macro_f1", "test/ece")


def results(as_json: AsJson = False) -> None:
    """Compare the models of params.yaml."""
    from emotion_detection.params import load_params
    from emotion_detection.registry import Registry
    from emotion_detection.results import collect_results

    params = load_params()
    try:
        registry = Registry(params.registry.model)
    except RegistryError as error:
        print(f"warning: {error}. Versions and verdicts are left out.", file=sys.stderr)
        registry = None
    found = collect_results(params, registry)
    if as_json:
        print_json([record(result) for result in found])
    else:
        show_results(found)


def runs(
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the latest training runs, newest first."""
    from emotion_detection.params import load_params
    from emotion_detection.registry import Registry

    names = load_params().registry
    found = [_run_record(run) for run in Registry(names.model).runs(names.experiment, limit)]
    if as_json:
        print_json(found)
        return
    columns = ("run", "model", "status", "started", "commit", *(f" {name}" for name in FIGURES))
    print_table(
        f"Runs of {names.experiment}",
        columns,
        [[_cell(column.strip(), run[column.strip()]) for column in columns] for run in found],
    )


def show_results(found: list[Result]) -> None:
    print_table("Results", COLUMNS, [_row(result) for result in found])


def record(result: Result) -> dict[str, Any]:
    intervals = {
        name: value.model_dump() for name in ("test_accuracy", "test_macro_f1") if (value := getattr(result, name))
    }
    return asdict(result) | intervals


def _row(result: Result) -> list[str]:
    if result.val_accuracy is None:
        return [result.model, "not trained yet", *[""] * (len(COLUMNS) - 2)]
    return [
        result.model,
        f"{result.val_accuracy:.3f}",
        _interval(result.test_accuracy),
        _interval(result.test_macro_f1),
        f"{result.test_ece:.3f}",
        "" if result.parameters is None else f"{result.parameters:,}",
        _beside(result.precision, result.megabytes, result.fp32_megabytes),
        _beside(result.precision, result.milliseconds, result.fp32_milliseconds),
        result.version or "",
        ", ".join(result.aliases),
        result.verdict or "",
    ]


def _beside(precision: str | None, served: float | None, fp32: float | None) -> str:
    from emotion_detection.comparison.table import beside

    return "" if served is None or fp32 is None else beside(precision, f"{served:.2f}", f"{fp32:.2f}")


def _interval(interval: Interval | None) -> str:
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})" if interval else ""


def _run_record(run: Run) -> dict[str, Any]:
    tags, metrics = run.data.tags, run.data.metrics
    started = datetime.fromtimestamp(run.info.start_time / 1000, UTC).isoformat(timespec="seconds")
    about = {"run": run.info.run_id, "model": tags.get("model"), "status": run.info.status.lower(), "started": started}
    return about | {"commit": tags.get("git_commit")} | {name: metrics.get(name) for name in FIGURES}


def _cell(name: str, value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    if name == "commit" and value:
        return str(value)[:12]
    return "" if value is None else str(value)
