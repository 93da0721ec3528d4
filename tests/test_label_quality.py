"""Wrong labels are found: by the formulas of confident learning, and by models that have not seen them."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from emotion_detection import training
from emotion_detection.artifacts import (
    DATASET,
    DATASET_SCHEMA,
    DECISIONS,
    DECISIONS_SCHEMA,
    SHARDS,
    SUSPICIOUS,
    FileFingerprint,
    History,
    read_record,
)
from emotion_detection.cli import app
from emotion_detection.data.fingerprint import update_file_fingerprint
from emotion_detection.data.sharding import write_shards
from emotion_detection.data.shards import load_arrays, verify_shards
from emotion_detection.data.suspicion import mark
from emotion_detection.errors import ParamsError, SourceError
from emotion_detection.label_quality import confident as cl
from emotion_detection.label_quality.folds import assign, out_of_fold, write_fold
from emotion_detection.params import load_params, parse_params
from emotion_detection.preprocess import encode_png
from emotion_detection.training import Trainer, extended
from pipeline import validate

LABELS = ("angry", "happy", "sad")
TRAIN, VAL, TEST = 360, 60, 30
FLIPPED = TRAIN // 10
PARAMS = """
seed: 3
data: {image_size: 16, shards: 3}
models: {toy: {architecture: lenet, filters: [4], dense: [8], training: {finetuning: [{epochs: 50}]}}}
training: {batch_size: 8, learning_rate: 0.005, augmentation: {flip: false, rotation: 0}}
"""


class Killed(Exception):
    """Stands for the end of the process."""


def write_data(wrong: frozenset[int]) -> None:
    """params.yaml, the data set, its decisions and shards; images of `wrong` have the label of another class."""
    random, rows = np.random.default_rng(0), []
    for number in range(TRAIN + VAL + TEST):
        true = number % len(LABELS)
        pixels = random.normal(110, 40, (16, 16, 1))
        pixels[5 * true : 5 * true + 5] += random.uniform(30, 60)
        image = encode_png(pixels.clip(0, 255).astype(np.uint8))
        label = LABELS[(true + 1 + number // 3 % 2) % len(LABELS) if number in wrong else true]
        split = "train" if number < TRAIN else "val" if number < TRAIN + VAL else "test"
        rows.append(
            {"path": f"{split}/{number}.png", "split": split, "label": label, "image": image}
            | {"sha256": hashlib.sha256(image).hexdigest(), "width": 16, "height": 16, "mode": "L", "format": "PNG"}
            | {"keep": True, "reason": None, "defects": []}
        )
    Path("params.yaml").write_text(PARAMS)
    DATASET.parent.mkdir()
    for path, schema in ((DATASET, DATASET_SCHEMA), (DECISIONS, DECISIONS_SCHEMA)):
        pq.write_table(
            pa.Table.from_pylist([{key: row.get(key) for key in schema.names} for row in rows], schema), path
        )
    write_shards(load_params().data, seed=3)


def emotion(*words: str) -> Result:
    return CliRunner().invoke(app, ["labels", *words])


WRONG = frozenset(np.random.default_rng(1).choice(TRAIN, FLIPPED, replace=False).tolist())
RUN = ("toy", "--folds", "2", "--epochs", "5", "--shown", "9", "--json")


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with drawn faces, a tenth of them labelled wrong; killed in the second fold, then judged to the end."""
    root = tmp_path_factory.mktemp("labels")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_data(WRONG)
        trained: list[str] = []
        run = Trainer.run

        def counted(trainer: Trainer, *arguments: Any) -> Any:
            trained.append(trainer.name)
            if len(trained) == 2:
                raise Killed
            return run(trainer, *arguments)

        patch.setattr(Trainer, "run", counted)
        assert isinstance(emotion(*RUN).exception, Killed)
        result = emotion(*RUN)
        assert result.exit_code == 0, result.output
        assert len(trained) == 3  # the first fold was finished, and is not trained again
        Path("stdout.json").write_text(result.stdout)
    return root


