"""Time from the start of the process to the first answer of /readyz.

    python -m benchmarks.serving.ready [BUNDLE]            # none: an untrained emotion_cnn, needs TensorFlow

Once from a bundle directory, once from the cache while the registry accepts connections and never says a word, which is
the slowest way for it to be away.
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.serving.bundles import export_untrained
from benchmarks.serving.servers import ours, running
from emotion_detection.bundle import read_bundle
from serving.cache import BundleCache
from serving.settings import Settings


def from_cache(bundle: Path, directory: Path) -> float:
    """Seconds."""
    settings = Settings(cache=directory / "cache")
    shutil.copytree(bundle, settings.cache / settings.model / "1", dirs_exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        os.environ["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{silent.getsockname()[1]}"
        BundleCache(settings).remember("1", None, read_bundle(bundle))
        with running("-m", "serving", "--cache", str(settings.cache), "--port") as server:
            return server.ready_seconds


def from_directory(bundle: Path) -> float:
    """Seconds."""
    with ours(bundle) as server:
        return server.ready_seconds


def main(bundle: Annotated[Path | None, typer.Argument()] = None, rounds: int = 5) -> None:
    """Print medians and the slowest."""
    with tempfile.TemporaryDirectory() as name:
        if bundle is None:
            bundle = Path(name) / "emotion_cnn"
            export_untrained("emotion_cnn", bundle)
        for title, seconds in {
            "from a bundle directory": [from_directory(bundle) for _ in range(rounds)],
            "from the cache, the registry hangs": [from_cache(bundle, Path(name)) for _ in range(rounds)],
        }.items():
            print(f"ready {title}: {statistics.median(seconds):.2f} s, slowest {max(seconds):.2f} s")


if __name__ == "__main__":
    typer.run(main)
