"""Votes from the source to the targets of a training; everything else stays as it is without them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from ruamel.yaml import YAML

from emotion_detection.artifacts import DATASET, DECISIONS, SHARDS, SOURCE, VALIDATION_JSON, read_record
from emotion_detection.backend import keras, tf
from emotion_detection.batches import Source, training_batches, validation_batches
from emotion_detection.checkpoint import Checkpoint
from emotion_detection.data.fingerprint import update_fingerprint
from emotion_detection.data.report import ValidationReport
from emotion_detection.data.shards import load_arrays, load_voted, read_dataset_info
from emotion_detection.errors import ArtifactError, ParamsError, SourceError
from emotion_detection.evaluation import slicings
from emotion_detection.inference import Answers
from emotion_detection.params import AugmentationParams, DataParams, Params, TrainingParams, load_params, parse_params
from emotion_detection.tracking import LiveRun
from emotion_detection.training import Trainer, training_id
from pipeline import ingest, shards, validate
from tests.toy_shards import toy_shards

PLAIN = AugmentationParams(flip=False, rotation=0, zoom=0, shift=0, contrast=0)
VOTED = TrainingParams(batch_size=7, augmentation=PLAIN, targets="votes", class_weights="balanced")
SEEN = {  # by number of the image: what was seen in it, and the shares of happy and sad that follow for "happy"
    0: ("7,3,0,0", [0.7, 0.3]),
    1: ("0,4,4,2", [0, 1]),
    2: ("0,0,10,0", [1, 0]),  # nobody voted for a class of the data set
    3: ("1,1,0,8", [0.5, 0.5]),  # 80 % saw no face
    4: (",,,", [1, 0]),
}
IMAGES = 10


def face(number: int) -> bytes:
    noise = np.random.default_rng(number).integers(0, 256, (16, 16), dtype=np.uint8)
    return cv2.imencode(".png", noise)[1].tobytes()


def write_source(root: Path) -> None:
    """faces/<split>/<class>/N.png and votes.csv; the votes for each of `SEEN` come twice in each class."""
    rows = ["path,happiness,sadness,contempt,NF"]
    for number in range(6 * IMAGES):
        path = f"{('train', 'val', 'test')[number % 3]}/{('happy', 'sad')[number // 3 % 2]}/{number // 6}.png"
        (root / "faces" / path).parent.mkdir(parents=True, exist_ok=True)
        (root / "faces" / path).write_bytes(face(number))
        rows.append(f"{path},{SEEN[number // 6 % len(SEEN)][0]}")
    (root / "votes.csv").write_text("\n".join(rows))


def write_params(**sections: Any) -> Params:
    data = {"source": "faces", "image_size": 16, "shards": 2} | sections.pop("data", {})
    models = {"toy": {"architecture": "lenet", "filters": [4], "dense": [8]}}
    with Path("params.yaml").open("w") as file:
        YAML().dump({"data": data, "models": models, **sections}, file)
    return load_params()


def make_shards(**sections: Any) -> None:
    write_params(**sections)
    for stage in (ingest, validate, shards):
        stage.main()


@pytest.fixture(scope="module")
def voted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root whose stages ran with votes; images that most saw no face in are left out of train."""
    root = tmp_path_factory.mktemp("voted")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_source(root)
        make_shards(data={"votes": "votes.csv"}, validation={"no_face": {"drop": ["train"]}})
    return root


def expected_targets(root: Path) -> dict[str, list[float]]:
    rows = pq.read_table(root / DATASET, columns=["path", "label", "sha256"]).to_pylist()
    shares = {row["sha256"]: SEEN[int(Path(row["path"]).stem) % len(SEEN)][1] for row in rows}
    alone = {row["sha256"] for row in rows if int(Path(row["path"]).stem) % len(SEEN) in (2, 4)}
    sad = {row["sha256"] for row in rows if row["label"] == "sad"}
    return {key: value[::-1] if key in alone & sad else value for key, value in shares.items()}


