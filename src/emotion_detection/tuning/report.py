"""What a study has found: a table, two pictures, and the best values as a change of params.yaml.

tuning/NAME/report/trials.csv        number, state, value, epochs, reason, then a column for each key; best first
                   best.yaml         the change of params.yaml
                   history.png       the best value over the trials
                   importance.png    which hyperparameters matter; from four trials on
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from ruamel.yaml import YAML

from emotion_detection.artifacts import atomic_file
from emotion_detection.errors import TuningError
from emotion_detection.figures import Drawing, write_figures
from emotion_detection.tuning import figures
from emotion_detection.tuning.search import Search
from emotion_detection.tuning.space import Space, Values, patch, settings
from emotion_detection.tuning.study import FINISHED, REASON, trials, values_of
from emotion_detection.tuning.task import Task

REPORT = "report"
FEWEST = 4
"""Trials with all epochs below which nothing can be said about importance."""


@dataclass(frozen=True)
class Row:
    """One finished trial."""

    number: int
    state: str
    """`finished`, `ended early` or `failed`."""
    value: float | None
    """Best of its epochs on val."""
    epochs: int
    reason: str | None
    values: Values


@dataclass(frozen=True)
class Summary:
    """What a study has found."""

    study: str
    model: str
    metric: str
    rows: list[Row]
    """Best first; those that were ended early after those that were not."""
    importance: dict[str, float]
    """Share of each key; empty where there are too few trials."""

    @property
    def best(self) -> Row:
        return self.rows[0]

    @property
    def yaml(self) -> str:
        """The best values as a change of params.yaml."""
        text = StringIO()
        YAML().dump(patch(self.model, self.best.values), text)
        return text.getvalue()

    @property
    def settings(self) -> list[str]:
        """The best values as words for `emotion run`."""
        return settings(self.model, self.best.values)

    def record(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self) | {"best": asdict(self.best), "settings": self.settings}


def conclude(search: Search) -> Summary:
    """Summarize a study, write its report, and close its run in MLflow with it; errors as `summarize`."""
    try:
        summary = summarize(search.task, search.study)
    except TuningError:
        search.tracked.end("FAILED")
        raise
    write_report(search.task.directory / REPORT, summary)
    search.tracked.end("FINISHED", search.task.directory / REPORT, summary.best.values)
    return summary


def summarize(task: Task, study: Study) -> Summary:
    """Bring a study's finished trials into order.

    Raises:
        TuningError: none has trained all its epochs; the message has the reasons.
    """
    rows = [_row(trial, task.space, task.how.maximize) for trial in trials(study, FINISHED)]
    if not any(row.state == "finished" for row in rows):
        reasons = "; ".join(sorted({row.reason for row in rows if row.reason})) or "it has no finished trial"
        raise TuningError(f"study {task.study}: no trial trained to its end: {reasons}")
    sign = -1 if task.how.maximize else 1
    rows.sort(key=lambda row: (row.state != "finished", row.value is None, sign * (row.value or 0.0), row.number))
    return Summary(task.study, task.name, task.training.monitor, rows, importance(study))


def importance(study: Study) -> dict[str, float]:
    """Share of each key in what makes trials good, by PED-ANOVA (S. Watanabe et al., 2023); empty if it cannot say."""
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(finished) < FEWEST or len({trial.value for trial in finished}) == 1:
        return {}
    return optuna.importance.get_param_importances(study)


def write_report(directory: Path, summary: Summary) -> None:
    """Write the files; see the head of this module.

    Raises:
        ArtifactError: the disk is full or cannot be written.
    """
    with atomic_file(directory / "trials.csv") as temporary:
        _table(summary.rows).to_csv(temporary, index=False, lineterminator="\n")
    with atomic_file(directory / "best.yaml") as temporary:
        temporary.write_text(summary.yaml, encoding="utf-8")
    with tempfile.TemporaryDirectory(dir=directory, prefix=".") as pictures:
        write_figures(Path(pictures), _drawings(summary))
        for picture in Path(pictures).iterdir():  # one by one: another process may end at the same time
            picture.replace(directory / picture.name)


def _drawings(summary: Summary) -> dict[str, Drawing]:
    shown = sorted((row for row in summary.rows if row.value is not None), key=lambda row: row.number)
    early = [row.state != "finished" for row in shown]
    reached = [row.value for row in shown if row.value is not None]
    drawings: dict[str, Drawing] = {"history": partial(figures.history, reached, early, summary.metric)}
    if summary.importance:
        drawings["importance"] = partial(figures.importance, summary.importance, summary.metric)
    return drawings


def _row(trial: FrozenTrial, space: Space, maximize: bool) -> Row:
    reported = [value for value in trial.intermediate_values.values() if value == value]  # noqa: PLR0124  not NaN
    reason = trial.user_attrs.get(REASON)
    state = "failed" if reason else "finished" if trial.state == TrialState.COMPLETE else "ended early"
    best = (max if maximize else min)(reported, default=None)
    return Row(trial.number, state, best, len(trial.intermediate_values), reason, values_of(trial, space) or {})


def _table(rows: Sequence[Row]) -> pd.DataFrame:
    plain = [{key: value for key, value in asdict(row).items() if key != "values"} | row.values for row in rows]
    return pd.DataFrame(plain)
