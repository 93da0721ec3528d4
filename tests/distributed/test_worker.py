"""What each of several workers sees of data that do not fit into memory; no cluster is needed to look."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from emotion_detection import training
from emotion_detection.backend import keras, tf
from emotion_detection.batches import Source
from emotion_detection.data.sharding import write_shards
from emotion_detection.data.shards import load_arrays
from emotion_detection.distributed import worker
from emotion_detection.distributed.worker import Job, Worker
from emotion_detection.errors import ParamsError
from emotion_detection.optimization import compile_model
from emotion_detection.params import Params, TrainingParams, merge, parse_params
from tests.distributed.test_sharding import DATA, write

OFF = {"flip": False, "rotation": 0.0, "zoom": 0.0, "shift": 0.0, "contrast": 0.0}
PARAMS = {
    "data": {"image_size": 16, "shards": 4},
    "training": {"batch_size": 16, "augmentation": OFF},
    "models": {"toy": {"architecture": "lenet", "filters": [2], "dense": [4]}},
}


@pytest.fixture
def streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    class Streamed(Source):
        open = partial(Source.open, memory_limit=0)

    for module in (training, worker):
        monkeypatch.setattr(module, "Source", Streamed)
    files = write(tmp_path, counts={"train": 101, "val": 41, "test": 3})
    write_shards(DATA.model_copy(update={"shards": 4}), 0, *files, tmp_path / "shards")
    return tmp_path / "shards"


def workers(shards: Path, params: Params, number: int) -> list[Worker]:
    job = Job("toy", params, shards, shards.parent)
    return [Worker(job, rank, number, tf.distribute.get_strategy()) for rank in range(number)]


def test_together_they_read_every_image_once(streamed: Path) -> None:
    both = workers(streamed, parse_params(PARAMS), 2)
    epochs = [list(one.batches(seed=5).as_numpy_iterator()) for one in both]
    assert len(epochs[0]) == len(epochs[1])  # or one would wait for ever
    assert {len(images) for batches in epochs for images, *_ in batches[:-1]} == {8}
    seen = Counter(image.tobytes() for batches in epochs for images, *_ in batches for image in images)
    every = Counter(image.tobytes() for image in load_arrays(streamed, "train").images)
    assert seen <= every
    assert every.total() - seen.total() <= 1  # a worker that has one more may leave it out
    judged = Counter(image.numpy().tobytes() for one in both for images, _ in one.validation for image in images)
    assert judged == Counter(image.tobytes() for image in load_arrays(streamed, "val").images)


def test_what_workers_cannot_share_is_refused(streamed: Path) -> None:
    for key, wrong in (("data", {"shards": 3}), ("training", {"batch_size": 15})):
        with pytest.raises(ParamsError, match=rf"{key}\.\w+: found \d+, which 2 workers cannot share equally"):
            workers(streamed, parse_params(merge(PARAMS, {key: wrong})), 2)


def test_batch_norm_asks_all_workers_though_it_was_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def as_if_another_worker_held_the_same(values: list[tf.Tensor]) -> list[tf.Tensor]:
        asked.append(len(values))
        return [2 * value for value in values]

    monkeypatch.setattr(worker, "_all_sum", as_if_another_worker_held_the_same)
    norm = keras.layers.BatchNormalization()
    model = keras.Sequential([keras.Input((4, 4, 2)), norm])
    images = tf.random.stateless_normal((3, 4, 4, 2), (1, 2), mean=3.0)
    expected = norm(images, training=True)
    compile_model(model, TrainingParams(), steps=1)
    worker.synchronise_batch_norm(model)
    np.testing.assert_allclose(model(images, training=True), expected, atol=1e-5)
    assert asked == [2, 1]
