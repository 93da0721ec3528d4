"""Applications that serve the tiny bundle, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from serving.app import create_app
from serving.settings import Settings
from tests.serving.tiny import TinyBundle, wait_until, write_bundle


@pytest.fixture
def tiny(tmp_path: Path) -> TinyBundle:
    return write_bundle(tmp_path / "bundle")


@pytest.fixture
def start() -> Iterator[Callable[..., TestClient]]:
    """Start applications in this process: `client = start(bundle=DIR, max_bytes=1000)`."""
    with ExitStack() as stack:

        def start(ready: bool = True, **settings: object) -> TestClient:
            app = create_app(Settings(retry_seconds=0.05, **({"face_model": None} | settings)))
            client = stack.enter_context(TestClient(app, raise_server_exceptions=False))
            if ready:
                wait_until(lambda: client.get("/readyz").status_code == 200)
            return client

        yield start


@pytest.fixture
def client(tiny: TinyBundle, start: Callable[..., TestClient]) -> TestClient:
    return start(bundle=tiny.directory)


@pytest.fixture
def bundles(sqlite_uri: str, tmp_path: Path) -> list[TinyBundle]:
    """Versions 1 (the champion) and 2 of `registered.MODEL` in a registry in sqlite."""
    from tests.serving.registered import MODEL, promote, register  # MLflow takes a second to import

    found = [write_bundle(tmp_path / str(seed), seed, spread=9) for seed in (1, 2)]
    for bundle in found:
        register(sqlite_uri, bundle, MODEL)
    promote(sqlite_uri, MODEL, "1")
    return found
