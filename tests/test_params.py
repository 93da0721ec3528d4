"""params.yaml is read in one place, and every mistake in it is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from emotion_detection.errors import ParamsError
from emotion_detection.params import Params, load_params, merge, parse_params
from emotion_detection.params_edit import prepare_edit, read_preset

ROOT = Path(__file__).parents[1]
MINIMAL = {"models": {"lenet": {"architecture": "lenet"}}}


def test_the_shipped_file_is_valid() -> None:
    params = load_params(ROOT / "params.yaml")
    assert set(params.models) == {"lenet", "emotion_cnn", "vit"}
    assert params.export.max_difference == 1e-4  # YAML 1.2: not the string "1e-4"


@pytest.mark.parametrize("name", ["grey-48", "colour-256", "fer2013"])
def test_presets_fit_onto_the_shipped_file(name: str) -> None:
    params = prepare_edit(ROOT / "params.yaml", [], read_preset(name, ROOT / "presets")).params
    expected = {
        "grey-48": (48, 1, 64, 1e-4, 50, 7),
        "colour-256": (256, 3, 16, 1e-3, 25, 3),
        "fer2013": (48, 1, 64, 0.05, 60, 0),  # all classes that the source has
    }[name]
    (model,) = params.models
    training = params.training_of(model)
    assert expected == (
        params.data.image_size,
        params.data.channels,
        training.batch_size,
        training.learning_rate,
        training.epochs,
        len(params.data.classes),
    )


def test_a_patch_removes_what_it_sets_to_null() -> None:
    assert merge({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": None}, "d": 4}) == {"a": {"c": 2}, "d": 4}


def test_params_are_frozen() -> None:
    params = parse_params(MINIMAL)
    with pytest.raises(ValidationError, match="frozen"):
        params.seed = 1  # type: ignore[misc]


def test_a_model_overrides_single_training_values() -> None:
    models = {"vit": {"architecture": "vit", "training": {"epochs": 3, "augmentation": {"flip": False}}, "depth": 2}}
    params = parse_params({"training": {"epochs": 7, "batch_size": 8}, "models": models})
    training = params.training_of("vit")
    assert (training.epochs, training.batch_size, training.augmentation.flip) == (3, 8, False)
    assert training.augmentation.rotation == 10.0
    assert params.model("vit").hyperparameters == {"depth": 2}


@pytest.mark.parametrize(
    ("content", "key", "words"),
    [
        ({"sed": 1}, "sed", "unknown key; allowed here: seed, data"),
        ({"data": {"split": {"vall": 0.1}}}, "data.split.vall", "unknown key; allowed here: val, test"),
        ({"data": {"image_size": "48"}}, "data.image_size", "found '48'; input should be a valid integer"),
        ({"data": {"image_size": 4}}, "data.image_size", "found 4; input should be greater than or equal to 8"),
        ({"data": {"channels": 2}}, "data.channels", "found 2; input should be 1 or 3"),
        ({"data": {"split": {"val": 0.6, "test": 0.5}}}, "data.split", "together must be below 1"),
        ({"training": {"optimizer": "adan"}}, "training.optimizer", "'adam', 'adamw' or 'sgd'"),
        ({"training": {"epochs": 2.5}}, "training.epochs", "found 2.5"),
        ({"validation": {"leaked": {"drop": ["tests"]}}}, "validation.leaked.drop.0", "'train', 'val' or 'test'"),
        ({"models": {}}, "models", "at least 1 item"),
        ({"models": {"a": {}}}, "models.a.architecture", "missing"),
        *(
            ({"models": {name: {"architecture": "lenet"}}}, f"models.{name}", "letters, digits, - and _, beginning")
            for name in ("lenet.v2", "my model", "-x", "", "größe", "data", "labels", "validation")
        ),
        ({"models": {"a": {"architecture": "../x"}}}, "models.a.architecture", "should match pattern"),
        (
            {"models": {"a": {"architecture": "lenet", "training": {"epchs": 1}}}},
            "models.a.training.epchs",
            "unknown key; allowed here: batch_size, epochs",
        ),
    ],
)
def test_a_mistake_is_named_with_what_is_allowed(content: dict[str, object], key: str, words: str) -> None:
    with pytest.raises(ParamsError) as raised:
        parse_params({**MINIMAL, **content})
    line = next(line for line in str(raised.value).splitlines() if line.startswith(f"{key}:"))
    assert words in line


def test_names_of_models_stand_in_the_schema() -> None:
    models = Params.model_json_schema()["properties"]["models"]
    (pattern,) = models["patternProperties"]
    assert re.match(pattern, "mobilenet_v2-0")
    assert not re.match(pattern, "lenet.v2")


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(ParamsError) as raised:
        parse_params({**MINIMAL, "seed": -1, "data": {"shards": 0}})
    assert len(str(raised.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "words"), [(None, "no such file"), ("a: [1", "not valid YAML"), ("- a\n", "expected a mapping")]
)
def test_an_unusable_file_is_named(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "params.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ParamsError, match=words) as raised:
        load_params(path)
    assert str(path) in str(raised.value)


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(ParamsError, match=r"models\.vgg: no such model; params\.yaml has lenet"):
        parse_params(MINIMAL).model("vgg")


@pytest.mark.parametrize(("flip_average", "expected"), [(True, True), (False, False), (["lenet"], True), ([], False)])
def test_the_mirror_image_is_for_all_models_or_some(flip_average: object, expected: bool) -> None:
    params = parse_params({**MINIMAL, "inference": {"flip_average": flip_average}})
    assert params.flip_average_of("lenet") is expected


def test_a_model_that_is_not_there_cannot_be_asked_with_the_mirror_image() -> None:
    with pytest.raises(ParamsError, match=r"inference\.flip_average: no such model: vgg; params\.yaml has lenet"):
        parse_params({**MINIMAL, "inference": {"flip_average": ["lenet", "vgg"]}})
