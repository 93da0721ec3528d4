"""`emotion explain`: what a model says of images, and where in them the reason lies.

emotion explain face.jpg --model lenet
emotion explain *.jpg --bundle bundles/vit --class happy --output why.png
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emotion_detection.cli.output import AsJson, print_json, print_table
from emotion_detection.errors import ExplanationError, ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from emotion_detection.explain.heatmaps import Images, Method, Targets
    from emotion_detection.explain.subjects import Subject
    from emotion_detection.figures import Drawing


class How(StrEnum):
    """Values of --method."""

    auto = "auto"
    grad_cam = "grad_cam"
    rollout = "rollout"
    occlusion = "occlusion"
    features = "features"


METHODS: dict[How, Method | None] = {
    How.auto: None,
    How.grad_cam: "grad_cam",
    How.rollout: "attention_rollout",
    How.occlusion: "occlusion",
}
MODEL_OPTION = typer.Option("--model", help="A trained model: an entry in `models` of params.yaml.")
METHOD_OPTION = typer.Option(help="auto: what fits the model. features: the feature maps of its convolution blocks.")


def explain(  # noqa: PLR0913, PLR0917  one for each option
    images: Annotated[list[Path], typer.Argument(help="Pictures of one face each.", metavar="IMAGE...")],
    model: Annotated[str | None, MODEL_OPTION] = None,
    bundle: Annotated[Path | None, typer.Option(help="A bundle instead; needs no Keras.", metavar="DIR")] = None,
    method: Annotated[How, METHOD_OPTION] = How.auto,
    label: Annotated[str | None, typer.Option("--class", help="Explain this class, not the answer.")] = None,
    output: Annotated[Path, typer.Option(help="Where to write the picture.")] = Path("explanation.png"),
    as_json: AsJson = False,
) -> None:
    """Say what a model sees in images, and draw where the reason lies."""
    import numpy as np

    from emotion_detection.figures import write_figures

    if output.suffix.lower() != ".png" or not output.parent.is_dir():
        raise ExplanationError(f"--output: found {str(output)!r}; expected a .png file in a directory that exists")
    subject = _subject(model, bundle)
    faces = np.stack([_read(path, subject) for path in images])
    probabilities = subject.predict(faces)
    targets = probabilities.argmax(axis=1) if label is None else np.full(len(faces), subject.index_of(label))
    used, drawing = _picture(subject, faces, targets, probabilities, method)
    write_figures(output.parent, {output.stem: drawing})
    records = [
        _record(subject, path, row) | {"explained_by": used} for path, row in zip(images, probabilities, strict=True)
    ]
    if as_json:
        print_json({"picture": str(output), "images": records})
        return
    columns = ("image", "answer", *(f" {name}" for name in subject.labels))
    print_table(f"{subject.name}, explained by {used}", columns, [_row(record) for record in records])
    print(f"picture: {output}")


def _subject(model: str | None, bundle: Path | None) -> Subject:
    from emotion_detection.explain.subjects import bundled, trained
    from emotion_detection.params import load_params

    if (model is None) == (bundle is None):
        raise ExplanationError("give one of --model NAME, a trained model, and --bundle DIR")
    return bundled(bundle) if bundle else trained(str(model), load_params())


def _read(path: Path, subject: Subject) -> Images:
    from emotion_detection.preprocess import prepare

    try:
        return prepare(path.read_bytes(), subject.image_size, subject.channels, subject.max_pixels)
    except OSError as error:
        raise ExplanationError(f"{path}: {error.strerror}; expected an image file") from None
    except ImageError as error:
        raise ExplanationError(f"{path}: {error}") from None


def _picture(
    subject: Subject, faces: Images, targets: Targets, probabilities: NDArray[Any], method: How
) -> tuple[str, Drawing]:
    """What is shown, and how to draw it."""
    from emotion_detection.explain.pictures import NAMES, Explained, channels, explanations

    if method is How.features:
        if len(faces) > 1:
            raise ExplanationError(f"--method features: found {len(faces)} images, give one")
        maps = subject.feature_maps(faces[0])
        if not maps:
            raise ExplanationError(f"--method features: {subject.name} has no blocks of convolutions; use rollout")
        return method.value, lambda: channels(faces[0], maps)
    used, heat = subject.explain(faces, targets, METHODS[method])
    titles = [
        f"{subject.labels[target]}\n{row[target]:.0%}" for target, row in zip(targets, probabilities, strict=True)
    ]
    items = [Explained(*item) for item in zip(faces, heat, titles, strict=True)]
    return used, lambda: explanations(items, NAMES[used])


def _record(subject: Subject, path: Path, row: NDArray[Any]) -> dict[str, Any]:
    probabilities = dict(zip(subject.labels, map(float, row), strict=True))
    return {"image": str(path), "answer": subject.labels[row.argmax()], "probabilities": probabilities}


def _row(record: dict[str, Any]) -> list[str]:
    return [record["image"], record["answer"], *(f"{value:.3f}" for value in record["probabilities"].values())]
