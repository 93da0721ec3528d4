"""ModelBundle: what training hands to serving, and the only thing that serving ever sees of training.

    bundles/M/bundle.json    BundleInfo: labels, input, temperature, reference shares, metrics, checksums, lineage
    bundles/M/model.onnx     uint8 (N, S, S, C) "image" -> float32 (N, classes) "probabilities", calibrated
    bundles/M/explain.onnx   "image", int64 (N,) "target" (class) -> float32 (N, S, S) "heatmap", 0 to 1; not for all
    bundles/M/golden.npz     drawn faces and the right answers to them, see `golden`; not in bundles from before them
    bundles/M/model.int8.onnx, golden.int8.npz    the same in 8 bits, where that is as good and faster: `Quantisation`

The reader refuses what does not verify. The graph does everything after the S x S crop, so that any
architecture can become champion without a change in the server.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from emotion_detection.errors import BundleError
from emotion_detection.reference import Reference

BUNDLE_FILE = "bundle.json"
MODEL_FILE = "model.onnx"
EXPLAIN_FILE = "explain.onnx"
GOLDEN_FILE = "golden.npz"
INT8_FILE = "model.int8.onnx"
INT8_GOLDEN_FILE = "golden.int8.npz"
INPUT_NAME = "image"
OUTPUT_NAME = "probabilities"
TARGET_NAME = "target"
HEAT_NAME = "heatmap"

Precision = Literal["fp32", "int8"]
"""What a graph computes in; int8: 8-bit weights and activations where they cost time, float32 elsewhere."""
Wanted = Literal["auto", "fp32", "int8"]
"""auto: int8 where the bundle has it, for it has it only where it is better."""


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


class Quantisation(BaseModel):
    """What became of the model in int8, measured by export; the fp32 graph is the measure.

    All but `speedup` follows from model, data and parameters. It depends on the machine as well, and is therefore no
    part of the bundle's digest: exporting a model again gives no other version of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    method: Literal["static", "dynamic"]
    """static: ranges of the activations from training faces (QDQ); dynamic: from each batch, for MatMul alone."""
    fp32_accuracy: float
    """On the validation split."""
    int8_accuracy: float
    fp32_ece: float
    """Expected calibration error on the validation split; the temperature was fitted for fp32."""
    int8_ece: float
    fp32_bytes: int
    """Size of `model.onnx`."""
    int8_bytes: int
    speedup: float
    """Time of fp32 / time of int8 where it was exported: batch 1, one thread, medians of runs in turns."""
    refused: Literal["accuracy", "speed"] | None
    """Why the bundle has no int8 graph; None: it has one. Accuracy is looked at first."""
    golden_tolerance: float | None = Field(None, gt=0)
    """As that of the bundle, for int8 on the faces of `golden.int8.npz`; None where int8 was refused."""

    @model_validator(mode="after")
    def _kept_with_golden_faces(self) -> Quantisation:
        if (self.refused is None) != (self.golden_tolerance is not None):
            raise ValueError("golden_tolerance belongs to an int8 graph that is kept, and to no other")
        return self


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
    """Share of each label in the training data."""
    reference: Reference | None = None
    """What drift is measured against; None in bundles from before there was one: the shares above have to do then."""
    metrics: dict[str, float]
    """val_accuracy, test_accuracy, test_macro_f1, test_ece, parity (largest difference to Keras)."""
    explanation: Explanation | None = None
    """None where the bundle has no `explain.onnx`: the model is explained by occlusion then."""
    golden_tolerance: float | None = Field(None, gt=0)
    """Largest difference of any probability that a machine may show on the faces of `golden.npz`; None: it has none."""
    quantisation: Quantisation | None = None
    """None where int8 was not tried, or ONNX Runtime cannot quantise the graph."""
    lineage: Lineage
    files: dict[str, str]
    """SHA-256 of every other file of the bundle, by name."""

    @property
    def has_int8(self) -> bool:
        return self.quantisation is not None and self.quantisation.golden_tolerance is not None

    def digest(self) -> str:
        """SHA-256 that names the bundle: `files` holds the checksums of all the rest."""
        # Bundles from before there were explanations, golden faces, int8 and references keep their names.
        later = ("explanation", "golden_tolerance", "quantisation", "reference")
        left_out: dict[str, Any] = {field: True for field in later if getattr(self, field) is None}
        if self.quantisation:
            left_out["quantisation"] = {"speedup"}
        return hashlib.sha256(self.model_dump_json(exclude=left_out).encode()).hexdigest()


@dataclass(frozen=True)
class ModelBundle:
    """A verified bundle on disk."""

    directory: Path
    info: BundleInfo

    @property
    def model_path(self) -> Path:
        """The graph in fp32, which every bundle has."""
        return self.directory / MODEL_FILE

    @property
    def explain_path(self) -> Path | None:
        return self.directory / EXPLAIN_FILE if self.info.explanation else None

    def precision(self, wanted: Wanted = "auto") -> Precision:
        """What to answer with.

        Raises:
            BundleError: int8 is wanted, and the bundle does not have it.
        """
        if wanted == "int8" and not self.info.has_int8:
            tried = self.info.quantisation
            why = f"its {tried.refused} did not suffice" if tried else "it was exported without"
            raise BundleError(f"{self.directory}: has no {INT8_FILE}: {why}; ask for auto or fp32")
        return "int8" if wanted != "fp32" and self.info.has_int8 else "fp32"

    def graph_path(self, precision: Precision) -> Path:
        """The graph that answers in a precision which the bundle has."""
        return self.directory / (MODEL_FILE if precision == "fp32" else INT8_FILE)

    def golden(self, precision: Precision) -> tuple[Path, float] | None:
        """Golden faces for a precision, and the largest difference that is allowed; None: the bundle has none."""
        tried = self.info.quantisation
        if precision == "int8" and tried and tried.golden_tolerance:
            return self.directory / INT8_GOLDEN_FILE, tried.golden_tolerance
        return (self.directory / GOLDEN_FILE, self.info.golden_tolerance) if self.info.golden_tolerance else None


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
    if any((name in info.files) != info.has_int8 for name in (INT8_FILE, INT8_GOLDEN_FILE)):
        raise BundleError(f"{directory / BUNDLE_FILE}: what it says of int8 does not fit the files that it names")
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