@pytest.fixture
def here(judged: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(judged)
    return Path("reports/labels/toy/train")


def test_labels_flipped_on_purpose_are_found(here: Path) -> None:
    scores = pq.read_table(here / "scores.parquet").to_pandas()
    assert len(scores) == TRAIN
    assert scores["score"].is_monotonic_decreasing
    wrong = scores["path"].isin([f"train/{number}.png" for number in WRONG])
    assert wrong.head(FLIPPED).mean() > 0.75  # chance: 0.1
    true = scores["path"].str.extract(r"(\d+)")[0].astype(int) % len(LABELS)
    found = scores["suspicious"] & wrong
    assert found.sum() > 0.75 * FLIPPED
    assert (scores["suggested"][found] == np.take(LABELS, true[found])).mean() > 0.9
    assert scores["suspicious"][~wrong].mean() < 0.1


def test_the_report_is_for_people_and_programs(here: Path) -> None:
    scores = pq.read_table(here / "scores.parquet").to_pandas()
    with (here / "suspicious.csv").open() as file:
        rows = list(csv.DictReader(file))
    suspicious = scores[scores["suspicious"]]
    assert [row["sha256"] for row in rows] == list(suspicious["sha256"])
    assert [row["suggested"] for row in rows] == list(suspicious["suggested"])
    printed = json.loads(Path("stdout.json").read_text())
    assert printed == json.loads((here / "labels.json").read_text())
    assert (printed["split"], printed["folds"], printed["epochs"], printed["images"]) == ("train", 2, 5, TRAIN)
    assert printed["accuracy"] > 0.8
    assert printed["doubted"] == scores["doubted"].sum() >= len(rows)
    assert printed["suspicious"] == len(rows) == sum(row["suspicious"] for row in printed["classes"].values())
    assert 0.05 < printed["estimated_errors"] < 0.2
    page = (here / "index.html").read_text()
    assert rows[0]["path"] in page
    assert "reports/labels/toy/train/suspicious.csv" in page
    assert (here / "pictures/suspicious.png").stat().st_size > 1000


def test_the_seed_decides_and_a_table_is_printed(here: Path) -> None:
    before = (here / "scores.parquet").read_bytes()
    [first, _] = sorted(Path(".checkpoints/labels/toy").rglob("*.npy"))
    answers = first.read_bytes()
    first.unlink()
    result = emotion(*RUN[:-1])
    assert first.read_bytes() == answers
    assert (here / "scores.parquet").read_bytes() == before
    assert "estimated to be wrong: " in result.stdout
    assert "validation.suspicious.drop=[train]" in result.stdout
    assert not list(Path(".checkpoints/labels/toy").rglob("*.tfrecord"))


def test_at_most_a_share_is_called_suspicious(here: Path) -> None:
    assert emotion(*RUN, "--most", "0.02").exit_code == 0
    few = pq.read_table(here / "scores.parquet").to_pandas()
    assert few["suspicious"].sum() == 7
    assert (few["suspicious"] == few["doubted"] & (few["doubted"].cumsum() <= 7)).all()
    assert emotion(*RUN).exit_code == 0


def test_a_trained_model_judges_what_it_has_not_seen(here: Path) -> None:
    assert "models/toy/model.keras" in str(emotion("toy", "--split", "val").output)
    from emotion_detection.models import InputSpec, build_model

    Path("models/toy").mkdir(parents=True, exist_ok=True)
    build_model("lenet", InputSpec(16, 1, 3), {"filters": (4,), "dense": (8,)}).save("models/toy/model.keras")
    found = json.loads(emotion("toy", "--split", "val", "--json").stdout)
    assert (found["split"], found["folds"], found["images"]) == ("val", 0, VAL)
    assert "never left out for what a model thinks" in (here.parent / "val/index.html").read_text()
    shutil.rmtree("models")


@pytest.mark.parametrize(
    ("words", "message"),
    [(("other",), "models.other: no such model"), (("toy", "--folds", "500"), "--folds: found 500, but without fold")],
)
def test_what_cannot_be_done_is_said(here: Path, words: tuple[str, ...], message: str) -> None:
    assert here.exists()
    result = emotion(*words)
    assert result.exit_code == 1
    assert message in result.output


def test_a_fold_is_judged_by_a_training_that_has_not_seen_it(here: Path, tmp_path: Path) -> None:
    assert here.exists()
    whole, held_out = load_arrays(SHARDS, "train"), np.arange(TRAIN) % 3 == 1
    write_fold(SHARDS, held_out, tmp_path / "fold")
    train, val = (load_arrays(tmp_path / "fold", split) for split in ("train", "val"))  # type: ignore[arg-type]
    for part, chosen in ((train, ~held_out), (val, held_out)):
        assert part.sha256 == list(np.array(whole.sha256)[chosen])
        np.testing.assert_array_equal(part.images, whole.images[chosen])
    info = verify_shards(tmp_path / "fold")
    assert list(info.counts["val"].values()) == np.bincount(whole.labels[held_out]).tolist()
    assert sum(info.reference_shares.values()) == pytest.approx(1)


def test_the_labels_in_question_choose_no_weights(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert here.exists()
    kept: list[bool] = []
    histories: list[History] = []
    next_stage, run = Trainer._next_stage, Trainer.run

    def watched(trainer: Trainer, *arguments: Any) -> Any:
        before = trainer.model.get_weights()
        history = next_stage(trainer, *arguments)
        kept.append(all(map(np.array_equal, before, trainer.model.get_weights())))
        return history

    def told(trainer: Trainer, *arguments: Any) -> History:
        histories.append(run(trainer, *arguments))
        return histories[-1]

    def first_is_best(*arguments: Any) -> History:
        return extended(*arguments).model_copy(update={"best_epoch": 0})

    monkeypatch.setattr(Trainer, "_next_stage", watched)
    monkeypatch.setattr(Trainer, "run", told)
    monkeypatch.setattr(training, "extended", first_is_best)
    entry = {"epochs": 3, "patience": 1, "finetuning": [{"epochs": 2, "learning_rate": 0.01}]}
    content = {"data": {"image_size": 16}, "models": {"toy": {"architecture": "lenet", "training": entry}}}
    out_of_fold("toy", parse_params(content), SHARDS, 2, tmp_path)
    assert kept == [True, True]
    assert [(history.stages, len(history.metrics["loss"])) for history in histories] == [([3], 5)] * 2


def test_suspicious_images_are_left_out_of_train_alone(
    judged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shutil.copytree(judged, tmp_path / "copy"))
    file = Path("reports/labels/toy/train/suspicious.csv")
    suspicious = f"validation: {{suspicious: {{drop: [train], file: {file}}}}}\n"
    with_val = pq.read_table(DATASET, columns=["path", "sha256", "split"]).to_pandas().query("split == 'val'")
    file.write_text(file.read_text() + f"val/x.png,{with_val['sha256'].iloc[0]},sad,happy,0.9\n")
    Path("params.yaml").write_text(PARAMS + suspicious)
    named = list(pd.read_csv(file)["sha256"])[:-1]
    validate.main()
    decisions = pq.read_table(DECISIONS).to_pandas()
    dropped = decisions[~decisions["keep"]]
    assert set(dropped["sha256"]) == set(named)
    assert set(dropped["reason"]) == {"suspicious"}
    assert decisions["defects"].map(lambda found: "suspicious" in found).sum() == len(named) + 1
    write_shards(load_params().data, seed=3)
    assert len(load_arrays(SHARDS, "train").labels) == TRAIN - len(named)
    file.write_text("sha256\n" + "0" * 64 + "\n")
    with pytest.raises(SourceError, match=r"suspicious\.csv: none of its 1 images is in this data set"):
        mark(decisions, str(file))
    file.write_text("image\n1\n")
    with pytest.raises(SourceError, match=r"has columns image; expected one named sha256"):
        mark(decisions, str(file))
    with pytest.raises(SourceError, match=r"nowhere\.csv: no such file; `emotion labels MODEL` makes one"):
        mark(decisions, "nowhere.csv")


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"drop": ["train", "test"], "file": "a.csv"}, "only train may lose images for what a model thinks"),
        ({"drop": ["val"], "file": "a.csv"}, "only train may lose images"),
        ({"drop": ["train"]}, "drop needs file"),
    ],
)
def test_what_judges_models_is_left_alone(policy: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError, match=rf"validation\.suspicious: .*{message}"):
        parse_params({"validation": {"suspicious": policy}, "models": {"toy": {"architecture": "lenet"}}})


