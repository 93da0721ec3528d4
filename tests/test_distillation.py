"""Knowledge distillation: what teachers say joins the labels, and another teacher is another training."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emotion_detection.artifacts import WEIGHTS, DatasetInfo, Weights, read_record
from emotion_detection.batches import Source, training_batches
from emotion_detection.checkpoint import Checkpoint
from emotion_detection.data.shards import load_arrays
from emotion_detection.distillation import Teachers, open_teachers
from emotion_detection.errors import ParamsError
from emotion_detection.inference import predict_logits
from emotion_detection.params import DistillationParams, Params, TrainingParams, parse_params
from emotion_detection.tracking import LiveRun
from emotion_detection.training import Trainer, training_id
from emotion_detection.weights import update_weights
from tests.serving.tiny import LABELS, SIZE, TinyBundle, write_bundle
from tests.toy_shards import toy_shards

ROOT = Path(__file__).parents[1]
TURNED = (LABELS[2], LABELS[0], LABELS[1])
AUGMENTED = TrainingParams(batch_size=10, class_weights="balanced")


@pytest.fixture(autouse=True)
def bundles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[TinyBundle]:
    """Two teachers in the working directory; the second names its outputs in another order."""
    monkeypatch.chdir(tmp_path)
    return [write_bundle(Path("first"), 1, spread=9.0), write_bundle(Path("second"), 2, TURNED, spread=9.0)]


def another_first(*arguments: Any) -> None:
    shutil.rmtree("first")
    write_bundle(Path("first"), *arguments)


@pytest.fixture
def info(tmp_path: Path) -> DatasetInfo:
    return toy_shards(tmp_path / "shards", {"angry": 20, "happy": 10, "sad": 5}, size=SIZE)


def opened(info: DatasetInfo, *names: str, weight: float = 0.5) -> Teachers:
    teachers = open_teachers(DistillationParams(teachers=names, weight=weight), info)
    assert teachers
    return teachers


def batches(info: DatasetInfo, training: TrainingParams, teachers: Teachers | None) -> list[np.ndarray[Any, Any]]:
    source = Source.open(Path("shards"), "train", info)
    parts = zip(*training_batches(source, info, training, 5, teachers).as_numpy_iterator(), strict=True)
    return [np.concatenate(part) for part in parts]


def test_the_mean_of_what_the_teachers_say_to_the_augmented_image_is_a_part_of_the_target(
    info: DatasetInfo, bundles: list[TinyBundle]
) -> None:
    images, labels, weights = batches(info, AUGMENTED, None)
    same, targets, also = batches(info, AUGMENTED, opened(info, "first", "second", weight=0.3))
    np.testing.assert_array_equal(images, same)
    np.testing.assert_array_equal(weights, also)  # they are those of the labels
    order = [TURNED.index(label) for label in LABELS]
    said = (bundles[0].answers(images) + bundles[1].answers(images)[:, order]) / 2
    np.testing.assert_allclose(targets, 0.7 * labels + 0.3 * said, atol=1e-5)
    assert said.max() > 0.9


def test_what_teachers_say_is_mixed_with_the_images(info: DatasetInfo) -> None:
    mixing = AUGMENTED.model_copy(update={"augmentation": AUGMENTED.augmentation.model_copy(update={"mixup": 1.0})})
    teachers = opened(info, "first")
    plain, mixed = (batches(info, training, teachers)[1][:10] for training in (AUGMENTED, mixing))
    assert (np.abs(mixed - plain) > 0.01).any()
    low, high = np.minimum(plain, plain[::-1]), np.maximum(plain, plain[::-1])
    assert ((low - 1e-6 <= mixed) & (mixed <= high + 1e-6)).all()


def test_without_teachers_labels_are_the_targets(info: DatasetInfo) -> None:
    assert open_teachers(DistillationParams(), info) is None
    assert set(np.unique(batches(info, AUGMENTED, None)[1])) == {0, 1}


def params(*teachers: str, **training: Any) -> Params:
    distilled = {"training": {"distillation": {"teachers": list(teachers), "weight": 1.0}}} if teachers else {}
    pupil = {"architecture": "lenet", "filters": [16], "dense": [32]} | distilled
    return parse_params({"training": training, "models": {"pupil": pupil, "other": {"architecture": "lenet"}}})


def test_a_pupil_answers_as_its_teacher_and_not_as_the_labels_say(bundles: list[TinyBundle]) -> None:
    info = toy_shards(Path("shards"), size=SIZE)
    how = params(
        "first",
        batch_size=16,
        epochs=30,
        learning_rate=0.01,
        augmentation={"flip": False, "rotation": 0, "zoom": 0, "shift": 0, "contrast": 0},
    )
    trainer = Trainer("pupil", how, info, Path("shards"))
    trainer.run(Checkpoint(Path("state")), LiveRun("toy"))
    arrays = load_arrays(Path("shards"), "train")
    teacher = bundles[0].answers(arrays.images).argmax(axis=1)
    answer = predict_logits(trainer.model, arrays.images).argmax(axis=1)
    assert (answer == teacher).mean() > 0.9
    assert (teacher == arrays.labels).mean() < 0.6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: shutil.rmtree("first"), r"first/bundle\.json: No such file or directory; expected a bundle"),
        (lambda: Path("first/model.onnx").write_bytes(b"other"), r"first/model\.onnx: SHA-256 is "),
        (
            lambda: another_first(1, ("angry", "fear", "sad")),
            r"first is for images of 8 x 8 x 1 and the labels angry, fear, sad, but data/shards has images of "
            r"8 x 8 x 1 and the labels angry, happy, sad; take a bundle that was trained on such data",
        ),
    ],
    ids=["missing", "damaged", "other labels"],
)
def test_a_teacher_that_cannot_teach(info: DatasetInfo, change: Any, message: str) -> None:
    change()
    with pytest.raises(ParamsError, match=rf"^training\.distillation\.teachers: {message}"):
        open_teachers(DistillationParams(teachers=("first",)), info)


def test_a_teacher_of_other_images() -> None:
    info = toy_shards(Path("larger"), size=16)
    with pytest.raises(ParamsError, match=r"8 x 8 x 1 .* data/shards has images of 16 x 16 x 1"):
        open_teachers(DistillationParams(teachers=("first",)), info)


def test_another_teacher_is_another_training_and_none_is_as_before(info: DatasetInfo) -> None:
    assert "distillation" not in TrainingParams().identity()
    before = [training_id("pupil", params(*names), info) for names in ((), ("first",), ("first", "second"))]
    another_first(3)
    after = [training_id("pupil", params(*names), info) for names in ((), ("first",), ("first", "second"))]
    assert before[0] == after[0]
    assert len({*before, *after}) == 5


def test_dvc_is_told_of_another_teacher_of_one_model(capsys: pytest.CaptureFixture[str]) -> None:
    def update(*names: str) -> dict[str, str | None]:
        return {name: entry.sha256 for name, entry in update_weights(WEIGHTS, params(*names)).root.items()}

    assert update() == {"pupil": None, "other": None}
    before = update("first")
    assert before["pupil"]
    assert before["other"] is None
    assert read_record(WEIGHTS, Weights).root["pupil"].paths == ["first"]
    another_first(3)
    assert (after := update("first")) != before
    shutil.rmtree("first")
    assert update("first") == after
    assert (
        "warning: models.pupil: first: not here; going on as recorded in data/weights.json" in capsys.readouterr().err
    )
    with pytest.raises(ParamsError, match=r"^models\.pupil\.training\.distillation\.teachers: first/bundle\.json"):
        update("first", "second")


def test_a_training_without_teachers_loads_no_onnx_runtime() -> None:
    script = "import sys, emotion_detection.training; sys.exit('onnxruntime' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)
