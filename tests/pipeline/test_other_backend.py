"""JAX trains what TensorFlow judges, exports and serves: one model file, whatever wrote it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from emotion_detection.artifacts import History, read_record
from emotion_detection.bundle import file_sha256, read_bundle
from tests.workspace import MODEL, PARAMS, workspace

ROOT = Path(__file__).parents[2]
TRAINING = "training: {epochs: 2, batch_size: 15, learning_rate: 0.01}\n"
TRAINS = f"""
import sys
from pathlib import Path
from emotion_detection.artifacts import SHARDS, model_dir
from emotion_detection.backend import keras
from emotion_detection.params import load_params
from emotion_detection.tracking import LiveRun
from emotion_detection.training import train

assert keras.backend.backend() == "jax"
params = load_params()
log_epoch = LiveRun.log_epoch

def kill(run, epoch, metrics):
    if epoch == 0:
        raise InterruptedError

LiveRun.log_epoch = kill
try:
    train("{MODEL}", params, SHARDS, Path("resumed"))
except InterruptedError:
    LiveRun.log_epoch = log_epoch
train("{MODEL}", params, SHARDS, Path("resumed"))
train("{MODEL}", params, SHARDS, model_dir("{MODEL}"))
"""

JUDGES = f"""
import sys
from pipeline import evaluate, export
from emotion_detection.backend import keras

assert keras.backend.backend() == "tensorflow"
sys.argv = ["", "{MODEL}"]
evaluate.main()
export.main()
"""


@pytest.fixture(scope="module")
def root(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose model JAX has trained, once as it should be and once interrupted; then judged and exported."""
    directory = tmp_path_factory.mktemp("jax")
    workspace(tmp_path_factory, directory)
    shutil.copy(empty_database, directory / "mlflow.db")
    (directory / "params.yaml").write_text(PARAMS + TRAINING)
    environment = os.environ | {
        "KERAS_BACKEND": "jax",
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
        "MLFLOW_TRACKING_URI": f"sqlite:///{directory}/mlflow.db",
    }
    for script in (TRAINS, JUDGES):
        subprocess.run(
            [sys.executable, "-c", script], check=True, env=environment, cwd=directory, stdout=subprocess.PIPE
        )
    return directory


def test_jax_learns_and_goes_on_after_a_kill_as_tensorflow_does(root: Path) -> None:
    whole = read_record(root / "models" / MODEL / "history.json", History)
    resumed = read_record(root / "resumed" / "history.json", History)
    assert whole.metrics["loss"][-1] < whole.metrics["loss"][0]
    assert (whole.resumed_at, resumed.resumed_at) == ([], [1])
    assert whole.metrics["loss"] == resumed.metrics["loss"]
    assert file_sha256(root / "resumed/model.keras") == file_sha256(root / "models" / MODEL / "model.keras")


def test_what_jax_trained_is_exported_with_parity(root: Path) -> None:
    bundle = read_bundle(root / "bundles" / MODEL)
    history = read_record(root / "models" / MODEL / "history.json", History)
    assert bundle.info.metrics["parity"] < 1e-5
    assert bundle.info.metrics["val_accuracy"] == pytest.approx(history.metrics["val_accuracy"][history.best_epoch])