def test_a_changed_file_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    none = update_file_fingerprint(SUSPICIOUS, "", "key")
    Path("a.csv").write_text("sha256\n1\n")
    first = update_file_fingerprint(SUSPICIOUS, "a.csv", "key")
    Path("a.csv").write_text("sha256\n2\n")
    second = update_file_fingerprint(SUSPICIOUS, "a.csv", "key")
    assert len({none, first, second}) == 3
    assert read_record(SUSPICIOUS, FileFingerprint) == second
    with pytest.raises(SourceError, match=r"key: b\.csv: no such file"):
        update_file_fingerprint(SUSPICIOUS, "b.csv", "key")


def test_formulas_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.1, 0.9], [0.6, 0.4]])
    np.testing.assert_allclose(cl.self_confidence(labels, probabilities), [0.9, 0.7, 0.2, 0.9, 0.4])
    np.testing.assert_allclose(cl.normalised_margin(labels, probabilities), [0.9, 0.7, 0.2, 0.9, 0.4])
    limits = cl.thresholds(labels, probabilities)
    np.testing.assert_allclose(limits, [0.6, 0.65])
    confident = cl.confident_classes(probabilities, limits)
    assert confident.tolist() == [0, 0, 1, 1, 0]
    counts = cl.confident_joint(labels, confident, 2)
    assert counts.tolist() == [[2, 1], [1, 1]]
    np.testing.assert_allclose(cl.estimated_joint(counts, np.array([3, 2])), [[0.4, 0.2], [0.2, 0.2]])


