"""The stack of docs/team.md, started with the commands that stand there."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.clone import ROOT, Clone, free_port, wait_for
from tests.serving.tiny import wait_until
from tests.storage import listens, wait_for_port


class Team:
    """The stack of docs/team.md at addresses of this machine."""

    def __init__(self, directory: Path, database: str) -> None:
        self.directory = directory
        self.port, self.storage_port = free_port(), free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._here = {
            "postgresql+psycopg://mlflow@127.0.0.1:5432/mlflow": database,
            "/srv/emotion": str(directory),
            "http://127.0.0.1:9000": f"http://localhost:{self.storage_port}",
            "http://storage.example.org:9000": f"http://127.0.0.1:{self.storage_port}",
            "0.0.0.0:9000": f"127.0.0.1:{self.storage_port}",
            "mlflow.example.org:5000": f"127.0.0.1:{self.port}",
            "--port 5000": f"--port {self.port}",
            "0.0.0.0": "127.0.0.1",
        }
        (directory / "mlflow.env").write_text(self.block("MLflow", "ini"))
        (directory / "auth.ini").write_text(self.block("MLflow", "ini", 1))

    def block(self, section: str, language: str, number: int = 0) -> str:
        """What the page says, with the addresses of this machine."""
        text = (ROOT / "docs/team.md").read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
        found: str = re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)[number]
        for there, here in self._here.items():
            found = found.replace(there, here)
        return found

    def person(self, name: str, word: str = "") -> dict[str, str]:
        """Variables of somebody; the word is their password, by default the page's."""
        word = word or f"WORD-OF-{name.upper()}"
        return {"MLFLOW_TRACKING_URI": self.uri, "MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": word}

    @contextmanager
    def mlflow(self) -> Iterator[None]:
        command = self.block("MLflow", "bash")
        with self._running(command, self.port, MLFLOW_WORKERS="1", MLFLOW_DISABLE_TELEMETRY="true"):
            wait_for(f"{self.uri}/health", 300)
            yield

    @contextmanager
    def storage(self, **words: str) -> Iterator[None]:
        """The S3 server; `mlflow="..."` gives the key of that name another word."""
        command = self.block("S3", "bash")
        for name, word in words.items():
            command = command.replace(f"{name},WORD-OF-{name.upper()}", f"{name},{word}")
        with self._running(command, self.storage_port, RCLONE_CONFIG=os.devnull):
            wait_for_port(self.storage_port)
            yield

    @contextmanager
    def _running(self, command: str, port: int, **variables: str) -> Iterator[None]:
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                ["bash", "-ec", command],
                cwd=self.directory,
                env=Clone(ROOT).environment(**variables),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)
            wait_until(lambda: not listens(port))  # until its last child has gone
