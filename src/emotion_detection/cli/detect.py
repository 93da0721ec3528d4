"""`emotion detect`: the emotions in pictures. `emotion fetch-face-model`: a better face detector.

emotion detect holiday/ portrait.jpg "*.png"
emotion detect photo.jpg --server http://127.0.0.1:8000 --json
emotion detect photos/ --bundle bundles/lenet --faces all --annotate drawn/
"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emotion_detection.cli.output import AsJson, print_json, print_table
from emotion_detection.errors import DetectionError, ImageError

if TYPE_CHECKING:
    from emotion_detection.detection import Detector, Record

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
"""What is taken of a directory; a file that is named is always taken."""
CACHE = Path(".cache/detect")
ELSEWHERE = "_root"


class Faces(StrEnum):
    """Values of --faces, see crops.py."""

    auto = "auto"
    all = "all"
    largest = "largest"
    none = "none"


class Precision(StrEnum):
    """Values of --precision, see bundle.py."""

    auto = "auto"
    fp32 = "fp32"
    int8 = "int8"


Server = Annotated[str | None, typer.Option(help="Ask a server.", metavar="URL")]
Bundle = Annotated[
    Path | None, typer.Option(help="Answer with this bundle; by default with the champion's.", metavar="DIR")
]
FaceModel = Annotated[
    Path | None, typer.Option(help="YuNet's file; by default the one that was fetched, if any.", metavar="FILE")
]
Computed = Annotated[
    Precision, typer.Option(help="auto: int8 where the bundle has it; fp32 or int8 to insist.", case_sensitive=False)
]
Which = Annotated[
    Faces, typer.Option(help="all, or the largest, that are found; none: the picture is one; auto: whatever fits.")
]


def detect(  # noqa: PLR0913, PLR0917  one for each option
    files: Annotated[list[str], typer.Argument(help="Pictures, directories, or patterns.", metavar="FILE...")],
    server: Server = None,
    bundle: Bundle = None,
    faces: Which = Faces.auto,
    face_model: FaceModel = None,
    precision: Computed = Precision.auto,
    annotate: Annotated[
        Path | None, typer.Option(help="Write the pictures with boxes and labels, as DIR/FILE.png.", metavar="DIR")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find the faces in pictures and say what emotion is in each. Exit status 1 if a picture could not be used."""
    detector = open_detector(server, bundle, face_model, precision)
    records = [_judge(detector, path, faces, annotate) for path in find_files(files)]
    if as_json:
        print_json(records)
    else:
        columns = ("picture", " faces", "emotion", " confidence", "quality")
        print_table("Emotions", columns, [row for record in records for row in _rows(record)])
    failures = [record for record in records if "error" in record]
    for record in failures:
        print(f"error: {record['file']}: {record['error']}", file=sys.stderr)
    if failures:
        raise typer.Exit(1)


def fetch_face_model(
    source: Annotated[str | None, typer.Option(help="URL of the folder that holds it.", metavar="URL")] = None,
) -> None:
    """Download YuNet (230 KB), which finds more faces, and faster, than what comes with OpenCV."""
    from emotion_detection.face_model import SOURCE, fetch_face_model

    print(f"{fetch_face_model(source or SOURCE)}: verified; used from here on by `emotion` and the server")


def open_detector(server: str | None, bundle: Path | None, face_model: Path | None, precision: Precision) -> Detector:
    """What the options ask for; neither a server nor a bundle: the champion of the registry."""
    from emotion_detection.bundle import read_bundle
    from emotion_detection.detection import LocalDetector, ServerDetector
    from emotion_detection.face_model import cached_face_model
    from emotion_detection.faces import FaceFinder

    if server and (bundle or face_model or precision is not Precision.auto):
        raise DetectionError("--server finds faces and emotions itself: leave --bundle, --face-model, --precision out")
    if server:
        return ServerDetector(server)
    finder = FaceFinder(face_model or cached_face_model())
    return LocalDetector(read_bundle(bundle or _champion()), finder, precision.value)


def find_files(names: Iterable[str]) -> Iterator[Path]:
    """Files as they are named, directories and patterns by name; a name of nothing is left to fail as a file."""
    for name in names:
        path = Path(name)
        matches = () if path.exists() else sorted(glob.glob(name, recursive=True))  # noqa: PTH207  (may be absolute)
        found = [Path(match) for match in matches]
        for match in found or [path]:
            inside = sorted(file for file in match.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
            yield from inside if match.is_dir() else [match]


def _champion() -> Path:
    from emotion_detection.params import load_params
    from emotion_detection.registry import download_bundle, resolve_champion

    version = resolve_champion(load_params().registry.model)
    return download_bundle(version, CACHE / version.name / version.version).directory


def _judge(detector: Detector, path: Path, faces: Faces, annotated: Path | None) -> Record:
    try:
        data = path.read_bytes()
        record = {"file": str(path), **detector.file(data, faces.value)}
    except OSError as error:
        return {"file": str(path), "error": f"{error.strerror}; expected an image file"}
    except ImageError as error:
        return {"file": str(path), "error": str(error)}
    return record | {"annotated": str(_draw(data, record, path, annotated))} if annotated else record


def _draw(data: bytes, record: Record, path: Path, directory: Path) -> Path:
    from emotion_detection.annotation import annotate
    from emotion_detection.preprocess import decode, encode_png

    target = directory / place_of(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(encode_png(annotate(decode(data, 3), record["faces"])))
    except OSError as error:
        raise DetectionError(f"--annotate {directory}: {error.strerror}; expected a directory to write to") from None
    return target


def place_of(path: Path) -> Path:
    """Where a picture is drawn, below --annotate: its own for every file, whatever it is called and wherever it lies.

    As it lies below the current directory, and what lies elsewhere by its whole path below `_root`; with .png after the
    name, as a.jpg and a.png may lie side by side.
    """
    full, here = Path(os.path.abspath(path)), Path.cwd()  # noqa: PTH100  (resolve() would follow links to other names)
    inside = full.relative_to(here) if full.is_relative_to(here) else Path(ELSEWHERE, *full.parts[1:])
    return inside.with_name(f"{inside.name}.png")


def _rows(record: Record) -> Iterator[list[str]]:
    if "error" in record:
        yield [record["file"], "", "[bold red]cannot be used[/]", "", ""]
        return
    yield from (
        [
            record["file"] if number == 0 else "",
            str(len(record["faces"])) if number == 0 else "",
            face["label"],
            f"{face['confidence']:.1%}",
            ", ".join(reason.replace("_", " ") for reason in face["quality"]["reasons"]) or "good",
        ]
        for number, face in enumerate(record["faces"])
    )
    if not record["faces"]:
        yield [record["file"], "0", "", "", ""]
