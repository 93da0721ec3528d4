"""Stages of fine-tuning: what learns in each, where it starts, and that a kill between or in them changes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from emotion_detection.artifacts import History, read_record
from emotion_detection.backend import keras
from emotion_detection.bundle import file_sha256
from emotion_detection.checkpoint import Checkpoint
from emotion_detection.data.shards import read_dataset_info
from emotion_detection.errors import ParamsError
from emotion_detection.models import backbone_layers
from emotion_detection.params import Params, TrainingParams, merge, parse_params
from emotion_detection.tracking import LiveRun
from emotion_detection.training import Trainer, extended, is_finished, train, training_id
from tests.toy_shards import toy_shards

HEAD, ALL = {"epochs": 2, "unfrozen": 0, "learning_rate": 0.01}, {"epochs": 2, "learning_rate": 0.005}
TOY = {
    "data": {"image_size": 16},
    "training": {"batch_size": 16, "epochs": 2, "learning_rate": 0.01, "finetuning": [HEAD, ALL]},
    "models": {"toy": {"architecture": "lenet", "filters": [4], "dense": [8], "dropout": 0.2}},
}
KILLED_AFTER = [2, 5]
"""Epochs."""
Weights = dict[str, np.ndarray]


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    toy_shards(tmp_path_factory.getbasetemp() / "finetuning")
    return tmp_path_factory.getbasetemp() / "finetuning"


def toy(**training: object) -> Params:
    return parse_params(merge(TOY, {"training": training}))


def weights(layers: list[keras.Layer]) -> Weights:
    return {weight.path: np.array(weight) for layer in layers for weight in layer.weights}


def trained(params: Params, shards: Path, directory: Path) -> tuple[keras.Model, History, Checkpoint]:
    trainer, checkpoint = Trainer("toy", params, read_dataset_info(shards), shards), Checkpoint(directory)
    return trainer.model, trainer.run(checkpoint, LiveRun("toy")), checkpoint


def changed(before: Weights, after: Weights) -> set[str]:
    return {path for path in before if not np.array_equal(before[path], after[path])}


def test_a_stage_starts_from_the_best_weights_and_not_the_last(shards: Path, tmp_path: Path) -> None:
    params = toy(optimizer="sgd", schedule="constant", finetuning=[{"epochs": 1, "learning_rate": 1e-12}])
    trainer, checkpoint = Trainer("toy", params, read_dataset_info(shards), shards), Checkpoint(tmp_path)
    trainer.model.optimizer.build(trainer.model.trainable_variables)
    best = trainer.model.get_weights()
    history = History(metrics={}, best_epoch=0, resumed_at=[], parameters=1)
    for worse, accuracy in enumerate((0.99, 0.01)):
        trainer.model.set_weights([weight + worse for weight in best])
        history = extended(history, {"loss": 1.0, "val_accuracy": accuracy}, "val_accuracy")
        checkpoint.save(trainer.model, history)
    trainer.run(checkpoint, LiveRun("toy"))
    for expected, found in zip(best, trainer.model.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_each_stage_moves_what_is_unfrozen(shards: Path, tmp_path: Path) -> None:
    model, _, checkpoint = trained(toy(finetuning=[]), shards, tmp_path / "first")
    checkpoint.restore_best(model)
    best, best_head = weights(backbone_layers(model)), weights([model.get_layer("logits")])

    model, _, _ = trained(toy(finetuning=[HEAD]), shards, tmp_path / "head")
    assert changed(best, weights(backbone_layers(model))) == set()
    assert len(changed(best_head, weights([model.get_layer("logits")]))) == 2

    model, _, _ = trained(toy(finetuning=[ALL]), shards, tmp_path / "all")
    moved = changed(best, weights(backbone_layers(model)))
    assert {path.split("/")[0] for path in moved} == {"conv2d", "dense"}


@pytest.fixture(scope="module")
def outputs(shards: Path, empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training in three stages: uninterrupted; and killed at the end of a stage, then within the third."""
    root = tmp_path_factory.mktemp("outputs")
    shutil.copy(empty_database, root / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
        patch.chdir(root)
        train("toy", toy(), shards, root / "whole", root / "checkpoints")
        for done in KILLED_AFTER:
            kill_after(done, shards, root)
        train("toy", toy(), shards, root / "killed", root / "checkpoints")
    return root


def kill_after(done: int, shards: Path, root: Path) -> None:
    def kill(run: LiveRun, epoch: int, metrics: Mapping[str, float]) -> None:
        del run, metrics
        if epoch == done - 1:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LiveRun, "log_epoch", kill)
        with pytest.raises(Killed):
            train("toy", toy(), shards, root / "never", root / "checkpoints")


