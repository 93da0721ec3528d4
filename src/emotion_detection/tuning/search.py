"""Search good hyperparameters of one model: `emotion tune NAME --trials N`.

    search = Search(prepare("vit", load_params(), epochs=8), trials=20)
    search.run()
    conclude(search)                   # report.py

Every trial is a training by the pipeline's own code on the pipeline's shards, judged on val; test is not read. All
that is found lies in a database: killed at any moment, started again, or run by several processes at once, the
same command brings the same study to N finished trials, and goes on with a broken-off trial after its last epoch.
"""

from __future__ import annotations

import shutil

import optuna

from emotion_detection.errors import TuningError
from emotion_detection.tuning.objective import Objective
from emotion_detection.tuning.space import current_values
from emotion_detection.tuning.storage import open_storage, shown
from emotion_detection.tuning.study import FINISHED, Say, complete, open_study, trials
from emotion_detection.tuning.task import Task
from emotion_detection.tuning.tracking import StudyRun


def run_trials(search: Search) -> None:
    """Do the trials of a search; errors as `Search.run`."""
    search.run()


class Search:
    """The trials of one study, as far as this process does them."""

    def __init__(self, task: Task, wanted: int, url: str | None = None, say: Say = print) -> None:
        """Open the study.

        Args:
            task: as `prepare` gives it.
            wanted: finished trials that the study shall have in all.
            url: of its database, as SQLAlchemy knows it; none: an sqlite file in `task.directory`.
            say: takes a line for each trial.

        Raises:
            TuningError: the database cannot be used.
        """
        self.task, self.say = task, say
        self.wanted = int(min(wanted, task.space.size))
        if self.wanted < wanted:
            say(f"the search space has {self.wanted} combinations: no more trials than these")
        self.url = url or f"sqlite:///{task.directory / 'study.db'}"
        self.study, self._created = open_study(open_storage(self.url), task.study, task.how)
        if self._created:
            self._enqueue_current()
        self.tracked = StudyRun(task.params, task.study)
        self._objective = Objective(task, self.study, self.tracked, self.wanted, say)

    @property
    def finished(self) -> int:
        """Trials that came to an end, also an early one."""
        return len(trials(self.study, FINISHED))

    def run(self) -> None:
        """Do trials until the study has as many as were asked for, with those of other processes.

        Raises:
            TuningError: the database cannot be used any longer.
            ArtifactError: the disk is full.
            KeyboardInterrupt: the trial that ran will be gone on with.
        """
        if self.finished < self.wanted:
            self.track()
        try:
            with self._objective.interrupt:
                complete(self.study, self.task.space, self._objective, self.wanted, self.say)
        except optuna.exceptions.StorageInternalError as error:
            reason = str(error.__cause__ or error).splitlines()[0]
            raise TuningError(f"{shown(self.url)}: {reason}; the same command goes on once it is back") from error
        except BaseException as error:
            self.tracked.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise
        shutil.rmtree(self.task.checkpoints, ignore_errors=True)

    def track(self) -> None:
        """Open the study's run in MLflow."""
        how, task = self.task.how, self.task
        about = {"epochs": how.epochs, "seed": how.seed, "pruner": how.pruner}
        ranges = {f"space.{key}": distribution for key, distribution in task.space.distributions.items()}
        tags = {"study": task.study, "model": task.name, "data_hash": task.info.data_hash}
        self.tracked.start(self.study, self._created, about | ranges, tags)

    def _enqueue_current(self) -> None:
        """What params.yaml says is the first trial, so that one sees what tuning has brought."""
        drawn = self.task.space.drawn(current_values(self.task.params, self.task.name, self.task.space))
        if drawn is not None:
            self.study.enqueue_trial(drawn)
