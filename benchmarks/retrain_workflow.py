"""How long the workflow `retrain` takes: everything, as in a new fork, then a pull request that changes one parameter.

    python -m benchmarks.retrain_workflow [models.lenet.dropout=0.3] [--small]

Both run from the workflow's file (tests/actions.py), in clean clones, the second with the cache that the first has
left. GitHub adds what it takes to start a machine and to install the environment. `--small`: few images, two models.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from emotion_detection.params_edit import parse_settings
from tests.actions import Runner, event, only
from tests.clone import ROOT, Clone, clone_of_this_checkout


def timed(runner: Runner, job: str, github: dict[str, Any]) -> float:
    """Run the workflow; print and return a job's minutes, with its stages."""
    start = time.monotonic()
    log = only(runner.run("retrain.yml", github), job).log
    minutes = (time.monotonic() - start) / 60
    ran = re.findall(r"^Running stage '([^']+)'", log, re.M)
    fetched = re.findall(r"^Stage '([^']+)' is cached", log, re.M)
    print(
        f"{job:7} {minutes:5.1f} min; run ({len(ran)}): {', '.join(ran)}; from the cache ({len(fetched)})", flush=True
    )
    return minutes


def upstream(directory: Path, small: bool) -> Clone:
    """The repository, with its own parameters or small ones."""
    clone = clone_of_this_checkout(directory / "upstream")
    if not small:
        shutil.copy(ROOT / "params.yaml", clone.path)
        clone.commit("the parameters of this checkout")
    return clone


def change(clone: Clone, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Commit a change of parameters; the event of a pull request with it."""
    base = clone.run("git", "rev-parse", "HEAD").stdout.strip()
    clone.set_params(**settings)
    clone.commit("one parameter")
    about = {"number": 1, "base": {"sha": base}, "head": {"repo": {"full_name": "of/a-fork"}}}
    return event("pull_request", pull_request=about)


def main(
    setting: Annotated[str, typer.Argument(metavar="KEY=VALUE")] = "models.lenet.dropout=0.3",
    small: Annotated[bool, typer.Option("--small")] = False,
) -> None:
    """Print minutes and stages of both, and their ratio."""
    with tempfile.TemporaryDirectory() as directory:
        clone = upstream(Path(directory), small)
        runner = Runner(Path(directory) / "github", clone.path)
        everything = timed(runner, "train", event("push"))
        one = timed(runner, "review", change(clone, parse_settings([setting])))
    print(f"{setting}: {one / everything:.2f} of a full run")


if __name__ == "__main__":
    typer.run(main)
