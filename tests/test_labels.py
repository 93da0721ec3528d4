"""Labels that others use, mapped to those of the data set."""

from __future__ import annotations

import pytest

from emotion_detection.errors import ParamsError
from emotion_detection.labels import output_order

OURS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")


@pytest.mark.parametrize(
    ("theirs", "order"),
    [
        (OURS, [0, 1, 2, 3, 4, 5, 6]),
        (("Sadness", "ANGER", "neutral", "surprised", "fearful", "Happiness", "disgusted"), [1, 6, 4, 5, 2, 0, 3]),
    ],
)
def test_order_of_outputs(theirs: tuple[str, ...], order: list[int]) -> None:
    assert output_order(theirs, OURS) == order


def test_aliases_hold_on_both_sides() -> None:
    assert output_order(("sad", "happy"), ("Happiness", "sadness")) == [1, 0]


@pytest.mark.parametrize(
    ("theirs", "ours", "without"),
    [
        ((*OURS, "contempt"), OURS, "contempt of the checkpoint and none of the data set"),
        (OURS[1:], OURS, "none of the checkpoint and angry of the data set"),
        (("LABEL_0", "LABEL_1"), ("happy", "sad"), "LABEL_0, LABEL_1 of the checkpoint and happy, sad of the data set"),
        (
            ("happy", "Happiness", "sad"),
            ("happy", "sad"),
            "happy, Happiness of the checkpoint and happy of the data set",
        ),
    ],
)
def test_labels_without_a_counterpart(theirs: tuple[str, ...], ours: tuple[str, ...], without: str) -> None:
    with pytest.raises(ParamsError) as refused:
        output_order(theirs, ours)
    assert without in str(refused.value)
    assert f"the checkpoint answers {', '.join(theirs)}; the data set has {', '.join(ours)}" in str(refused.value)