def test_killed_in_any_stage_it_ends_as_if_nothing_had_been(outputs: Path) -> None:
    whole, resumed = (read_record(outputs / name / "history.json", History) for name in ("whole", "killed"))
    assert resumed.resumed_at == KILLED_AFTER
    assert whole.stages == resumed.stages == [2, 4]
    assert len(whole.metrics["loss"]) == 6
    for name in set(whole.metrics) - {"seconds"}:
        assert resumed.metrics[name] == whole.metrics[name]
    assert file_sha256(outputs / "killed/model.keras") == file_sha256(outputs / "whole/model.keras")


def test_each_stage_has_a_schedule_of_its_own(outputs: Path) -> None:
    rates = read_record(outputs / "whole/history.json", History).metrics["learning_rate"]
    assert rates == pytest.approx([0.01, 0, 0.01, 0, 0.005, 0], abs=1e-9)  # warm-up of an epoch, then half a cosine


def test_learning_rate_of_a_stage_defaults_to_a_hundredth() -> None:
    training = TrainingParams.model_validate({"learning_rate": 0.2, "epochs": 7, "finetuning": ({"epochs": 3},)})
    assert training.stage(0) == training
    assert (training.stage(1).learning_rate, training.stage(1).epochs) == (pytest.approx(0.002), 3)
    assert training.total_epochs == 10


def test_patience_ends_a_stage_and_not_the_training() -> None:
    stages = ({"epochs": 5}, {"epochs": 5})
    training = TrainingParams.model_validate({"epochs": 9, "patience": 2, "finetuning": stages})

    def finished(done: int, best: int, starts: list[int]) -> bool:
        history = History(metrics={"loss": [1.0] * done}, best_epoch=best, resumed_at=[], parameters=1, stages=starts)
        return is_finished(history, training)

    assert finished(done=6, best=3, starts=[])
    assert not finished(done=7, best=3, starts=[6])  # waits anew
    assert finished(done=8, best=3, starts=[6])
    assert not finished(done=8, best=6, starts=[6])
    assert finished(done=11, best=10, starts=[6])  # all epochs of the stage


def test_training_without_finetuning_keeps_its_identity(shards: Path) -> None:
    info = read_dataset_info(shards)
    assert "finetuning" not in TrainingParams().identity()
    assert training_id("toy", toy(finetuning=[]), info) != training_id("toy", toy(), info)


def test_divergence_names_the_learning_rate_of_the_stage(shards: Path, tmp_path: Path) -> None:
    params = toy(optimizer="sgd", schedule="constant", epochs=1, finetuning=[{"epochs": 1, "learning_rate": 1e30}])
    with pytest.raises(ParamsError, match=r"in epoch 2; lower training\.finetuning\.0\.learning_rate \(1e\+30\)"):
        trained(params, shards, tmp_path)


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"epochs": 0}, r"training\.finetuning\.0\.epochs: found 0"),
        ({"epochs": 1, "rate": 1}, r"0\.rate: unknown key; allowed here: epochs, unfrozen, learning_rate"),
        ({}, r"training\.finetuning\.0\.epochs: missing; add it"),
    ],
)
def test_mistakes_in_a_stage_name_the_key(stage: dict[str, object], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        toy(finetuning=[stage])
