"""`emotion labels`: which labels of the data set are probably wrong.

emotion labels lenet --folds 4 --epochs 5
emotion labels emotion_cnn --split test
"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from emotion_detection.cli.output import AsJson, print_json, print_table

if TYPE_CHECKING:
    from emotion_detection.label_quality.report import ClassQuality


class Part(StrEnum):
    """Values of --split."""

    train = "train"
    val = "val"
    test = "test"


SPLIT_OPTION = typer.Option(help="train: by new trainings; val, test: by the trained model.")
FOLDS_OPTION = typer.Option(min=2, help="Trainings; each leaves out a part of the images and judges it.")
EPOCHS_OPTION = typer.Option(min=1, help="Of each training, without fine-tuning; default: those of the model.")


def labels(  # noqa: PLR0913, PLR0917  one for each option
    model: Annotated[str, typer.Argument(help="An entry in `models` of params.yaml.")],
    split: Annotated[Part, SPLIT_OPTION] = Part.train,
    folds: Annotated[int, FOLDS_OPTION] = 5,
    epochs: Annotated[int | None, EPOCHS_OPTION] = None,
    most: Annotated[float, typer.Option(min=0, max=1, help="Share of the images that may be suspicious.")] = 0.1,
    shown: Annotated[int, typer.Option(min=0, max=400, help="Images in the picture.")] = 48,
    as_json: AsJson = False,
) -> None:
    """Find labels that are probably wrong, by a model that has not seen them."""
    from emotion_detection.label_quality.report import Limits, judge_held_out, judge_training, labels_dir
    from emotion_detection.params import load_params

    params, limits = load_params(), Limits(most, shown)
    with redirect_stdout(sys.stderr):  # the course of the trainings
        if split is Part.train:
            found = judge_training(model, params, folds, epochs, limits)
        else:
            found = judge_held_out(model, params, "val" if split is Part.val else "test", limits)
    if as_json:
        print_json(found.model_dump())
        return
    rows = [_row(name, quality) for name, quality in found.classes.items()]
    print_table(f"Labels of {split}, by {model}", ("label", " images", " suspicious", "most often suggested"), rows)
    print(f"of {found.images:,} labels {found.accuracy:.1%} are the model's answer; it is confident of another one for")
    print(f"{found.doubted:,}, of which the worst {found.suspicious:,} are suspicious")
    print(f"estimated to be wrong: {found.estimated_errors:.1%}")
    directory = labels_dir(model, found.split)
    print(f"with pictures: {directory}/index.html")
    if split is Part.train:
        print(f"to leave them out of train: emotion run validation.suspicious.file={directory}/suspicious.csv \\")
        print("  validation.suspicious.drop=[train]")


def _row(name: str, quality: ClassQuality) -> list[str]:
    suggested = ", ".join(f"{other} ({count})" for other, count in list(quality.suggested.items())[:3])
    return [name, f"{quality.images:,}", f"{quality.suspicious:,}", suggested]
