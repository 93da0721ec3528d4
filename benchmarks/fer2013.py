"""A bundle on the test images of FER2013 as people download it, so that its figure can stand beside published ones.

    python -m benchmarks.fer2013 --data fer2013.zip --bundle bundles/se_resnet [--bundle SEED1 ...] [--public WEIGHTS]

Published figures are for all 3,589 PrivateTest images, 288 of which stand in the training split, too. So each figure
is printed for all of them, for those that do not (leak-free), and for the clean images of PublicTest and PrivateTest
together (neither in train nor twice); the latter hold the images on which the epoch was selected. The views are those
of `emotion_detection.views`; `single` is one pass of the served graph. Intervals are 95 % bootstrap. With `--public`
the published mini_xception weights (fer2013_mini_XCEPTION.102-0.66.hdf5) answer the same images, and p is McNemar's.
Several bundles, trained with other seeds, give their mean and spread as well.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.public_mini_xception import CONFIDENCE, RESAMPLES, public_logits, public_model
from emotion_detection import stats
from emotion_detection.bundle import BundleInfo, ModelBundle, read_bundle
from emotion_detection.data.defects import redundant
from emotion_detection.data.sources import open_source
from emotion_detection.errors import reported
from emotion_detection.models import InputSpec
from emotion_detection.params import DataParams
from emotion_detection.preprocess import prepare
from emotion_detection.scoring import predictor
from emotion_detection.stats import softmax
from emotion_detection.views import view_logits

Images = NDArray[np.uint8]
Probabilities = NDArray[np.float32]


def test_images(source: str, info: BundleInfo) -> tuple[pd.DataFrame, Images]:
    """All images of PublicTest (val) and PrivateTest (test), with what is wrong with each.

    Returns:
        A table with columns split, sha256, label (index), leaked (its bytes stand in train) and again (its bytes came
        before), and uint8 (N, S, S, C).
    """
    rows, training, images = [], set(), []
    for sample in track(open_source(DataParams(source=source), seed=0), "read", console=Console(stderr=True)):
        digest = hashlib.sha256(sample.data).hexdigest()
        if sample.split == "train":
            training.add(digest)
            continue
        rows.append((sample.split, digest, info.labels.index(sample.label)))
        images.append(prepare(sample.data, info.image_size, info.channels))
    table = pd.DataFrame(rows, columns=["split", "sha256", "label"])
    table["leaked"] = table["sha256"].isin(training)
    table["again"] = redundant(table.assign(split="test"), table["leaked"])
    return table, np.stack(images)


def views(bundle: ModelBundle, images: Images) -> dict[str, Probabilities]:
    """Probabilities (N, K) by way of looking."""
    predict = predictor(bundle)

    def logits(faces: Images) -> Probabilities:
        return np.log(np.maximum(predict(faces), np.finfo(np.float32).tiny))

    found = view_logits(logits, images, logits(images), ten_crop=True)
    return {view: softmax(values).astype(np.float32) for view, values in found.items()}


def figures(probabilities: Probabilities, labels: NDArray[np.int64], names: tuple[str, ...]) -> list[str]:
    """Accuracy, macro-F1, recall of the two weakest classes, calibration error."""
    confusion = stats.confusion_matrix(labels, probabilities.argmax(axis=1), len(names))
    low, high = stats.bootstrap_interval(confusion, stats.accuracy, RESAMPLES, CONFIDENCE, seed=0)
    recall = stats.recall(confusion)
    return [
        f"{float(stats.accuracy(confusion)):.2%} ({low:.2%} to {high:.2%})",
        f"{float(stats.macro_f1(confusion)):.3f}",
        ", ".join(f"{names[place]} {recall[place]:.3f}" for place in recall.argsort()[:2]),
        f"{stats.expected_calibration_error(probabilities, labels, bins=15):.3f}",
    ]


def against(ours: Probabilities, theirs: Probabilities, labels: NDArray[np.int64]) -> str:
    """Difference in accuracy with its interval, and McNemar's p."""
    mine, other = (answers.argmax(axis=1) == labels for answers in (ours, theirs))
    difference, low, high = stats.paired_bootstrap(mine, other, RESAMPLES, CONFIDENCE, seed=0)
    return f"{difference:+.2%} ({low:+.2%} to {high:+.2%}), p {stats.mcnemar(mine, other):.1g}"


