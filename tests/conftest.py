"""Fixtures for all tests that need a finished project or an MLflow server, built once per session; and which tests
go to one worker.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.project import copy_project, mlflow_server, write_project

os.environ.pop("PUSHGATEWAY_URL", None)  # whoever runs the tests: what they do is no news of a pipeline


@pytest.hookimpl(tryfirst=True)  # pytest-xdist looks at the marks in this hook, too
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share a fixture of their file or folder run in one worker, so that it is made once."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None and (shared := shared_by(item)):
            item.add_marker(pytest.mark.xdist_group(shared))


def shared_by(item: pytest.Item) -> str:
    """File, or rather folder, whose fixture the test shares with others; empty where there is none."""
    fixtures = item._fixtureinfo.name2fixturedefs.values()  # pytest has no public way
    places = {found[-1].scope: found[-1].baseid for found in fixtures if found[-1].baseid}
    return str(places.get("package", places.get("module", ""))).removeprefix("tests/").removesuffix(".py")


@pytest.fixture(scope="session")
def project_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    template = tmp_path_factory.mktemp("template") / "project"
    write_project(template)
    return template


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An sqlite file with MLflow's tables, which take seconds to make."""
    from emotion_detection.mlflow_store import connect

    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    connect(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def sqlite_uri(empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The default store of the directory `tmp_path`, which becomes the current one."""
    from emotion_detection.mlflow_store import tracking_uri

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    Path("mlruns").mkdir()
    shutil.copy(empty_database, "mlruns/mlflow.db")
    return tracking_uri()


@pytest.fixture
def project(project_template: Path, sqlite_uri: str, tmp_path: Path) -> Path:
    """The current directory: a project with three finished models and an empty registry."""
    assert sqlite_uri.endswith(str(tmp_path / "mlruns/mlflow.db"))
    return copy_project(project_template, tmp_path)


@pytest.fixture(scope="session")
def server_url(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("server"), empty_database) as (url, _):
        yield url
