"""Where MLflow keeps its records, and how it is spoken to: every MLflow setting of the project is here.

    MLFLOW_TRACKING_URI=http://host:5000 make run     a shared server; without it sqlite under mlruns/

Needs mlflow-skinny only (for a database URI also sqlalchemy and alembic), so that the server can use it.
MLflow's own environment variables win over the defaults set here.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    # A server that does not answer must be noticed in seconds; by default MLflow tries for minutes.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    # Files go through MLflow's server. It would hand out signed addresses of its storage, which it alone may reach.
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
}
for _name, _value in _DEFAULTS.items():  # before MLflow is imported: it reads some of them only then
    os.environ.setdefault(_name, _value)

import requests  # noqa: E402
from mlflow import MlflowClient  # noqa: E402
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_TIMEOUT  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.utils.credentials import get_default_host_creds  # noqa: E402

from emotion_detection.errors import RegistryError  # noqa: E402

DIRECTORY = Path("mlruns")
CONNECT_SECONDS = 5
Result = TypeVar("Result")
_DATABASE = r"(sqlite|postgresql|mysql|mssql)(\+\w+)?://"
_SQLITE = "sqlite:///"
_REMOTE = ("http://", "https://")
_STATUS = re.compile(r"error code (\d{3}) |too many (\d{3}) error|(\d{3}) (?:Client|Server) Error")
"""How MLflow and requests tell of an HTTP status."""
_ARTIFACTS = "mlflow-artifacts"
"""In the path of MLflow's server below which the files are."""
_OF_LOGIN = re.compile("You are not authenticated|(text: |body: ')Permission denied")
"""What MLflow's login says; with the same statuses it also hands on what its storage says to its own keys."""
_FIRST_FILE = re.compile(r"^##### File (.+) #####\n(.+)$", re.MULTILINE)
"""Of those that could not be fetched, and why."""

for _logger, _level in {
    "alembic": logging.WARNING,
    "mlflow": logging.ERROR,
    "mlflow.system_metrics": logging.CRITICAL,
    "urllib3.connectionpool": logging.ERROR,
}.items():
    logging.getLogger(_logger).setLevel(_level)


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, else an sqlite file under `mlruns` of the current directory, which is created."""
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return uri
    directory = DIRECTORY.absolute()
    directory.mkdir(exist_ok=True)
    return f"sqlite:///{directory / 'mlflow.db'}"


def artifact_location(uri: str) -> str | None:
    """Where a new experiment keeps its files: beside an sqlite file; elsewhere the server decides (none)."""
    if not uri.startswith(_SQLITE):
        return None
    return str(Path(uri.removeprefix(_SQLITE)).absolute().parent / "artifacts")


def connect(uri: str | None = None) -> MlflowClient:
    """Client of the tracking server and registry at `uri`, by default `tracking_uri()`.

    Raises:
        RegistryError: it does not answer within seconds, or the URI is none that MLflow knows.
    """
    uri = uri or tracking_uri()
    with explained(uri):
        if uri.startswith(_REMOTE):  # any answer will do: 401 and 403 are explained by the call that meets them
            patience: float = MLFLOW_HTTP_REQUEST_TIMEOUT.get()  # type: ignore[no-untyped-call]
            requests.get(f"{uri.rstrip('/')}/health", timeout=(CONNECT_SECONDS, patience))
        elif re.match(_DATABASE, uri):
            _probe_database(uri)
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _probe_database(uri: str) -> None:
    try:
        import sqlalchemy  # noqa: PLC0415
        from mlflow.store.db.utils import _safe_initialize_tables  # noqa: PLC0415
    except ImportError:
        raise RegistryError(
            f"MLflow at {shown(uri)}: this environment has no sqlalchemy and so cannot open databases; start "
            "`make ui` and set MLFLOW_TRACKING_URI=http://127.0.0.1:5000"
        ) from None
    if uri.startswith(_SQLITE):
        Path(uri.removeprefix(_SQLITE)).absolute().parent.mkdir(parents=True, exist_ok=True)
    engine = sqlalchemy.create_engine(uri)
    try:  # MLflow itself would try for a hundred seconds
        sqlalchemy.inspect(engine).has_table("experiments")
        if uri.startswith(_SQLITE):  # two trainings that open a new file at once would both make its tables, and fail
            _safe_initialize_tables(engine)
    finally:
        engine.dispose()


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn whatever MLflow raises in the block into a RegistryError that says what to do."""
    try:
        yield
    except Exception as error:
        of_database = type(error).__module__.partition(".")[0] in ("sqlalchemy", "alembic")
        if not (of_database or isinstance(error, MlflowException | OSError)):
            raise
        raise RegistryError(f"MLflow at {shown(uri)}: {_complaint(error, uri)}") from error


def if_any(call: Callable[[], Result]) -> Result | None:
    """What the call finds; none where MLflow says that there is no such thing."""
    try:
        return call()
    except MlflowException as error:
        # An alias that does not exist is reported as an invalid value.
        if error.error_code == "RESOURCE_DOES_NOT_EXIST" or re.search("alias .* not found", error.message):
            return None
        raise


def shown(uri: str) -> str:
    """The URI without a password."""
    return re.sub(r"(?<=://)([^/@]*):[^/@]*@", r"\1:***@", uri)


def _complaint(error: Exception, uri: str) -> str:
    """What is wrong, and what to do."""
    text, status, user = str(error), _status(error), _user(uri)
    if status == HTTPStatus.FORBIDDEN and "Invalid Host" in text:
        return f"it is not to be asked by this name; start it with --allowed-hosts {urlsplit(uri).netloc}"
    failed = status not in {0, HTTPStatus.NOT_FOUND} or "Connection aborted" in text  # as it ends some of its failures
    if failed and _ARTIFACTS in text and not _OF_LOGIN.search(text):
        return "it fails at its files, such as with keys that its storage refuses; its log says more"
    if status == HTTPStatus.UNAUTHORIZED:
        what = f"refuses user {user!r}, or the password" if user else "wants a name and a password"
        return f"{what}; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to those of a user there"
    if status == HTTPStatus.FORBIDDEN:
        return f"user {user!r} may not do this; whoever administers it can permit it: see docs/team.md"
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return f"it fails ({status}); its log says more"
    return f"{_reason(error)}; {_advice(uri)}"


def _status(error: Exception) -> int:
    """Of the answer of MLflow's server; 0 where there was none."""
    found = _STATUS.search(str(error))
    return int(next(filter(None, found.groups()))) if found else 0


def _user(uri: str) -> str | None:
    """Who we say that we are, if anyone."""
    known: str | None = get_default_host_creds(uri).username  # type: ignore[no-untyped-call]
    return known or urlsplit(uri).username


def _reason(error: Exception) -> str:
    text = str(error)
    if isinstance(error, requests.ConnectionError) or "Max retries exceeded" in text:
        return "no answer"
    if isinstance(error, requests.Timeout) or "timeout exception" in text:
        return "no answer in time"
    if file := _FIRST_FILE.search(text):
        return f"{file[1]}: {file[2]}".removesuffix(".")
    return text.splitlines()[0].removesuffix(".") if text else type(error).__name__


def _advice(uri: str) -> str:
    if uri.startswith(_REMOTE):
        return "start that server, or set MLFLOW_TRACKING_URI to another, or unset it to use mlruns/ here"
    return "check MLFLOW_TRACKING_URI (http://HOST:PORT or sqlite:///PATH), or unset it to use mlruns/ here"
