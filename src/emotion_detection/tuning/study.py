"""One study of Optuna in a database that several processes share: each trial is finished once, however they end.

    study = open_study(open_storage("sqlite:///tuning/vit/study.db"), "vit-0f3a...", how)
    recover(study, space)          # what dead processes left is put back into the queue
    claim(study, trial, space, 20) # raises Withdrawn: another process has these values, or the last place

A trial counts from the moment it is in the database, so that two processes cannot both take the last place; which
of two is later its number says, which the database gives out.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning, UpdateFinishedTrialError
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from emotion_detection.tuning.interrupt import Interrupt
from emotion_detection.tuning.owners import Watch
from emotion_detection.tuning.space import Space, Values

RUNNING = TrialState.RUNNING
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
STARTED = (*FINISHED, RUNNING)
PLACED = (*STARTED, TrialState.WAITING)
WITHDRAWN, REASON = "withdrawn", "reason"
LARGEST_GRID = 100_000
POLL_SECONDS = 0.5
JUDGES = 5
"""Finished trials without which the median says little."""


Say = Callable[[str], None]


class Objective(Protocol):
    """Does trials one by one."""

    interrupt: Interrupt

    def __call__(self, trial: Trial) -> float:
        """The value of a trial; raises Withdrawn where it is not to be done."""

    def told(self) -> None:
        """The database has the end of the trial."""


class Withdrawn(Exception):
    """A trial that was drawn but is not trained."""


@dataclass(frozen=True)
class How:
    """How a study draws, judges and ends trials."""

    seed: int
    epochs: int
    maximize: bool
    startup: int
    pruner: str


class SeededTPE(BaseSampler):
    """TPE (J. Bergstra et al., "Algorithms for hyper-parameter optimization", 2011), seeded for each trial anew.

    What a trial draws depends on the seed, its number and the trials before it: no two processes draw the same.
    """

    def __init__(self, seed: int, startup: int) -> None:
        """The first `startup` trials are drawn at random."""
        self._seed, self._startup = seed, startup
        self._sampler = TPESampler(seed=seed, n_startup_trials=startup)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        seed = int(np.random.SeedSequence([self._seed, trial.number]).generate_state(1)[0])
        self._sampler = TPESampler(seed=seed, n_startup_trials=self._startup)
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)


def open_study(storage: RDBStorage, name: str, how: How) -> tuple[Study, bool]:
    """The study of this name, and whether this process has made it."""
    direction = "maximize" if how.maximize else "minimize"
    options: dict[str, Any] = {
        "study_name": name,
        "storage": storage,
        "sampler": SeededTPE(how.seed, how.startup),
        "pruner": pruner(how),
        "direction": direction,
    }
    try:
        return optuna.create_study(**options), True
    except DuplicatedStudyError:
        return optuna.create_study(**options, load_if_exists=True), False


def pruner(how: How) -> BasePruner:
    """What ends trials early: see `TuningParams.pruner`."""
    if how.pruner == "median":
        return MedianPruner(n_startup_trials=min(how.startup, JUDGES))
    if how.pruner == "hyperband":  # L. Li et al., "Hyperband" (2018)
        return HyperbandPruner(min_resource=1, max_resource=how.epochs)
    return NopPruner()


def trials(study: Study, states: Collection[TrialState]) -> list[FrozenTrial]:
    """The trials in these states as the database has them now, by number."""
    return study.get_trials(deepcopy=False, states=tuple(states))


def drawn(trial: FrozenTrial) -> dict[str, Any]:
    """What Optuna has drawn for a trial, or will."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def values_of(trial: FrozenTrial, space: Space) -> Values | None:
    """The values of a trial; none where it was killed before it had all."""
    found = drawn(trial)
    return space.values(found) if found.keys() >= space.distributions.keys() else None


def suggest(trial: Trial, distributions: Mapping[str, BaseDistribution]) -> None:
    """Draw a value for each key."""
    for key, distribution in distributions.items():
        if isinstance(distribution, optuna.distributions.FloatDistribution):
            trial.suggest_float(key, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
        elif isinstance(distribution, optuna.distributions.IntDistribution):
            trial.suggest_int(key, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
        elif isinstance(distribution, optuna.distributions.CategoricalDistribution):
            trial.suggest_categorical(key, distribution.choices)


def claim(study: Study, trial: Trial, space: Space, wanted: int) -> Values:
    """The values of a trial that has just been drawn, if it is to be trained.

    Raises:
        Withdrawn: another trial has the same values, or enough trials were there before it. Two that are drawn
            at the same time may both give way; `recover` puts their values back.
    """
    placed = {other.number: other for other in trials(study, PLACED)}
    mine = space.values(placed.pop(trial.number).params)
    others = placed.values()
    same = [other.number for other in others if other.state in STARTED and values_of(other, space) == mine]
    if same:
        _withdraw(trial, f"the same values as trial {same[0]}")
    if sum(other.number < trial.number for other in others) >= wanted:
        _withdraw(trial, f"{wanted} trials are there already")
    return mine


def _withdraw(trial: Trial, why: str) -> None:
    trial.set_user_attr(WITHDRAWN, why)
    raise Withdrawn(why)


def recover(study: Study, space: Space, watch: Watch) -> None:
    """Fail the trials of processes that are gone, and put the values of all such trials into the queue again.

    May be repeated, broken off at any point, and run by several processes at once. To be called between two trials.
    """
    for trial in trials(study, [RUNNING]):
        if watch.abandoned(trial):
            _fail(study, trial)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)
    placed = [values_of(trial, space) for trial in trials(study, PLACED)]
    for trial in trials(study, [TrialState.FAIL]):
        lost = None if WITHDRAWN in trial.user_attrs else values_of(trial, space)
        if lost is not None and lost not in placed:
            study.enqueue_trial(drawn(trial))
            placed.append(lost)


def complete(study: Study, space: Space, objective: Objective, wanted: int, say: Say = print) -> None:
    """Do trials until the study has `wanted` finished ones, with those of other processes.

    Args:
        study: as `open_study` gives it.
        space: of at least `wanted` combinations.
        objective: claims the trial that it is given, and gives its value.
        wanted: finished trials.
        say: takes a line where this process has to wait.
    """
    watch, waited = Watch(), False
    while (finished := len(trials(study, FINISHED))) < wanted:
        objective.interrupt.check()
        recover(study, space, watch)
        running = len(trials(study, [RUNNING]))
        if finished + running < wanted:
            _one(study, space, objective, say)
            waited = False
        else:
            if running and not waited:
                say(f"waits for {running} trials of other processes")
                waited = True
            time.sleep(POLL_SECONDS)


def _one(study: Study, space: Space, objective: Objective, say: Say) -> None:
    try:
        study.optimize(objective, n_trials=1, gc_after_trial=True)
        objective.told()
    except Withdrawn:
        if space.size <= LARGEST_GRID:
            enqueue_untried(study, space)
    except (UpdateFinishedTrialError, ValueError) as error:
        if isinstance(error, ValueError) and "Cannot tell" not in str(error):
            raise
        say("a trial was given up by another process, which saw no sign of life of this one")


def enqueue_untried(study: Study, space: Space) -> None:
    """Put values into the queue that no trial has; the space is finite."""
    taken = [values_of(trial, space) for trial in trials(study, PLACED)]
    left = [combination for combination in space.grid() if space.values(combination) not in taken]
    if left:
        study.enqueue_trial(left[np.random.default_rng(len(study.trials)).integers(len(left))])


def _fail(study: Study, trial: FrozenTrial) -> None:
    with suppress(UpdateFinishedTrialError, ValueError):  # another process was quicker
        study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
