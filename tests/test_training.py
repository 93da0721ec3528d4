"""Training: repeatable, resumable, and every setting does what it says."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emotion_detection.artifacts import History, RunInfo, read_record
from emotion_detection.backend import keras
from emotion_detection.bundle import file_sha256
from emotion_detection.checkpoint import Checkpoint
from emotion_detection.data.shards import load_arrays, read_dataset_info, shard_name
from emotion_detection.errors import ArtifactError, ParamsError
from emotion_detection.models import load_model
from emotion_detection.params import Params, TrainingParams, merge, parse_params
from emotion_detection.tracking import LiveRun
from emotion_detection.training import (
    Trainer,
    code_version,
    extended,
    is_finished,
    train,
    training_id,
)
from tests.toy_shards import toy_shards

TOY = {
    "data": {"image_size": 16},
    "training": {"batch_size": 16, "epochs": 4, "learning_rate": 0.01},
    "models": {"toy": {"architecture": "lenet", "filters": [4], "dense": [8], "dropout": 0.2}},
}
OTHER = {"learning_rate": 0.02, "epochs": 1, "optimizer": "sgd"}


class Killed(Exception):
    """Stands for the end of the process."""


def kill_after_two_epochs(run: LiveRun, epoch: int, metrics: Mapping[str, float]) -> None:
    del run, metrics
    if epoch == 1:
        raise Killed


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    toy_shards(tmp_path_factory.getbasetemp() / "toy")
    return tmp_path_factory.getbasetemp() / "toy"


def toy(**changes: object) -> Params:
    return parse_params(merge(TOY, changes))


def trainer(params: Params, shards: Path) -> Trainer:
    return Trainer("toy", params, read_dataset_info(shards), shards)


def trained(params: Params, shards: Path, checkpoint: Path) -> tuple[keras.Model, History]:
    training = trainer(params, shards)
    return training.model, training.run(Checkpoint(checkpoint), LiveRun("toy"))


@pytest.fixture(scope="module")
def outputs(shards: Path, empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole training, and the same killed after two of four epochs; then one of other parameters; then it goes on."""
    root = tmp_path_factory.mktemp("outputs")
    shutil.copy(empty_database, root / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
        patch.chdir(root)
        train("toy", toy(), shards, root / "whole", root / "checkpoints")
        with pytest.MonkeyPatch.context() as kill:
            kill.setattr(LiveRun, "log_epoch", kill_after_two_epochs)
            with pytest.raises(Killed):
                train("toy", toy(), shards, root / "resumed", root / "checkpoints")
        assert not (root / "resumed").exists()
        train("toy", toy(training=OTHER), shards, root / "other", root / "checkpoints")
        train("toy", toy(), shards, root / "resumed", root / "checkpoints")
    return root


def test_writes_the_best_model_the_curves_and_the_run(outputs: Path, shards: Path) -> None:
    history = read_record(outputs / "whole" / "history.json", History)
    names = {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds"}
    assert {name: len(values) for name, values in history.metrics.items()} == dict.fromkeys(names, 4)
    assert history.metrics["loss"][-1] < history.metrics["loss"][0]
    assert history.resumed_at == []
    model = load_model("lenet", outputs / "whole" / "model.keras")
    assert history.parameters == model.count_params()
    assert not model.compiled
    arrays = load_arrays(shards, "val")
    accuracy = np.mean(np.argmax(model.predict(arrays.images, verbose=0), axis=1) == arrays.labels)
    assert accuracy == pytest.approx(max(history.metrics["val_accuracy"]))
    run = read_record(outputs / "whole" / "run.json", RunInfo)
    assert run.training_id == training_id("toy", toy(), read_dataset_info(shards))
    assert run.run_id is not None


def test_resumed_training_equals_an_uninterrupted_one(outputs: Path) -> None:
    whole, resumed = (read_record(outputs / name / "history.json", History) for name in ("whole", "resumed"))
    assert resumed.resumed_at == [2]
    for name in set(whole.metrics) - {"seconds"}:
        assert resumed.metrics[name] == whole.metrics[name]
    assert file_sha256(outputs / "resumed" / "model.keras") == file_sha256(outputs / "whole" / "model.keras")


AVERAGED = {"weight_average": 0.9, "augmentation": {"erasing": 0.5, "mixup": 0.2, "cutmix": 1.0}}


def test_resumed_average_and_mixed_images_equal_those_of_an_uninterrupted_training(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = toy(training=AVERAGED)
    _, whole = trained(params, shards, tmp_path / "whole")
    with monkeypatch.context() as kill:
        kill.setattr(LiveRun, "log_epoch", kill_after_two_epochs)
        with pytest.raises(Killed):
            trained(params, shards, tmp_path / "resumed")
    model, resumed = trained(params, shards, tmp_path / "resumed")
    assert resumed.resumed_at == [2]
    for name in set(whole.metrics) - {"seconds"}:
        assert resumed.metrics[name] == whole.metrics[name]
    Checkpoint(tmp_path / "resumed").restore_best(model)
    arrays = load_arrays(shards, "val")
    accuracy = np.mean(np.argmax(model.predict(arrays.images, verbose=0), axis=1) == arrays.labels)
    assert accuracy == pytest.approx(max(resumed.metrics["val_accuracy"]))


def test_checkpoint_of_other_parameters_is_not_used(outputs: Path) -> None:
    history = read_record(outputs / "other" / "history.json", History)
    assert history.resumed_at == []
    assert len(history.metrics["loss"]) == OTHER["epochs"]


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_without_epochs_the_weights_stay_as_they_are(
    schedule: str, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    params = toy(training={"epochs": 0, "schedule": schedule})
    history = train("toy", params, shards, tmp_path / "out", tmp_path / "checkpoints")
    assert {name: len(values) for name, values in history.metrics.items()} == {"val_loss": 1, "val_accuracy": 1}
    model = load_model("lenet", tmp_path / "out" / "model.keras")
    for kept, built in zip(model.get_weights(), trainer(params, shards).model.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, built)
    arrays = load_arrays(shards, "val")
    accuracy = np.mean(np.argmax(model.predict(arrays.images, verbose=0), axis=1) == arrays.labels)
    assert history.metrics["val_accuracy"] == pytest.approx([accuracy])


def test_checkpoint_of_other_code_or_pixels_is_not_used(shards: Path) -> None:
    info = read_dataset_info(shards)
    others = info.model_copy(update={"files": dict.fromkeys(info.files, "0" * 64)})  # shards made by other code
    found = {code_version(*of) for of in (("lenet", info), ("lenet", others), ("vit", info))}
    assert len(found) == 3
    assert code_version("lenet", read_dataset_info(shards)) in found


def test_finished_training_leaves_no_checkpoint(outputs: Path) -> None:
    assert list((outputs / "checkpoints" / "toy").iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"training": {"learning_rate": 0.02}},
        {"seed": 1},
        {"models": {"toy": {"training": {"seed": 1}}}},
        {"models": {"toy": {"dropout": 0.3}}},
        {"models": {"toy": {"training": {"epochs": 5}}}},
        {"training": {"weight_average": 0.9}},
        {"training": {"augmentation": {"cutmix": 1.0}}},
    ],
    ids=str,
)
def test_what_decides_the_result_is_in_the_training_id(change: dict[str, object], shards: Path) -> None:
    info = read_dataset_info(shards)
    assert training_id("toy", toy(**change), info) != training_id("toy", toy(), info)


def test_training_id_is_that_of_the_resolved_parameters(shards: Path) -> None:
    info = read_dataset_info(shards)
    same = toy(models={"toy": {"kernel_size": 3, "training": {"batch_size": 16}}}, gate={"margin": 0.5})
    assert training_id("toy", same, info) == training_id("toy", toy(), info)
    assert training_id("toy", toy(training={"seed": 7}), info) == training_id("toy", toy(seed=7), info)
    other_data = info.model_copy(update={"data_hash": "0" * 64})
    assert training_id("toy", toy(), other_data) != training_id("toy", toy(), info)


def test_one_model_can_have_a_seed_of_its_own(shards: Path) -> None:
    def weights(**changes: object) -> list[np.ndarray]:
        return trainer(toy(**changes), shards).model.get_weights()

    def equal(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
        return all(map(np.array_equal, first, second))

    own = {"models": {"toy": {"training": {"seed": 7}}}}
    assert equal(weights(**own), weights(seed=7))
    assert not equal(weights(**own), weights())


def test_patience_ends_a_training_that_does_not_improve(shards: Path, tmp_path: Path) -> None:
    idle = {"learning_rate": 1e-12, "schedule": "constant", "epochs": 9, "patience": 2, "optimizer": "sgd"}
    params = toy(training=idle, models={"toy": {"dropout": 0.0}})
    _, history = trained(params, shards, tmp_path)
    waited = len(history.metrics["loss"]) - 1 - history.best_epoch
    assert waited == 2
    assert len(history.metrics["loss"]) < 9


@pytest.mark.parametrize(
    ("monitor", "values", "best"),
    [("val_accuracy", [0.2, 0.6, 0.6, 0.4], 1), ("val_loss", [2.0, 0.9, 0.7, 0.7], 2)],
)
def test_best_epoch_is_the_first_best(monitor: str, values: list[float], best: int) -> None:
    history = History(metrics={}, best_epoch=0, resumed_at=[], parameters=1)
    for value in values:
        history = extended(history, {"loss": 1.0, monitor: value}, monitor)
    assert history.best_epoch == best
    assert history.metrics[monitor] == values


def test_patience_zero_means_never() -> None:
    history = History(metrics={"loss": [1.0] * 8}, best_epoch=0, resumed_at=[], parameters=1)
    assert not is_finished(history, TrainingParams(epochs=9, patience=0))
    assert is_finished(history, TrainingParams(epochs=8, patience=0))
    assert is_finished(history, TrainingParams(epochs=9, patience=7))
    assert not is_finished(history, TrainingParams(epochs=9, patience=8))


def test_diverging_training_says_what_to_lower(shards: Path, tmp_path: Path) -> None:
    params = toy(training={"learning_rate": 1e30, "optimizer": "sgd", "schedule": "constant"})
    with pytest.raises(ParamsError, match=r"models\.toy: the loss became .* in epoch 1; lower training\.learning_rate"):
        trained(params, shards, tmp_path)


def first_probability(shards: Path, checkpoint: Path, class_weights: str) -> float:
    """What a model gives the first class after training on images that show nothing but noise."""
    settings = {"epochs": 3, "learning_rate": 0.1, "schedule": "constant", "class_weights": class_weights}
    architecture = {"filters": [1], "dense": [], "dropout": 0.0, "l2": 1.0}
    model, _ = trained(toy(training=settings, models={"toy": architecture}), shards, checkpoint)
    logits = model.predict(load_arrays(shards, "val").images, verbose=0)
    return float(keras.ops.softmax(logits)[:, 0].numpy().mean())


def test_balanced_class_weights_undo_the_imbalance(tmp_path: Path) -> None:
    counts = {"angry": 240, "happy": 30, "sad": 30}
    toy_shards(tmp_path / "shards", counts, counts, bar=0)
    assert first_probability(tmp_path / "shards", tmp_path / "plain", "none") == pytest.approx(0.8, abs=0.15)
    assert first_probability(tmp_path / "shards", tmp_path / "balanced", "balanced") == pytest.approx(0.33, abs=0.15)


def test_no_validation_images(tmp_path: Path) -> None:
    toy_shards(tmp_path / "shards", val={"angry": 0, "happy": 0, "sad": 0})
    with pytest.raises(ArtifactError, match=r"no validation images; raise data\.split\.val"):
        train("toy", toy(), tmp_path / "shards", tmp_path / "out", tmp_path / "checkpoints")


def test_nothing_is_trained_on_a_shard_that_was_altered(tmp_path: Path) -> None:
    toy_shards(tmp_path / "shards")
    shard = tmp_path / "shards" / shard_name("val", 0, 1)
    shard.write_bytes(shard.read_bytes() * 2)
    with pytest.raises(ArtifactError, match=r"val-00000-of-00001\.tfrecord: altered since it was written; remove"):
        train("toy", toy(), tmp_path / "shards", tmp_path / "out", tmp_path / "checkpoints")


def test_unknown_model(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"models\.vgg: no such model; params\.yaml has toy"):
        train("vgg", toy(), shards, tmp_path / "out", tmp_path / "checkpoints")


@pytest.fixture
def checkpointed(shards: Path, tmp_path: Path) -> tuple[Checkpoint, keras.Model, History]:
    """A checkpoint after one epoch."""
    model = trainer(toy(), shards).model
    model.optimizer.build(model.trainable_variables)
    figures = {"loss": 1.0, "val_accuracy": 0.5}
    history = extended(History(metrics={}, best_epoch=0, resumed_at=[], parameters=1), figures, "val_accuracy")
    checkpoint = Checkpoint(tmp_path / "checkpoint")
    checkpoint.save(model, history)
    return checkpoint, model, history


def test_checkpoint_survives_a_kill_while_the_next_is_written(checkpointed: Any) -> None:
    checkpoint, model, history = checkpointed
    half = checkpoint.directory / ".epoch-00002.1.tmp"
    half.mkdir()
    (half / "state.weights.h5").write_bytes(b"half")
    assert checkpoint.read_history() == history
    checkpoint.restore_last(model)


def test_checkpoint_survives_a_kill_before_the_one_before_is_removed(checkpointed: Any) -> None:
    checkpoint, model, history = checkpointed
    longer = extended(history, {"loss": 0.5, "val_accuracy": 0.6}, "val_accuracy")
    checkpoint.save(model, longer)
    before = checkpoint.directory / "epoch-00001"
    assert not before.exists()
    before.mkdir()
    (before / "state.weights.h5").write_bytes(b"half")
    assert checkpoint.read_history() == longer
    checkpoint.restore_last(model)


def test_checkpoint_keeps_best_and_last_weights_apart(checkpointed: Any) -> None:
    checkpoint, model, history = checkpointed
    best = [weight.copy() for weight in model.get_weights()]
    model.set_weights([weight + 1 for weight in best])
    model.optimizer.iterations.assign(7)
    checkpoint.save(model, extended(history, {"loss": 2.0, "val_accuracy": 0.4}, "val_accuracy"))
    checkpoint.restore_best(model)
    np.testing.assert_array_equal(model.get_weights()[0], best[0])
    model.optimizer.iterations.assign(0)
    checkpoint.restore_last(model)
    np.testing.assert_array_equal(model.get_weights()[0], best[0] + 1)
    assert int(model.optimizer.iterations) == 7


def test_removed_checkpoint_is_gone(checkpointed: Any) -> None:
    checkpoint, _, _ = checkpointed
    checkpoint.remove()
    assert checkpoint.read_history() is None
    assert list(checkpoint.directory.parent.iterdir()) == []
    checkpoint.remove()


def test_killed_after_the_last_epoch_only_the_outputs_are_made(shards: Path, checkpointed: Any, capsys: Any) -> None:
    checkpoint, _, _ = checkpointed
    history = trainer(toy(training={"epochs": 1}), shards).run(checkpoint, LiveRun("toy"))
    assert "resumes after epoch 1 of 1" in capsys.readouterr().out
    assert history.metrics["loss"] == [1.0]
