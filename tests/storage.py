"""What a team keeps its things in, really running: PostgreSQL, and an S3 server that checks keys."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.clone import free_port


@contextmanager
def postgresql_server(user: str) -> Iterator[str]:
    """URL of an empty database on a server of its own; skips where this machine has no PostgreSQL."""
    programs = postgresql_programs()
    port = free_port()
    with TemporaryDirectory() as directory:
        identity = as_postgres(Path(directory))
        make = [programs / "initdb", "-D", f"{directory}/db", "-A", "trust", "-U", user, "--no-sync"]
        subprocess.run(make, check=True, capture_output=True, cwd=directory, **identity)  # type: ignore[call-overload]
        serve = [programs / "postgres", "-D", f"{directory}/db", "-k", directory, "-p", str(port), "-F"]
        with (Path(directory) / "log").open("wb") as log:
            server = subprocess.Popen(serve, cwd=directory, stderr=log, stdout=log, **identity)  # type: ignore[call-overload]
        try:
            wait_for_port(port)
            yield f"postgresql://{user}@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(30)


def postgresql_programs() -> Path:
    """Where Debian keeps initdb and its kin; skips where they are not."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
    if programs is None:
        pytest.skip("no PostgreSQL on this machine: apt-get install postgresql")
    return programs


def as_postgres(directory: Path) -> dict[str, str]:
    """Who shall run PostgreSQL, for `subprocess`: it refuses to run as root. The directory becomes theirs."""
    if os.getuid() != 0:
        return {}
    shutil.chown(directory, "postgres")
    return {"user": "postgres"}


@dataclass(frozen=True)
class Bucket:
    """An empty bucket, and the keys that its server wants."""

    name: str
    endpoint: str
    key: str = "a-key"
    secret: str = "its-secret"

    def environment(self) -> dict[str, str]:
        """What clients of AWS, DVC and MLflow among them, look at."""
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
        }


@contextmanager
def s3_server(directory: Path, name: str = "artifacts") -> Iterator[Bucket]:
    """A bucket on an S3 server whose buckets are the directories below this one."""
    (directory / name).mkdir(parents=True)
    port = free_port()
    bucket = Bucket(name, f"http://127.0.0.1:{port}")
    command = [str(Path(sys.executable).with_name("rclone")), "serve", "s3", "--addr", f"127.0.0.1:{port}"]
    command += ["--config", os.devnull, "--auth-key", f"{bucket.key},{bucket.secret}", str(directory)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        yield bucket
    finally:
        server.kill()
        server.wait()


def wait_for_port(port: int, seconds: float = 60) -> None:
    """Until something listens there."""
    end = time.monotonic() + seconds
    while not listens(port):
        if time.monotonic() > end:
            pytest.fail(f"nothing listens on port {port} after {seconds} s")
        time.sleep(0.05)


def listens(port: int) -> bool:
    """Whether anything takes connections there."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    except OSError:
        return False
