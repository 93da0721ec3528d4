"""A training that two workers share is that of one process, also when one of them is killed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from emotion_detection import training
from emotion_detection.artifacts import History
from emotion_detection.distributed.training import train as train_on_ray
from emotion_detection.engine import chosen
from emotion_detection.errors import ParamsError
from emotion_detection.models import load_model
from emotion_detection.params import Params, merge, parse_params
from tests.distributed.conftest import kill_worker
from tests.toy_shards import toy_shards

pytestmark = pytest.mark.xdist_group("ray")
UNEVEN = {"angry": 35, "happy": 34, "sad": 34}
"""Seven more than six batches of 16: of the last one, a worker has four."""
TOY = {
    "data": {"image_size": 16},
    "training": {"batch_size": 16, "epochs": 8, "optimizer": "sgd", "learning_rate": 0.05, "class_weights": "balanced"},
    "models": {"toy": {"architecture": "lenet", "filters": [4], "dense": [8], "dropout": 0.0}},
}
TOLERANCE = 1e-4
"""Relative, over all epochs: sums come in another order."""


def toy(**changes: object) -> Params:
    return parse_params(merge(TOY, changes))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    toy_shards(tmp_path / "shards", train=UNEVEN, bar=20)
    return tmp_path


def on_ray(params: Params, root: Path) -> History:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMOTION_ENGINE", "ray")
        return chosen(training.train)("toy", params, root / "shards", root / "ray", root / "checkpoints")


def test_two_workers_train_as_one_though_one_of_them_is_killed(ray_cluster: str, root: Path) -> None:
    assert ray_cluster

    def an_epoch_is_done() -> bool:
        return any((root / "checkpoints").glob("toy/*/epoch-0000[12]"))

    with ThreadPoolExecutor(1) as pool:
        trained = pool.submit(on_ray, toy(), root)
        kill_worker("RayTrainWorker", trained, an_epoch_is_done)
        together = trained.result()
    alone = training.train("toy", toy(), root / "shards", root / "local", root / "checkpoints")
    assert together.resumed_at != []
    assert alone.resumed_at == []
    for name in ("loss", "val_loss", "learning_rate"):
        assert together.metrics[name] == pytest.approx(alone.metrics[name], rel=TOLERANCE), name
    assert together.metrics["accuracy"] == pytest.approx(alone.metrics["accuracy"], abs=2 / 103)
    assert together.best_epoch == alone.best_epoch
    weights = [load_model("lenet", root / made / "model.keras").get_weights() for made in ("ray", "local")]
    for ours, theirs in zip(*weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0.01, atol=0.002)
    assert not list((root / "checkpoints/toy").iterdir())


def test_a_training_that_cannot_be_done_is_not_tried_again(ray_cluster: str, root: Path) -> None:
    assert ray_cluster
    with pytest.raises(ParamsError, match=r"the loss became .* in epoch 1; lower training\.learning_rate"):
        on_ray(toy(training={"learning_rate": 1e30, "epochs": 1, "warmup_epochs": 0.0}), root)
    with pytest.raises(ParamsError, match=r"training\.devices: found 2"):
        train_on_ray("toy", toy(training={"devices": 2}), root / "shards", root / "ray")
