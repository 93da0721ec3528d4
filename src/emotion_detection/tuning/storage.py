"""The database of a study: an sqlite file that processes of one machine share, or a server for several machines.

storage = open_storage("sqlite:///tuning/vit/study.db")
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage

from emotion_detection.errors import TuningError

HEARTBEAT, GRACE = 10, 60
"""Seconds between two signs of life of a trial, and without one after which it is given up."""
SQLITE = "sqlite:///"


def open_storage(url: str) -> RDBStorage:
    """The database at an SQLAlchemy URL, made if it is an sqlite file that does not exist.

    Raises:
        TuningError: it cannot be reached, its driver is missing, or another version of Optuna has written it.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        if url.startswith(SQLITE):
            Path(url.removeprefix(SQLITE)).absolute().parent.mkdir(parents=True, exist_ok=True)
        storage = _connected(url, attempts=5)
    except (sqlalchemy.exc.SQLAlchemyError, StorageInternalError, ImportError, RuntimeError, OSError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise TuningError(
            f"--storage {shown(url)}: {reason}; expected a database such as sqlite:///study.db or "
            "postgresql://USER:PASSWORD@HOST/DATABASE"
        ) from error
    if url.startswith(SQLITE):
        _take_turns(storage.engine)
    return storage


def shown(url: str) -> str:
    """A database's URL without its password."""
    try:
        return sqlalchemy.make_url(url).render_as_string(hide_password=True)
    except sqlalchemy.exc.ArgumentError:
        return url


def _connected(url: str, attempts: int) -> RDBStorage:
    options: dict[str, Any] = (
        {"connect_args": {"timeout": GRACE}} if url.startswith(SQLITE) else {"pool_pre_ping": True}
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return RDBStorage(url, options, heartbeat_interval=HEARTBEAT, grace_period=GRACE)
    except (sqlalchemy.exc.DBAPIError, StorageInternalError, RuntimeError):
        if attempts == 1:
            raise
    time.sleep(0.3)  # two processes may have made the tables at the same moment, and one of them failed
    return _connected(url, attempts - 1)


def _take_turns(engine: sqlalchemy.Engine) -> None:
    """Let whoever begins a transaction have the sqlite file alone.

    By default reading locks nothing there: two processes would give two trials the same number, and take the same
    trial from the queue (SQLAlchemy's manual, "Serializable isolation / Savepoints / Transactional DDL").
    """
    sqlalchemy.event.listen(engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
    sqlalchemy.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    engine.dispose()
