"""Processes that share a study: exactly as many finished trials as asked for, none twice, whoever is killed."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.study import Study
from optuna.trial import TrialState

from emotion_detection.errors import TuningError
from emotion_detection.tuning import owners, storage
from emotion_detection.tuning.interrupt import Interrupt
from emotion_detection.tuning.owners import OWNER, Watch, owner
from emotion_detection.tuning.space import Space
from emotion_detection.tuning.storage import open_storage, shown
from emotion_detection.tuning.study import (
    FINISHED,
    RUNNING,
    How,
    Withdrawn,
    claim,
    complete,
    open_study,
    recover,
    suggest,
    trials,
    values_of,
)
from tests.storage import postgresql_server

ROOT = Path(__file__).parents[2]
GRID = Space("toy", {"a": IntDistribution(1, 4), "b": IntDistribution(1, 3)}, {})
LINE = Space("toy", {"x": FloatDistribution(0.0, 1.0)}, {})
HOW = How(seed=0, epochs=3, maximize=True, startup=3, pruner="none")
pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage")  # trials are asked for by hand here
WORKER = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}]
from tests.tuning.test_study import GRID, work
work(sys.argv[1], int(sys.argv[2]), GRID)
"""


class Quick:
    """Draws and claims as real trials do, but trains for a moment only."""

    def __init__(self, study: Study, wanted: int, space: Space) -> None:
        self.study, self.wanted, self.space, self.interrupt = study, wanted, space, Interrupt()

    def __call__(self, trial: optuna.Trial) -> float:
        trial.set_user_attr(OWNER, owner())
        suggest(trial, self.space.distributions)
        values = claim(self.study, trial, self.space, self.wanted)
        time.sleep(random.uniform(0.0, 0.05))
        return float(sum(values.values()))

    def told(self) -> None:
        pass


def work(url: str, wanted: int, space: Space) -> None:
    study, _ = open_study(open_storage(url), "shared", HOW)
    complete(study, space, Quick(study, wanted, space), wanted)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'sub' / 'study.db'}"


@pytest.fixture
def study(url: str) -> Study:
    return open_study(open_storage(url), "one", HOW)[0]


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """A real server, if this machine has one."""
    with postgresql_server("tuner") as url:
        yield url


def start(url: str, wanted: int) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    return subprocess.Popen([sys.executable, "-c", WORKER, url, str(wanted)], env=environment)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_processes_that_start_together_and_are_killed_finish_every_combination_once(
    database: str, url: str, request: pytest.FixtureRequest
) -> None:
    url = url if database == "sqlite" else str(request.getfixturevalue("postgresql"))
    first = [start(url, 12) for _ in range(3)]
    opened = open_storage(url)
    watched, _ = open_study(opened, "shared", HOW)
    end = time.monotonic() + 60
    while len(trials(watched, FINISHED)) < 3:
        assert time.monotonic() < end, "no trial was finished"
        assert all(process.poll() is None for process in first)
        time.sleep(0.05)
    for process in first[:2]:
        process.send_signal(signal.SIGKILL)
    second = start(url, 12)
    for process in first:
        process.wait(60)
    assert (first[2].returncode, second.wait(60)) == (0, 0)
    finished = [values_of(trial, GRID) for trial in trials(watched, FINISHED)]
    assert len(finished) == 12
    assert len({str(values) for values in finished}) == 12
    numbers = [trial.number for trial in watched.get_trials(deepcopy=False)]
    assert sorted(set(numbers)) == sorted(numbers)
    opened.engine.dispose()


def open_at(url: str, moment: float, errors: SimpleQueue[str]) -> None:
    while time.time() < moment:
        pass
    try:
        open_storage(url)
    except TuningError as error:
        errors.put(str(error))
    else:
        errors.put("")


def test_processes_that_make_the_database_at_the_same_moment_all_have_it(url: str) -> None:
    context = multiprocessing.get_context("spawn")
    errors, moment = context.SimpleQueue(), time.time() + 4
    processes = [context.Process(target=open_at, args=(url, moment, errors)) for _ in range(3)]
    for process in processes:
        process.start()
    assert [errors.get() for _ in processes] == [""] * 3
    for process in processes:
        process.join()


