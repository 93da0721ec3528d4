"""A clone of this checkout in an empty directory, with a small data set, through which the real pipeline runs."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from ruamel.yaml import YAML

from emotion_detection.params import merge

ROOT = Path(__file__).parents[1]
SMALL = {
    "data": {"synthetic": {"count": 400}, "shards": 2},
    "training": {"batch_size": 32, "epochs": 1},
    "models": {
        "lenet": {"architecture": "lenet", "training": {"epochs": 3}},
        "vit": {"architecture": "vit", "dim": 16, "depth": 1, "heads": 2},
    },
    "evaluation": {"bootstrap": 200, "mistakes": 6, "explained": 4, "robustness_images": 10},
    "export": {"int8": {"calibration_images": 64, "tolerance": 1.0, "min_speedup": 0.0}},  # kept, however small it is
    "gate": {
        "min_accuracy": 0.0,
        "min_recall": 0.0,
        "min_slice_accuracy": 0.0,
        "min_corrupted_accuracy": 0.0,
        "max_ece": 1.0,
    },
}


@dataclass(frozen=True)
class Clone:
    """A git clone with its own DVC cache and registry."""

    path: Path

    def environment(self, **extra: str) -> dict[str, str]:
        """The process environment without settings that would lead out of the clone."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "EMOTION_", "DVC_"))}
        clean["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{clean['PATH']}"
        clean["PYTHONPATH"] = str(self.path / "src")
        clean.pop("PYTHONDONTWRITEBYTECODE", None)  # as users run it: bytecode beside the sources must not matter
        for role in ("AUTHOR", "COMMITTER"):
            clean |= {f"GIT_{role}_NAME": "test", f"GIT_{role}_EMAIL": "test@example.org"}
        return clean | extra

    def run(self, *command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            command, cwd=self.path, env=self.environment(**environment), capture_output=True, text=True, check=False
        )
        if check and result.returncode:
            pytest.fail(f"{' '.join(command)} exited {result.returncode}:\n{result.stdout}\n{result.stderr}")
        return result

    def repro(self, *arguments: str, **environment: str) -> list[str]:
        """Run `dvc repro`; the stages that ran, in order, without the one that runs every time."""
        output = self.run("dvc", "repro", *arguments, **environment).stdout
        stages = re.findall(r"^Running stage '([^']+)'", output, re.M)
        return [stage for stage in stages if stage != "fingerprint"]

    def set_params(self, **sections: object) -> None:
        yaml, path = YAML(), self.path / "params.yaml"
        yaml.dump(merge(yaml.load(path), sections), path)

    def commit(self, message: str) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", message)


def clone_of_this_checkout(path: Path) -> Clone:
    """The working tree as it is now (not only what is committed), as a repository of its own."""
    path.mkdir()
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in listed.splitlines():
        if (ROOT / name).is_file():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, path / name)
    (path / "dvc.lock").unlink(missing_ok=True)
    clone = Clone(path)
    clone.run("git", "init", "-q", "-b", "main")
    clone.set_params(
        models={"emotion_cnn": None, **SMALL["models"]}, **{k: v for k, v in SMALL.items() if k != "models"}
    )
    clone.commit("start")
    return clone


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(url: str, seconds: float = 60) -> None:
    """Wait until a server answers without an error of its own."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url).status_code < 500:
                return
        time.sleep(0.2)
    pytest.fail(f"{url} did not answer within {seconds} s")