def sets(images: pd.DataFrame) -> dict[str, pd.Series]:
    """Which rows of `test_images` belong to each set that a figure is for."""
    private = images["split"] == "test"
    return {
        "PrivateTest": private,
        "PrivateTest, leak-free": private & ~images["leaked"],
        "PublicTest": ~private,
        "clean images of both": ~images["leaked"] & ~images["again"],
    }


def comparison(
    images: pd.DataFrame, labels: tuple[str, ...], seen: dict[str, Probabilities], theirs: Probabilities | None
) -> Table:
    """A row for each set of images and way of looking; after each set the public model's, where it was asked."""
    table = Table("images", "", "view", "accuracy", "macro-F1", "lowest recalls", "ECE", "ours - public mini_xception")
    for name, chosen in sets(images).items():
        truth = images.loc[chosen, "label"].to_numpy()
        for view, probabilities in seen.items():
            compared = "" if theirs is None else against(probabilities[chosen], theirs[chosen], truth)
            table.add_row(name, f"{chosen.sum():,}", view, *figures(probabilities[chosen], truth, labels), compared)
        if theirs is not None:
            table.add_row(name, f"{chosen.sum():,}", "public", *figures(theirs[chosen], truth, labels))
        table.add_section()
    return table


def recalls(images: pd.DataFrame, labels: tuple[str, ...], single: Probabilities) -> Table:
    """Recall of each class in one view, with the images that are right and all there are."""
    table = Table("images", *labels, title="recall, one view")
    for name, chosen in sets(images).items():
        confusion = stats.confusion_matrix(
            images.loc[chosen, "label"].to_numpy(), single[chosen].argmax(axis=1), len(labels)
        )
        counts = zip(confusion.diagonal(), confusion.sum(axis=1), strict=True)
        table.add_row(name, *(f"{right / total:.2f} ({right}/{total})" for right, total in counts))
    return table


def spread(images: pd.DataFrame, runs: list[dict[str, Probabilities]]) -> Table:
    """Mean, standard deviation and range of the accuracy of several trainings of one recipe."""
    table = Table("images", "view", "mean", "standard deviation", "lowest", "highest", title=f"{len(runs)} trainings")
    for name, chosen in sets(images).items():
        truth = images.loc[chosen, "label"].to_numpy()
        for view in runs[0]:
            found = [float((run[view][chosen].argmax(axis=1) == truth).mean()) for run in runs]
            table.add_row(
                name, view, *(f"{x:.2%}" for x in (np.mean(found), np.std(found, ddof=1), min(found), max(found)))
            )
    return table


def main(
    data: Annotated[str, typer.Option(help="FER2013: zip, directory or csv")],
    bundle: Annotated[list[Path], typer.Option(help="a bundle with FER2013's seven classes; several: of other seeds")],
    public: Annotated[Path | None, typer.Option(help="fer2013_mini_XCEPTION.102-0.66.hdf5")] = None,
) -> None:
    """Print a table for the first bundle, and what several have in common."""
    bundles = [read_bundle(path) for path in bundle]
    info = bundles[0].info
    images, pixels = test_images(data, info)
    runs = [views(each, pixels) for each in bundles]
    theirs = None
    if public:
        model = public_model(public, InputSpec(info.image_size, info.channels, len(info.labels)))
        theirs = softmax(public_logits(model, pixels, info.labels)).astype(np.float32)
    console = Console(width=150)
    console.print(comparison(images, info.labels, runs[0], theirs))
    console.print(recalls(images, info.labels, runs[0]["single"]))
    if len(runs) > 1:
        console.print(spread(images, runs))


if __name__ == "__main__":
    with reported():
        typer.run(main)
