"""ModelBundle: what training hands to serving, and the only thing that serving ever sees of training.

    bundles/M/bundle.json    BundleInfo: labels, input, temperature, reference shares, metrics, checksums, lineage
    bundles/M/model.onnx     uint8 (N, S, S, C) "image" -> float32 (N, classes) "probabilities", calibrated
    bundles/M/explain.onnx   "image", int64 (N,) "target" (class) -> float32 (N, S, S) "heatmap", 0 to 1; not for all
    bundles/M/golden.npz     drawn faces and the right answers to them, see `golden`; not in bundles from before them

The reader refuses what does not verify. The graph does everything after the S x S crop, so that any
architecture can become champion without a change in the server.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emotion_detection.errors import BundleError

BUNDLE_FILE = "bundle.json"
MODEL_FILE = "model.onnx"
EXPLAIN_FILE = "explain.onnx"
GOLDEN_FILE = "golden.npz"
INPUT_NAME = "image"
OUTPUT_NAME = "probabilities"
TARGET_NAME = "target"
HEAT_NAME = "heatmap"


class Lineage(BaseModel):
    """Where a model comes from; each field is a link that `emotion trace` follows."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    commit: str | None
    """Git commit that was checked out; none outside a repository."""
    dirty: bool
    """Whether tracked files differed from that commit."""
    dvc_lock: str | None
    """SHA-256 of the entries in dvc.lock of every stage upstream of the bundle."""
    data_hash: str
    """`DatasetInfo.data_hash`."""
    training_id: str
    """`RunInfo.training_id`."""


class Explanation(BaseModel):
    """What `explain.onnx` computes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    method: Literal["grad_cam", "attention_rollout"]
    """attention_rollout answers the same for every class."""
    layer: str
    """Keras layer that is looked at: the last feature map, or the last attention."""


class BundleInfo(BaseModel):
    """`bundle.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    format: Literal[1] = 1
    model: str
    """Name of the entry in `models` of params.yaml."""
    architecture: str
    parameters: int
    labels: tuple[str, ...] = Field(min_length=2)
    """Class names in the order of the outputs."""
    image_size: int
    """Side S of the square input, pixels."""
    channels: Literal[1, 3]
    temperature: float = Field(gt=0)
    """Already in the graph; here for information."""
    reference_shares: dict[str, float]
    """Share of each label that drift is measured against."""
    metrics: dict[str, float]
    """val_accuracy, test_accuracy, test_macro_f1, test_ece, parity (largest difference to Keras)."""
    explanation: Explanation | None = None
    """None where the bundle has no `explain.onnx`: the model is explained by occlusion then."""
    golden_tolerance: float | None = Field(None, gt=0)
    """Largest difference of any probability that a machine may show on the faces of `golden.npz`; None: it has none."""
    lineage: Lineage
    files: dict[str, str]
    """SHA-256 of every other file of the bundle, by name."""

    def digest(self) -> str:
        """SHA-256 that names the bundle: `files` holds the checksums of all the rest."""
        # Bundles from before there were explanations and golden faces keep their names.
        added = {field for field in ("explanation", "golden_tolerance") if getattr(self, field) is None}
        return hashlib.sha256(self.model_dump_json(exclude=added).encode()).hexdigest()


@dataclass(frozen=True)
class ModelBundle:
    """A verified bundle on disk."""

    directory: Path
    info: BundleInfo

    @property
    def model_path(self) -> Path:
        return self.directory / MODEL_FILE

    @property
    def explain_path(self) -> Path | None:
        return self.directory / EXPLAIN_FILE if self.info.explanation else None

    @property
    def golden_path(self) -> Path | None:
        return self.directory / GOLDEN_FILE if self.info.golden_tolerance else None


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_bundle_info(directory: Path, info: BundleInfo) -> None:
    """Complete a bundle: its other files must already stand in `directory`."""
    (directory / BUNDLE_FILE).write_text(info.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_bundle(directory: Path) -> ModelBundle:
    """Read and verify a bundle.

    Raises:
        BundleError: `bundle.json` is missing or invalid, a file is missing, has other bytes than recorded, or
            leads out of the directory.
    """
    try:
        info = BundleInfo.model_validate_json((directory / BUNDLE_FILE).read_bytes())
    except OSError as error:
        raise BundleError(f"{directory / BUNDLE_FILE}: {error.strerror}; expected a bundle made by export") from None
    except ValidationError as error:
        raise BundleError(f"{directory / BUNDLE_FILE}: not a valid bundle: {error}") from None
    if MODEL_FILE not in info.files:
        raise BundleError(f"{directory / BUNDLE_FILE}: names no {MODEL_FILE}")
    if info.explanation and EXPLAIN_FILE not in info.files:
        raise BundleError(f"{directory / BUNDLE_FILE}: has an explanation, but names no {EXPLAIN_FILE}")
    if info.golden_tolerance and GOLDEN_FILE not in info.files:
        raise BundleError(f"{directory / BUNDLE_FILE}: has a golden_tolerance, but names no {GOLDEN_FILE}")
    for name, expected in info.files.items():
        _verify(directory, name, expected)
    return ModelBundle(directory, info)


def _verify(directory: Path, name: str, expected: str) -> None:
    if Path(name).name != name:
        raise BundleError(f"{directory / BUNDLE_FILE}: {name!r} is not a plain file name")
    try:
        found = file_sha256(directory / name)
    except OSError as error:
        raise BundleError(f"{directory / name}: {error.strerror}; fetch the bundle again") from None
    if found != expected:
        raise BundleError(f"{directory / name}: SHA-256 is {found}, expected {expected}; fetch the bundle again")
