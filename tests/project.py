"""A repository root with shards and finished models, as register and promote find it; and MLflow servers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from emotion_detection.artifacts import (
    SHARDS,
    DatasetInfo,
    History,
    Interval,
    Report,
    RunInfo,
    SplitMetrics,
    bundle_dir,
    model_dir,
    read_record,
    report_dir,
    write_record,
)
from emotion_detection.bundle import (
    BUNDLE_FILE,
    INPUT_NAME,
    INT8_FILE,
    INT8_GOLDEN_FILE,
    MODEL_FILE,
    OUTPUT_NAME,
    BundleInfo,
    Lineage,
    ModelBundle,
    Quantisation,
    file_sha256,
    read_bundle,
    write_bundle_info,
)
from tests.clone import free_port
from tests.workspace import LABELS, SIZE, write_data

ACCURACY = {"good": 0.9, "fair": 0.8, "poor": 0.6}  # on val, as their reports say
NOISE = {"good": 0.0, "fair": 0.3, "poor": 30.0}  # in their weights
PARAMS = f"""\
# A comment at the top.
seed: 0
data: {{image_size: {SIZE}, channels: 1, shards: 1}} # crops
training: {{epochs: 2}}
models:
  good: {{architecture: lenet, filters: [4], dense: [8]}}
  fair: {{architecture: lenet, filters: [4], dense: [8]}} # second
  poor: {{architecture: lenet, filters: [4], dense: [8]}}
gate: {{min_accuracy: 0.5, min_recall: 0.2, max_ece: 1.0, max_milliseconds: 1000.0, margin: 0.01, bootstrap: 500}}
registry: {{experiment: tests, model: detector}}
"""


def write_project(template: Path) -> None:
    """params.yaml, data/, and for each model models/, reports/ and bundles/, in an empty directory."""
    with pytest.MonkeyPatch.context() as patch:
        template.mkdir()
        patch.chdir(template)
        Path("params.yaml").write_text(PARAMS)
        write_data()
        keras_file = _keras_file()
        for model in ACCURACY:
            write_trained(model)
            shutil.copy(keras_file, model_dir(model) / "model.keras")
            write_judged(model)
            write_exported(model)


def write_trained(model: str, run_id: str | None = None, training_id: str | None = None) -> None:
    curves = {"loss": [1.0, 0.5], "val_loss": [1.1, 0.6], "val_accuracy": [0.5, ACCURACY[model]], "seconds": [3.0, 2.0]}
    history = History(metrics=curves, best_epoch=1, resumed_at=[], parameters=10)
    write_record(model_dir(model) / "history.json", history)
    identity = training_id or f"training of {model}".encode().hex()
    write_record(model_dir(model) / "run.json", RunInfo(training_id=identity, run_id=run_id, experiment="tests"))


def write_judged(model: str) -> None:
    value = ACCURACY[model]
    interval = Interval(value=value, low=value - 0.1, high=value + 0.1)
    split = SplitMetrics(
        images=60,
        accuracy=interval,
        balanced_accuracy=value,
        macro_f1=interval,
        roc_auc=value,
        ece_before=0.2,
        ece=0.1,
        precision=dict.fromkeys(LABELS, value),
        recall=dict.fromkeys(LABELS, value),
    )
    write_record(report_dir(model) / "metrics.json", Report(model=model, temperature=1.5, val=split, test=split))
    (report_dir(model) / "figures").mkdir(exist_ok=True)
    (report_dir(model) / "figures/confusion.png").write_bytes(b"a picture")


def write_exported(model: str, **changes: object) -> ModelBundle:
    """A bundle that looks for the bright bar which `tests.workspace` draws for each class; noise makes it worse."""
    directory = bundle_dir(model)
    directory.mkdir(parents=True, exist_ok=True)
    _write_graph(directory / MODEL_FILE, NOISE[model])
    run = read_record(model_dir(model) / "run.json", RunInfo)
    data_hash = read_record(SHARDS / "dataset.json", DatasetInfo).data_hash
    info = BundleInfo(
        model=model,
        architecture="lenet",
        parameters=10,
        labels=LABELS,
        image_size=SIZE,
        channels=1,
        temperature=1.5,
        reference_shares=dict.fromkeys(LABELS, 1 / len(LABELS)),
        metrics={"val_accuracy": ACCURACY[model], "parity": 1e-6},
        lineage=Lineage(
            commit="c0ffee", dirty=False, dvc_lock="10c4", data_hash=data_hash, training_id=run.training_id
        ),
        files={MODEL_FILE: file_sha256(directory / MODEL_FILE)},
    )
    write_bundle_info(directory, info.model_copy(update=changes))
    return read_bundle(directory)


def add_int8(model: str) -> ModelBundle:
    """Say of a copy of the graph, two bytes longer, that it computes in int8."""
    bundle = read_bundle(bundle_dir(model))
    (bundle.directory / INT8_FILE).write_bytes(bundle.model_path.read_bytes() + b"\x72\x00")  # an empty property
    (bundle.directory / INT8_GOLDEN_FILE).write_bytes(b"never looked at")
    tried = Quantisation(
        method="static",
        fp32_accuracy=0.9,
        int8_accuracy=0.9,
        fp32_ece=0.1,
        int8_ece=0.1,
        fp32_bytes=bundle.model_path.stat().st_size,
        int8_bytes=bundle.model_path.stat().st_size + 2,
        speedup=1.5,
        refused=None,
        golden_tolerance=0.03,
    )
    files = {file.name: file_sha256(file) for file in bundle.directory.iterdir() if file.name != BUNDLE_FILE}
    write_bundle_info(bundle.directory, bundle.info.model_copy(update={"quantisation": tried, "files": files}))
    return read_bundle(bundle_dir(model))


def copy_project(template: Path, target: Path) -> Path:
    return Path(shutil.copytree(template, target, dirs_exist_ok=True))


@contextmanager
def mlflow_server(
    directory: Path, empty_database: Path, port: int | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A real server: its URL and its process. It goes on with the database and the artifacts of its directory."""
    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / "mlflow.db").exists():
        shutil.copy(empty_database, directory / "mlflow.db")
    port = port or free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--allowed-hosts", "127.0.0.1:*", "--backend-store-uri", f"sqlite:///{directory / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(directory / "files")]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, cwd=directory, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait_for_health(f"http://127.0.0.1:{port}/health", directory / "log")
        yield f"http://127.0.0.1:{port}", process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Kill the server and its worker."""
    if process.poll() is None:
        os.killpg(process.pid, 9)
    process.wait()


def _wait_for_health(url: str, log: Path) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    pytest.fail(f"{url} did not answer:\n{log.read_text()}")


def _write_graph(path: Path, noise: float) -> None:
    weights = np.zeros((SIZE, SIZE, len(LABELS)), np.float32)
    for label in range(len(LABELS)):
        weights[5 * label : 5 * label + 5, :, label] = 0.005
    weights += np.random.default_rng(1).normal(0, noise * 0.005, weights.shape).astype(np.float32)
    nodes = [
        helper.make_node("Cast", [INPUT_NAME], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["pixels"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], [OUTPUT_NAME]),
    ]
    graph = helper.make_graph(
        nodes,
        "bars",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, ["N", SIZE, SIZE, 1])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["N", len(LABELS)])],
        [numpy_helper.from_array(weights.reshape(-1, len(LABELS)), "weights")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


def _keras_file() -> Path:
    from emotion_detection.models import InputSpec, build_model

    path = Path("untrained.keras").absolute()
    build_model("lenet", InputSpec(SIZE, 1, len(LABELS)), {"filters": (4,), "dense": (8,)}).save(path)
    return path