def test_shards_have_the_shares_of_the_votes(voted: Path) -> None:
    expected, info = expected_targets(voted), read_dataset_info(voted / SHARDS)
    assert info.votes == {"train": 12, "val": 16, "test": 16}
    for split, images in (("train", 16), ("val", 20), ("test", 20)):
        arrays = load_arrays(voted / SHARDS, split)  # type: ignore[arg-type]
        assert arrays.votes is not None
        assert arrays.votes.shape == (images, 2)
        np.testing.assert_allclose(arrays.votes, [expected[sha256] for sha256 in arrays.sha256], atol=1e-7)
        assert set(arrays.voters) == ({0, 4, 10} if split == "train" else {0, 2, 4, 10})  # type: ignore[arg-type]
        most, known = arrays.votes.max(axis=1), arrays.voters > 0  # type: ignore[operator]
        np.testing.assert_array_equal(arrays.agreement, np.where(known, most, np.nan))  # type: ignore[arg-type]
    assert load_arrays(voted / SHARDS, "val").labels.sum() == 10  # labels are as they were


def test_models_are_judged_by_how_far_people_agree(voted: Path) -> None:
    arrays = load_arrays(voted / SHARDS, "test")
    logits = np.zeros((len(arrays.labels), 2), np.float32)
    answers = Answers("test", ("happy", "sad"), arrays.images, arrays.sha256, arrays.labels, logits)
    assert "agreement" not in {slicing.name for slicing in slicings(answers)}
    [found] = [each for each in slicings(replace(answers, agreement=arrays.agreement)) if each.name == "agreement"]
    images = dict(zip(found.titles, np.bincount(found.places, minlength=4), strict=True))
    assert images == {"≤ 0.5": 4, "0.5 to 0.8": 4, "> 0.8": 4, "unknown": 8}


def test_images_without_a_face_are_left_out_of_train_with_their_reason(voted: Path) -> None:
    rows = pq.read_table(voted / DECISIONS).to_pylist()
    faceless = [row for row in rows if "no_face" in row["defects"]]
    assert {Path(row["path"]).stem for row in faceless} == {"3", "8"}
    assert [row for row in rows if not row["keep"]] == [row for row in faceless if row["split"] == "train"]
    assert {row["reason"] for row in rows if not row["keep"]} == {"no_face"}
    report = read_record(voted / VALIDATION_JSON, ValidationReport)
    assert report.defects["no_face"] == {"train": 4, "val": 4, "test": 4}
    [finding] = [finding for finding in report.findings if finding.check == "no_face"]
    assert finding.examples[0].endswith(": 80% of the votes")


def test_without_votes_shards_are_what_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, voted: Path) -> None:
    monkeypatch.chdir(tmp_path)
    write_source(tmp_path)
    make_shards()
    assert "votes" not in (SHARDS / "dataset.json").read_text()
    record = next(iter(tf.data.TFRecordDataset(str(SHARDS / "train-00000-of-00002.tfrecord"))))
    names = set(tf.train.Example.FromString(record.numpy()).features.feature)
    assert names == {"image/encoded", "image/class/label", "image/class/text", "image/sha256"}
    assert load_arrays(SHARDS, "train").votes is None
    assert read_dataset_info(SHARDS).data_hash != read_dataset_info(voted / SHARDS).data_hash
    with pytest.raises(ArtifactError, match=r"holds no votes; set data\.votes"):
        load_voted(SHARDS, "train", 5)


