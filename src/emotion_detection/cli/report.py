"""`emotion report`: what a retraining changed, for a pull request.

dvc repro | tee log.txt; emotion report --base origin/main --log log.txt
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emotion_detection.cli.output import AsJson, print_json
from emotion_detection.errors import ArtifactError

if TYPE_CHECKING:
    from emotion_detection.changes import Retraining
    from emotion_detection.params import Params

REPORT, CANDIDATE = "report.md", "candidate.txt"


def report(
    base: Annotated[
        list[str] | None,
        typer.Option(
            envvar="BASE",
            help="What to compare with: a git revision with its dvc.lock, or a directory with params.yaml and "
            "metrics.json. Given several times, the first that has figures counts.",
        ),
    ] = None,
    log: Annotated[Path | None, typer.Option(help="What `dvc repro` printed, to tell which stages ran.")] = None,
    directory: Annotated[Path, typer.Option("--to", help="Where report and pictures are put.")] = Path("report"),
    incident: Annotated[str, typer.Option(envvar="INCIDENT", help="What the retraining was started by.")] = "",
    as_json: AsJson = False,
) -> None:
    """Tell what a retraining changed: parameters, stages, figures against another state, and who may be promoted.

    Writes report.md, candidate.txt (a version, or nothing), the pictures, and params.yaml and dvc.lock that go with
    them; registers the candidate if it is not yet.
    """
    from emotion_detection.changes import Retraining, first_known, markdown, present_state, stages_of
    from emotion_detection.params import load_params

    params = load_params()
    before, unknown = first_known(base or [])
    stages = stages_of(log.read_text(encoding="utf-8")) if log and log.exists() else {}
    found = Retraining(present_state(), before, unknown, stages, _candidate(params))
    text = f"{_title(incident)}\n\n{markdown(found)}{_pictures()}\n"
    try:
        _write(directory, text, found.candidate[0] if found.candidate else "", list(params.models))
    except OSError as error:
        raise ArtifactError(f"{error.filename or directory}: cannot be written: {error.strerror}; see --to") from None
    if as_json:
        print_json(_record(found))
    else:
        print(text, end="")


def _candidate(params: Params) -> tuple[str, str] | None:
    """Version and name of the best model, unless it is champion."""
    from emotion_detection.promotion import best_model, registered
    from emotion_detection.registry import Registry

    version = registered(params, Registry(params.registry.model), best_model(params))
    return None if version.is_champion else (version.version, version.model)


def _title(incident: str) -> str:
    named = re.sub(r"[^\w.:-]", "", incident)[:100]  # it comes from outside, and stands in a page
    return f"## Retraining{f' for incident {named}' if named else ''}"


def _pictures() -> str:
    where = [os.environ.get(f"GITHUB_{name}", "") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID")]
    link = f" of [this run]({where[0]}/{where[1]}/actions/runs/{where[2]})" if all(where) else ""
    return f"Pictures: `comparison/index.html` and `figures/` in the artifact `report`{link}."


def _write(directory: Path, text: str, candidate: str, models: list[str]) -> None:
    from emotion_detection.artifacts import COMPARISON, DVC_LOCK, report_dir
    from emotion_detection.params import PARAMS_FILE

    directory.mkdir(parents=True, exist_ok=True)
    (directory / REPORT).write_text(text, encoding="utf-8")
    (directory / CANDIDATE).write_text(candidate, encoding="utf-8")
    shutil.copytree(COMPARISON, directory / COMPARISON, dirs_exist_ok=True)
    for model in models:
        shutil.copytree(report_dir(model) / "figures", directory / "figures" / model, dirs_exist_ok=True)
    for file in filter(Path.exists, (PARAMS_FILE, DVC_LOCK)):
        shutil.copy(file, directory)


def _record(found: Retraining) -> dict[str, object]:
    return {
        "before": found.before.name if found.before else None,
        "unknown": list(found.unknown),
        "params": {key: {"before": old, "now": new} for key, (old, new) in found.changed_params().items()},
        "stages": dict(found.stages),
        "models": {name: model.model_dump() for name, model in found.now.comparison.models.items()},
        "candidate": found.candidate[0] if found.candidate else None,
    }
