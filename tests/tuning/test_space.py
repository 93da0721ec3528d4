"""Search spaces: every mistake is named before a training, and what is drawn is what is written."""

from __future__ import annotations

import math
from typing import Any

import pytest

from emotion_detection.errors import ParamsError
from emotion_detection.params import Params, parse_params
from emotion_detection.tuning.space import Space, current_values, search_space, settings, with_values

BASE = {"models": {"toy": {"architecture": "lenet", "filters": [4], "dropout": 0.2}}}
RATE = {"training.learning_rate": {"low": 1e-4, "high": 0.1, "log": True}}


def params(tuning: dict[str, Any], **changes: Any) -> Params:
    return parse_params({**BASE, "tuning": tuning, **changes})


def space(**tuning: Any) -> Space:
    return search_space(params(tuning), "toy")


@pytest.mark.parametrize(
    ("tuning", "message"),
    [
        ({"space": {"training.rate": {"low": 1, "high": 2}}}, "training.rate: unknown key; allowed here: batch_size"),
        ({"space": {"hed_dropout": {"low": 0.1, "high": 0.2}}}, "toy.hed_dropout: unknown key; allowed here: filters"),
        ({"space": {"dropout": {"low": 0.1, "high": 1.2}}}, "tuning.space.dropout: 1.2 is not allowed"),
        ({"space": {"training": {"learning_rate": {"low": -1, "high": 1}}}}, "learning_rate: -1 is not allowed"),
        (
            {"models": {"toy": {"training.optimizer": {"choices": ["sdg"]}}}},
            "tuning.models.toy.training.optimizer: sdg",
        ),
        ({"space": {"training.batch_size": {"low": 1.5, "high": 8}}}, "1.5 is not allowed"),
        ({"space": {"training.epochs": {"low": 1, "high": 8}}}, "cannot be tuned: all trials have the same"),
        ({"space": {"training.finetuning.0.epochs": {"low": 1, "high": 8}}}, "cannot be tuned"),
        ({"space": {"architecture": {"choices": ["lenet", "vit"]}}}, "cannot be tuned: another architecture"),
        ({"models": {"tyo": RATE}}, "tuning.models.tyo: no such model; params.yaml has toy"),
        ({"space": RATE, "models": {"toy": {"training.learning_rate": None}}}, "leaves nothing to tune"),
    ],
    ids=str,
)
def test_a_wrong_range_is_named(tuning: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError) as error:
        search_space(params(tuning), "toy")
    assert message in str(error.value)
    assert str(error.value).startswith("tuning.")


@pytest.mark.parametrize(
    ("tuning", "message"),
    [
        ({"space": {"dropout": {"low": 0.5, "high": 0.1}}}, "tuning.space.dropout: .* low must be below high"),
        ({"space": {"dropout": {"low": 0, "high": 0.1, "log": True}}}, "log needs low above 0"),
        ({"space": {"dropout": {"low": 0.1}}}, "give low and high, or choices"),
        ({"space": {"dropout": {"choices": [0.1], "low": 0.1}}}, "choices stand alone"),
        (
            {"space": {"dropout": {"low": 0.1, "hgh": 0.2}}},
            "dropout.hgh: unknown key; allowed here: low, high, log, step",
        ),
        ({"space": {"training": {"patience": {"low": 1, "high": 2}}, "training.patience": None}}, "stands there twice"),
        ({"prunner": "none"}, "tuning.prunner: unknown key"),
    ],
    ids=str,
)
def test_what_is_no_range_is_an_error_wherever_params_are_read(tuning: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        params(tuning)


def test_numbers_are_whole_where_the_hyperparameter_is() -> None:
    found = space(
        space={
            "training.batch_size": {"low": 8, "high": 64, "step": 8},
            "training.augmentation.rotation": {"low": 0, "high": 30},
            "filters": {"choices": [[4], [4, 8]]},
        }
    )
    drawn = {"training.batch_size": 16, "training.augmentation.rotation": 12.345678, "filters": "[4, 8]"}
    values = {"filters": [4, 8], "training.augmentation.rotation": 12.35, "training.batch_size": 16}
    assert found.values(drawn) == values
    assert found.size == math.inf
    assert with_values(params({}), "toy", values).model("toy").hyperparameters["filters"] == [4, 8]
    finite = space(space={"training.batch_size": {"low": 8, "high": 65, "step": 8}, "filters": {"choices": [[4], [8]]}})
    assert finite.size == 16
    assert len({str(finite.values(one)) for one in finite.grid()}) == 16


def test_the_present_values_are_found_in_the_space_or_not() -> None:
    tuning = {"space": {**RATE, "dropout": {"low": 0.0, "high": 0.5}, "training.optimizer": {"choices": ["adam"]}}}
    found = search_space(params(tuning), "toy")
    present = current_values(params(tuning), "toy", found)
    assert present == {"dropout": 0.2, "training.learning_rate": 0.001, "training.optimizer": "adam"}
    assert found.drawn(present) == present
    assert found.drawn({**present, "training.learning_rate": 0.5}) is None
    assert found.drawn({**present, "training.optimizer": "sgd"}) is None


@pytest.mark.parametrize("architecture", ["lenet", "emotion_cnn", "vit", "efficientnet_b4"])
def test_the_default_space_fits_every_architecture(architecture: str) -> None:
    own = {"dropout": 0.1} if architecture == "vit" else {}  # where it is left out, a checkpoint decides
    plain = parse_params({"models": {"m": {"architecture": architecture, **own}}})
    found = search_space(plain, "m")
    assert {"training.learning_rate", "training.optimizer", "training.weight_decay"} <= found.distributions.keys()
    assert any(key.endswith("dropout") for key in found.distributions)
    assert found.drawn(current_values(plain, "m", found)) is not None


def test_what_is_part_of_the_validation_loss_is_not_judged_by_it() -> None:
    by_loss = {"training": {"monitor": "val_loss"}}
    assert "training.label_smoothing" not in search_space(params({}, **by_loss), "toy").distributions
    with pytest.raises(ParamsError, match="is part of val_loss"):
        search_space(params({"space": {"l2": {"low": 0.0, "high": 0.1}}}, **by_loss), "toy")


def test_settings_are_what_emotion_run_takes() -> None:
    from emotion_detection.params_edit import parse_settings

    values = {"filters": [4, 8], "training.learning_rate": 1e-05, "training.optimizer": "sgd"}
    nested = {"filters": [4, 8], "training": {"learning_rate": 1e-05, "optimizer": "sgd"}}
    assert parse_settings(settings("toy", values)) == {"models": {"toy": nested}}