def test_values_of_a_trial_that_died_are_tried_again_and_by_one_only(study: Study) -> None:
    dead = study.ask(LINE.distributions)  # type: ignore[arg-type]
    gone = subprocess.Popen(["sleep", "0"])
    gone.wait()
    dead.set_user_attr(OWNER, owner() | {"pid": gone.pid})
    for _ in range(2):
        recover(study, LINE, Watch())
    failed, waiting = study.get_trials()
    assert (failed.state, waiting.state) == (TrialState.FAIL, TrialState.WAITING)
    again = study.ask()
    suggest(again, LINE.distributions)
    assert claim(study, again, LINE, 1) == values_of(failed, LINE)
    recover(study, LINE, Watch())
    assert len(study.get_trials()) == 2


def test_a_trial_of_a_process_that_lives_stays(study: Study) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        import psutil

        about = {"pid": other.pid, "started": psutil.Process(other.pid).create_time()}
        study.ask(LINE.distributions).set_user_attr(OWNER, owner() | about)  # type: ignore[arg-type]
        elsewhere = study.ask(LINE.distributions)  # type: ignore[arg-type]
        elsewhere.set_user_attr(OWNER, {"machine": "another", "pid": 1, "started": 0.0})
        recover(study, LINE, Watch())
        other.kill()
    assert [trial.state for trial in study.get_trials()] == [RUNNING, RUNNING]


def test_a_trial_without_owner_is_given_up_after_a_while(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process was killed between two statements."""
    study.ask()
    watch = Watch()
    recover(study, LINE, watch)
    assert study.get_trials()[0].state == RUNNING
    monkeypatch.setattr(owners, "NEWBORN", 0)
    recover(study, LINE, watch)
    assert [trial.state for trial in study.get_trials()] == [TrialState.FAIL]


def test_a_trial_of_another_machine_is_given_up_without_heartbeat(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "GRACE", 1)
    opened = open_storage(url)
    study, _ = open_study(opened, "one", HOW)
    trial = study.ask(LINE.distributions)  # type: ignore[arg-type]
    trial.set_user_attr(OWNER, {"machine": "another", "pid": 1, "started": 0.0})
    opened.record_heartbeat(trial._trial_id)
    time.sleep(2.5)  # SQLite's clock has whole seconds
    recover(study, LINE, Watch())
    assert [trial.state for trial in study.get_trials()] == [TrialState.FAIL, TrialState.WAITING]


def test_the_last_place_goes_to_the_lower_number(study: Study) -> None:
    first, second = study.ask(LINE.distributions), study.ask(LINE.distributions)  # type: ignore[arg-type]
    with pytest.raises(Withdrawn, match="1 trials are there already"):
        claim(study, second, LINE, 1)
    claim(study, first, LINE, 1)


def test_what_a_trial_draws_depends_on_seed_and_number_alone(tmp_path: Path) -> None:
    def drawn(name: str, how: How) -> list[float]:
        study, _ = open_study(open_storage(f"sqlite:///{tmp_path / name}"), "x", how)
        return [study.ask(LINE.distributions).params["x"] for _ in range(2)]  # type: ignore[arg-type]

    first = drawn("a.db", HOW)
    assert first == drawn("b.db", HOW)
    assert first[0] != first[1]
    other = How(seed=1, epochs=3, maximize=True, startup=3, pruner="none")
    assert set(first).isdisjoint(drawn("c.db", other))


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "sqlite:////proc/nowhere/study.db",
        "oracle://u:secret@host/db",
        "postgresql://u:secret@127.0.0.1:1/db",
    ],
)
def test_a_database_that_cannot_be_used_is_named_without_its_password(url: str) -> None:
    with pytest.raises(TuningError, match="--storage") as error:
        open_storage(url)
    assert "secret" not in str(error.value)
    assert shown(url).split("//")[-1][:3] in str(error.value)