def test_other_votes_are_other_data(voted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_source(tmp_path)
    table = Path("votes.csv").read_text()
    Path("votes.csv").write_text(table.replace("train/happy/0.png,7,3", "train/happy/0.png,6,4"))
    make_shards(data={"votes": "votes.csv"}, validation={"no_face": {"drop": ["train"]}})
    assert read_dataset_info(SHARDS).data_hash != read_dataset_info(voted / SHARDS).data_hash


def test_a_class_that_nobody_could_vote_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_source(tmp_path)
    Path("votes.csv").write_text(Path("votes.csv").read_text().replace("sadness", "fear"))
    with pytest.raises(ArtifactError, match=r"nobody could vote for sad: data\.votes has no such column"):
        make_shards(data={"votes": "votes.csv"})


@pytest.mark.parametrize("memory", [2**30, 0], ids=["in memory", "streamed"])
def test_batches_have_votes_as_targets(voted: Path, memory: int) -> None:
    keras.utils.set_random_seed(0)
    info, arrays = read_dataset_info(voted / SHARDS), load_arrays(voted / SHARDS, "train")
    source = Source.open(voted / SHARDS, "train", info, memory, voted=True)
    images, targets, weights = joined(training_batches(source, info, VOTED, seed=5))
    known = {image.tobytes(): votes for image, votes in zip(arrays.images, arrays.votes, strict=True)}  # type: ignore[arg-type]
    np.testing.assert_array_equal(targets, [known[image.tobytes()] for image in images])
    assert len(known) == len(images) == 16
    balanced = np.array([info.class_weights[label] for label in info.labels])
    np.testing.assert_allclose(weights, targets @ balanced, rtol=1e-6)
    _, labels = joined(validation_batches(Source.open(voted / SHARDS, "val", info, memory), info, VOTED))
    assert set(labels.ravel()) == {0, 1}


def test_mixing_mixes_votes(voted: Path) -> None:
    info = read_dataset_info(voted / SHARDS)
    source = Source.open(voted / SHARDS, "train", info, voted=True)
    mixing = VOTED.model_copy(update={"augmentation": PLAIN.model_copy(update={"mixup": 1.0})})
    plain, mixed = (joined(training_batches(source, info, how, seed=5))[1][:7] for how in (VOTED, mixing))
    assert (np.abs(mixed - plain) > 0.01).any()
    low, high = np.minimum(plain, plain[::-1]), np.maximum(plain, plain[::-1])
    assert ((low - 1e-6 <= mixed) & (mixed <= high + 1e-6)).all()
    np.testing.assert_allclose(mixed.sum(axis=1), 1, atol=1e-6)


def test_a_training_learns_votes_and_is_judged_by_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All train images of a class were seen as the other one: the model answers so, and is wrong on val."""
    monkeypatch.chdir(tmp_path)
    rows = ["path,happy,sad"]
    for number in range(90):
        split, label = ("train", "val", "test")[number % 3], number // 3 % 2
        image = np.random.default_rng(number).integers(60, 90, (16, 16), dtype=np.uint8) + 100 * label
        path = Path(f"faces/{split}/{('happy', 'sad')[label]}/{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", image.astype(np.uint8))[1].tobytes())
        rows.append(f"{path.relative_to('faces')},{9 * label},{9 - 9 * label}")
    Path("votes.csv").write_text("\n".join(rows))
    make_shards(data={"votes": "votes.csv"})
    training = {"targets": "votes", "epochs": 12, "learning_rate": 0.01, "batch_size": 5, "monitor": "val_loss"}
    params = write_params(data={"votes": "votes.csv"}, training=training)
    history = Trainer("toy", params, read_dataset_info(SHARDS), SHARDS).run(Checkpoint(Path("state")), LiveRun("toy"))
    assert history.metrics["val_accuracy"][-1] < 0.1


def test_votes_are_asked_for_where_there_are_none(tmp_path: Path) -> None:
    info = toy_shards(tmp_path / "toy")
    params = parse_params({"training": {"targets": "votes"}, "models": {"toy": {"architecture": "lenet"}}})
    with pytest.raises(
        ParamsError, match=r"training\.targets: found votes, but .*toy has none for train; set data\.votes"
    ):
        Trainer("toy", params, info, tmp_path / "toy")


def test_the_identity_of_trainings_by_labels_is_as_before(voted: Path) -> None:
    info, models = read_dataset_info(voted / SHARDS), {"toy": {"architecture": "lenet"}}
    assert "targets" not in TrainingParams().identity()
    by_labels, by_votes = (
        training_id("toy", parse_params({"training": training, "models": models}), info)
        for training in ({}, {"targets": "votes"})
    )
    assert by_labels != by_votes


def test_the_fingerprint_knows_the_votes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    write_source(tmp_path)
    none, some = (DataParams(source="faces", votes=votes) for votes in ("", "votes.csv"))
    before, first = update_fingerprint(SOURCE, none, 0), update_fingerprint(SOURCE, some, 0)
    assert before.votes is None
    assert first == update_fingerprint(SOURCE, some, 0)
    assert first.model_copy(update={"votes": None}) == before
    Path("votes.csv").write_text(Path("votes.csv").read_text().replace("7,3", "3,7"))
    changed = update_fingerprint(SOURCE, some, 0)
    assert changed != first
    Path("votes.csv").unlink()
    assert update_fingerprint(SOURCE, some, 0) == changed
    assert "votes.csv: no such file" in capsys.readouterr().err
    Path("faces").rename("elsewhere")
    assert update_fingerprint(SOURCE, none, 0) == before
    with pytest.raises(SourceError, match=r"other\.csv: no such file"):
        update_fingerprint(SOURCE, DataParams(source="faces", votes="other.csv"), 0)


def joined(dataset: Any) -> list[NDArray[Any]]:
    return [np.concatenate(parts) for parts in zip(*dataset.as_numpy_iterator(), strict=True)]
