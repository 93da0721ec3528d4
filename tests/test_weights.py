"""Digests of pretrained weights: what changes them, what DVC makes of it, and what happens without the file."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from emotion_detection.artifacts import WEIGHTS, DatasetInfo, Weights, read_record
from emotion_detection.errors import ParamsError
from emotion_detection.params import Params, parse_params
from emotion_detection.training import training_id
from emotion_detection.weights import update_weights, weights_sha256

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def params(weights: str | None = None) -> Params:
    entry = {"architecture": "mini_xception"} | ({} if weights is None else {"weights": weights})
    return parse_params({"models": {"toy": entry, "other": {"architecture": "lenet"}}})


def update(weights: str | None = None) -> str | None:
    return update_weights(WEIGHTS, params(weights)).root["toy"].sha256


def checkpoint(directory: Path) -> Path:
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(b"tensors")
    return directory


def identity(weights: str | None = None) -> str:
    info = DatasetInfo(
        labels=("a", "b"),
        image_size=64,
        channels=1,
        counts={},
        class_weights={},
        reference_shares={},
        files={},
        data_hash="0" * 64,
    )
    return training_id("toy", params(weights), info)


def test_digest_of_a_file_is_its_sha256(workplace: Path) -> None:
    (workplace / "a.h5").write_bytes(b"content")
    assert weights_sha256("a.h5") == hashlib.sha256(b"content").hexdigest()


@pytest.mark.parametrize("change", ["config.json", "model.safetensors", "model-00002-of-00002.safetensors"])
def test_any_part_of_a_checkpoint_matters(workplace: Path, change: str) -> None:
    directory = checkpoint(workplace / "vit")
    before = weights_sha256("vit")
    (directory / "README.md").write_text("not a part")
    assert weights_sha256("vit") == before
    (directory / change).write_text("other")
    assert weights_sha256("vit") != before


def test_words_stand_for_themselves() -> None:
    words = ["imagenet", "google/vit-base-patch16-224-in21k", "owner/other"]
    assert len({weights_sha256(word) for word in words} | {None}) == 4
    assert weights_sha256("none") is None


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("missing.h5", r"models\.toy\.weights: missing\.h5: no such file"),
        ("../faces/vit", r"models\.toy\.weights: \.\./faces/vit: no such file"),
        ("empty", r"models\.toy\.weights: empty: has no config\.json"),
    ],
)
def test_weights_that_are_not_there_name_the_param(workplace: Path, weights: str, message: str) -> None:
    (workplace / "empty").mkdir()
    with pytest.raises(ParamsError, match=message):
        update(weights)


def test_content_decides_the_training_and_none_does_not(workplace: Path) -> None:
    assert identity("none") == identity()
    (workplace / "a.h5").write_bytes(b"one")
    before = identity("a.h5")
    assert before != identity()
    (workplace / "a.h5").write_bytes(b"two")
    assert identity("a.h5") != before


def test_weights_that_are_gone_keep_their_recorded_digest(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / "a.h5").write_bytes(b"one")
    checkpoint(workplace / "vit")
    for name in ("a.h5", "vit"):
        before = update(name)
        (workplace / name).rename(workplace / f"was-{name}")
        assert update(name) == before
        assert f"warning: models.toy: {name}: not here" in capsys.readouterr().err
    with pytest.raises(ParamsError, match=r"a\.h5: no such file"):
        update("a.h5")  # the record is of the other one


def test_an_unchanged_file_is_neither_read_nor_written_again(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvc_data.hashfile import hash as dvc_hash

    read: list[str] = []
    original = dvc_hash.file_md5
    monkeypatch.setattr(dvc_hash, "file_md5", lambda path, *a, **k: read.append(path) or original(path, *a, **k))
    (workplace / "a.h5").write_bytes(b"one")
    update("a.h5")
    before = WEIGHTS.stat()
    update("a.h5")
    assert (WEIGHTS.stat().st_ino, WEIGHTS.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert len(read) == 1


PARAMS = """
data: {synthetic: {count: 10}}
models:
  with-weights: {architecture: mini_xception, weights: a.h5}
  lenet: {architecture: lenet}
"""


@pytest.fixture
def repository(workplace: Path) -> Path:
    """A DVC repository with the real fingerprint stage and params of the real train stage, that only notes its turn."""
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    train = stages["train"]["do"] | {"cmd": "echo ${key} > ${key}.txt", "deps": [], "outs": ["${key}.txt"]}
    content = {"stages": {"fingerprint": stages["fingerprint"], "train": {"foreach": "${models}", "do": train}}}
    YAML(typ="safe").dump(content, workplace / "dvc.yaml")
    (workplace / "params.yaml").write_text(f"seed: 0\ntraining: {{epochs: 1}}\n{PARAMS}")
    (workplace / "a.h5").write_bytes(b"one")
    run("git", "init", "-q")
    run("dvc", "init", "-q")
    return workplace


def run(*command: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def repro(*arguments: str) -> list[str]:
    return re.findall(r"^Running stage '([^']+)'", run("dvc", "repro", *arguments), re.M)


def test_dvc_trains_again_exactly_what_uses_a_changed_file(repository: Path) -> None:
    assert repro("train@with-weights") == ["fingerprint", "train@with-weights"]  # in this order, unasked
    assert repro() == ["fingerprint", "train@lenet"]
    assert repro() == ["fingerprint"]
    (repository / "a.h5").write_bytes(b"two")
    assert repro() == ["fingerprint", "train@with-weights"]
    (repository / "a.h5").unlink()
    assert repro() == ["fingerprint"]
    assert read_record(WEIGHTS, Weights).root["with-weights"].sha256 == hashlib.sha256(b"two").hexdigest()


def test_the_stage_runs_without_heavy_imports(repository: Path) -> None:
    code = (
        "import sys; from pipeline.fingerprint import main; main();"
        "print(sorted({'tensorflow', 'keras', 'h5py', 'mlflow', 'cv2', 'pandas', 'dvc'} & sys.modules.keys()))"
    )
    printed = run(sys.executable, "-c", code).splitlines()
    assert printed[-1] == "[]"
    assert printed[-2] == f"models.with-weights: a.h5, {hashlib.sha256(b'one').hexdigest()}"
    assert json.loads((repository / WEIGHTS).read_text())["lenet"]["sha256"] is None
