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
