"""What stands behind the weights and the teachers of a model: in a file for DVC, and in the identity of a training.

    update_weights(WEIGHTS, params)             # data/weights.json: {NAME: {"weights": ..., "sha256": ...}}
    weights_sha256("vgg16_notop.h5")            # of the file's content
    teachers_sha256(["teachers/se_resnet"])     # of the bundles' contents

The name of a file in params.yaml says nothing of its content, so the stage that always runs writes the digests, and
`train@NAME` depends on its own alone. No Keras here: it runs before every `dvc repro`.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from emotion_detection.artifacts import Weights, WeightsFingerprint, read_record, write_record
from emotion_detection.bundle import read_bundle
from emotion_detection.data.fingerprint import file_hashes
from emotion_detection.errors import ArtifactError, BundleError, ParamsError, SourceError
from emotion_detection.params import Params

NONE, IMAGENET = "none", "imagenet"
SUFFIXES = (".h5", ".hdf5", ".keras", ".safetensors")


def update_weights(path: Path, params: Params) -> Weights:
    """Write the digests of all models' weights and teachers to `path`, unless they stand there already.

    What is not on this machine, but was when `path` was written (a clone that pulled only the artifacts),
    keeps its digest, with a warning.

    Raises:
        ParamsError: something is missing and never was described, or is unreadable.
        ArtifactError: `path` cannot be written.
    """
    known = _known(path)
    found = Weights({name: _fingerprint(name, params, known.root.get(name), path) for name in params.models})
    if found != known:
        write_record(path, found)
    return found


def weights_sha256(weights: str) -> str | None:
    """SHA-256, hexadecimal, of what decides the weights; null for `none`.

    That is the content of a file; of a directory in Hugging Face's format its config.json and *.safetensors; for
    `imagenet` and the id of a model (owner/name) the word itself.

    Raises:
        ParamsError: it is a file that is missing or unreadable, or a directory without weights.
    """
    if weights == NONE:
        return None
    path = local_path(weights)
    if path is None:
        return hashlib.sha256(weights.encode()).hexdigest()
    if path.is_dir():
        return _directory_sha256(path)
    if not path.is_file():
        raise ParamsError(f"weights: {weights}: no such file; give the path of one that is there, or {NONE}")
    return _hashes([path])[0]


def teachers_sha256(teachers: Sequence[str]) -> str | None:
    """SHA-256, hexadecimal, of what teachers answer with: of the digests of their bundles; null without any.

    Raises:
        ParamsError: a bundle is missing or damaged.
    """
    if not teachers:
        return None
    try:
        digests = [read_bundle(Path(teacher).expanduser()).info.digest() for teacher in teachers]
    except BundleError as error:
        raise ParamsError(f"training.distillation.teachers: {error}") from None
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def decisive_sha256(weights: str, teachers: Sequence[str]) -> str | None:
    """Of both; of the weights alone where there are no teachers.

    Raises:
        ParamsError: as the two.
    """
    taught = teachers_sha256(teachers)
    own = weights_sha256(weights)
    return hashlib.sha256(f"{own} {taught}".encode()).hexdigest() if taught else own


def local_path(weights: str) -> Path | None:
    """The path that `weights` is: whatever exists, or can be nothing else for its form."""
    path = Path(weights).expanduser()
    if weights in (NONE, IMAGENET):
        return None
    meant = weights.startswith((".", "/", "~")) or weights.endswith(SUFFIXES) or weights.count("/") > 1
    return path if meant or path.exists() else None


def _directory_sha256(directory: Path) -> str:
    files = [directory / "config.json", *sorted(directory.glob("*.safetensors"))]
    if not all(file.is_file() for file in files):
        raise ParamsError(f"weights: {directory}: has no config.json; give a checkpoint in Hugging Face's format")
    lines = "".join(f"{digest} {file.name}\n" for file, digest in zip(files, _hashes(files), strict=True))
    return hashlib.sha256(lines.encode()).hexdigest()


def _hashes(files: list[Path]) -> list[str]:
    try:
        return file_hashes([(str(file.absolute()), file.stat()) for file in files], "sha256")
    except SourceError as error:
        raise ParamsError(f"weights: {error}") from None


def _fingerprint(name: str, params: Params, known: WeightsFingerprint | None, path: Path) -> WeightsFingerprint:
    weights = str(params.model(name).hyperparameters.get("weights", NONE))
    teachers = params.training_of(name).distillation.teachers
    if known is not None and (known.weights, known.teachers) == (weights, teachers):
        missing = [file for file in known.paths if not Path(file).expanduser().exists()]
        if missing:
            print(
                f"warning: models.{name}: {', '.join(missing)}: not here; going on as recorded in {path}",
                file=sys.stderr,
            )
            return known
    try:
        sha256 = decisive_sha256(weights, teachers)
    except ParamsError as error:
        raise ParamsError(f"models.{name}.{error}") from None
    local = local_path(weights) is not None
    return WeightsFingerprint(weights=weights, sha256=sha256, local=local, teachers=teachers)


def _known(path: Path) -> Weights:
    try:
        return read_record(path, Weights)
    except ArtifactError:
        return Weights({})
