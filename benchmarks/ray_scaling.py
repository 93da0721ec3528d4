"""What a second worker brings: shards, tuning and training on Ray with one and with two, and what more would cost.

    python -m benchmarks.ray_scaling [--images 20000] [--trials 8] [--epochs 3]

Clusters of one and of two nodes are started on this machine, each node with one CPU; the data set is the drawn one, the
model lenet. Every measurement stands for the whole command, start of its workers included, as a user waits for it.
Beside them: the same by one process (`local`), which uses all cores of this machine, and the loss of the last epoch,
which is the same for all but for what a training makes of rounding (docs/ray.md). Two workers need two idle cores.

The last table is a model, not a measurement (docs/ray.md): seconds for each image from the runs above, over any number
of workers; what one process does for all of them, from its own measurement; bytes from the shards that were made.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from emotion_detection.artifacts import DATASET, DECISIONS, SHARDS, DatasetInfo
from emotion_detection.data.census import Census, digest
from emotion_detection.data.defects import judge
from emotion_detection.data.ingest import ingest
from emotion_detection.data.measurements import measure as look
from emotion_detection.data.quality import write_decisions
from emotion_detection.data.sharding import places, write_shards
from emotion_detection.data.sources import open_source
from emotion_detection.data.suspicion import mark
from emotion_detection.engine import chosen
from emotion_detection.params import Params, parse_params
from emotion_detection.training import train
from emotion_detection.tuning.search import Search, run_trials
from emotion_detection.tuning.task import prepare

Figures = dict[str, dict[str, float]]
SIZES, WORKERS = (10**5, 10**6, 10**7, 10**8, 10**9), (1, 2, 16, 256)
STORE = 500 * 2**20
TOKEN = uuid.uuid4().hex


@contextmanager
def engine(workers: int) -> Iterator[None]:
    """Within, work is done by a cluster of so many nodes with one CPU each; 0: by this process."""
    os.environ["EMOTION_ENGINE"] = "ray" if workers else "local"
    if not workers:
        yield
        return
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    import ray  # noqa: PLC0415  reads the line above
    from ray.cluster_utils import Cluster  # noqa: PLC0415

    node = {"object_store_memory": STORE, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **node})
    try:
        for _ in range(workers):
            cluster.add_node(num_cpus=1, **node)
        ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()


def parameters(images: int, epochs: int) -> Params:
    training = {"batch_size": 64, "epochs": epochs, "optimizer": "sgd", "learning_rate": 0.02}
    return parse_params(
        {
            "data": {"synthetic": {"count": images}, "shards": 8},
            "training": training,
            "models": {"lenet": {"architecture": "lenet", "dropout": 0.0}},
            "tuning": {"pruner": "none", "space": {"training.learning_rate": {"low": 0.01, "high": 0.1}}},
        }
    )


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


def measure(params: Params, trials: int) -> tuple[Figures, DatasetInfo]:
    """Seconds of each kind of work, by engine; the shards of the last one stay."""
    found: Figures = {}
    for name, workers in {"local": 0, "1 worker": 1, "2 workers": 2}.items():
        with engine(workers):
            shards, info = timed(lambda: chosen(write_shards)(params.data, params.seed))
            search = Search(
                prepare("lenet", params, 1), trials, f"sqlite:///{name.replace(' ', '')}.db", lambda _: None
            )
            tuning, _ = timed(lambda search=search: chosen(run_trials)(search))  # type: ignore[misc]
            training, history = timed(lambda: chosen(train)("lenet", params, SHARDS, Path("model")))
        epoch = min(history.metrics["seconds"])
        loss = history.metrics["loss"][-1]
        found[name] = {"shards": shards, "tuning": tuning, "training": training, "epoch": epoch, "loss": loss}
        print(f"{name}: {found[name]}", flush=True)
    return found, info


def once_for_all(images: int = 10**6) -> float:
    """Seconds for each image of what one process does whatever the number of workers: places, and the hash."""
    places_seconds, _ = timed(lambda: places(Census(Counter({("train", "happy"): images}), ""), 0))
    lines = ["0" * 64 + "\0happy\0train"] * images
    return (places_seconds + timed(lambda: digest(lines))[0]) / images


def measured_table(found: Figures, images: int, trained: int, trials: int) -> Table:
    table = Table(title=f"{images:,} images, {trials} trials of one epoch")
    for heading in ("engine", "shards, images/s", "tuning, trials/min", "training, s", "epoch, images/s", "last loss"):
        table.add_column(heading, justify="left" if heading == "engine" else "right")
    for name, row in found.items():
        rates = (
            images / row["shards"],
            60 * trials / row["tuning"],
            row["training"],
            trained / row["epoch"],
            row["loss"],
        )
        table.add_row(name, *(f"{value:,.{digits}f}" for value, digits in zip(rates, (0, 1, 1, 0, 6), strict=True)))
    return table


def model_table(found: Figures, images: int, trained: int, record: float) -> Table:
    """Hours by images and workers: shards / one epoch of lenet; what it takes beside."""
    per_image = found["1 worker"]["shards"] / images
    per_step = found["1 worker"]["epoch"] / trained
    alone = once_for_all()
    table = Table(
        "images", "shards on disk", "memory of the driver", title="Model: hours for shards / for an epoch of lenet"
    )
    for workers in WORKERS:
        table.add_column(f"{workers} workers", justify="right")
    for size in SIZES:
        hours = [(size * (per_image / n + alone) / 3600, size * per_step / n / 3600) for n in WORKERS]
        cells = (f"{shards:.3g} / {epoch:.3g}" for shards, epoch in hours)
        table.add_row(f"{size:,}", f"{size * record / 1e9:,.1f} GB", f"{size * 16 / 1e9:,.2f} GB", *cells)
    table.caption = (
        f"{1e6 * per_image:.0f} us a worker and {1e6 * alone:.2f} us once for each image of the shards, "
        f"{1e6 * per_step:.0f} us a worker for each image of an epoch, {record:.0f} bytes a record"
    )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    params = parameters(arguments.images, arguments.epochs)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        ingest(open_source(params.data, params.seed), DATASET, params.data.split, params.seed)
        looks = mark(look(DATASET, params.data.max_pixels), "")
        write_decisions(DECISIONS, looks, judge(looks, params.validation, params.data.classes))
        found, info = measure(params, arguments.trials)
        images = sum(sum(counts.values()) for counts in info.counts.values())
        trained = sum(info.counts["train"].values())
        record = sum(file.stat().st_size for file in SHARDS.glob("*.tfrecord")) / images
        console = Console(width=140)
        console.print(measured_table(found, images, trained, arguments.trials))
        console.print(model_table(found, images, trained, record))
        os.chdir("/")


if __name__ == "__main__":
    main()