def test_formulas_against_the_definition() -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.full(4, 0.5), 300)
    labels = random.integers(0, 3, 300)  # nobody has label 3
    expected = np.zeros((4, 4), int)
    limits = [np.mean([p[j] for p, label in zip(probabilities, labels, strict=True) if label == j]) for j in range(3)]
    for p, label in zip(probabilities, labels, strict=True):
        reached = [j for j in range(3) if p[j] >= limits[j]]
        if reached:
            expected[label, max(reached, key=lambda j: p[j])] += 1
    confident = cl.confident_classes(probabilities, cl.thresholds(labels, probabilities))
    np.testing.assert_array_equal(cl.confident_joint(labels, confident, 4), expected)
    assert (confident == cl.NONE).any()
    joint = cl.estimated_joint(expected, np.bincount(labels, minlength=4))
    np.testing.assert_allclose(joint.sum(axis=1), np.bincount(labels, minlength=4) / 300)
    np.testing.assert_allclose(joint[0], expected[0] / expected[0].sum() * joint[0].sum())
    margins = cl.normalised_margin(labels, probabilities)
    assert ((margins > 0.5) == (probabilities.argmax(axis=1) == labels)).all()


def test_folds_are_even_and_equal_images_stay_together() -> None:
    keys = [f"{number:064x}" for number in range(100)] + [f"{7:064x}"] * 5
    labels = [number % 3 for number in range(100)] + [2] * 5
    folds = assign(keys, labels, 4, seed=0)
    assert len(set(folds[[7, *range(100, 105)]])) == 1
    counts = np.array([np.bincount(folds[:100][np.array(labels[:100]) == label], minlength=4) for label in range(3)])
    assert counts.max() - counts.min() <= 1
    assert (assign(keys, labels, 4, seed=0) == folds).all()
    assert (assign(keys[99::-1], labels[99::-1], 4, seed=0)[::-1] == assign(keys[:100], labels[:100], 4, seed=0)).all()
    assert (assign(keys, labels, 4, seed=1) != folds).any()
