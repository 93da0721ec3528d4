"""Every file that crosses from one stage to the next: its path, its schema, its reader and its writer.

    data/source.json             fingerprint of `data.source`            SourceFingerprint
    data/suspicious.json         digest of `validation.suspicious`       FileFingerprint
    data/weights.json            digests of pretrained weights           Weights
    data/dataset.parquet         every image of the source               DATASET_SCHEMA
    data/decisions.parquet       keep or drop, with the reason           DECISIONS_SCHEMA
    data/shards/                 TFRecord files and dataset.json         DatasetInfo
    models/M/                    model.keras, history.json, run.json     History, RunInfo
    reports/validation.json      counts and defects                      ValidationReport (data/report.py)
    reports/data/                pictures of the data                    (see data/pictures.py)
    reports/M/                   metrics.json, predictions.parquet       Report, PREDICTIONS_SCHEMA
    bundles/M/                   the ModelBundle                         (see bundle.py)
    edge/M/, reports/M/edge.json LiteRT files; what they are worth       EdgeReport
    comparison/                  all models beside each other            Comparison (comparison/table.py)
    registrations/M.json         the registered version                  Registration

Paths are relative to the root of the repository, which is where every stage runs. Writers are atomic: a
reader finds a whole file or none.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import (
    BaseModel,
    ConfigDict,
    RootModel,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from emotion_detection.errors import ArtifactError

SOURCE = Path("data/source.json")
SUSPICIOUS = Path("data/suspicious.json")
WEIGHTS = Path("data/weights.json")
DATASET = Path("data/dataset.parquet")
DECISIONS = Path("data/decisions.parquet")
SHARDS = Path("data/shards")
VALIDATION_JSON = Path("reports/validation.json")
VALIDATION_DOCS = Path("reports/validation")
DATA_PICTURES = Path("reports/data")
COMPARISON = Path("comparison")
DVC_LOCK = Path("dvc.lock")
FEEDBACK_PREFIX = "feedback:"

DATASET_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),  # inside the source, with "/"; with FEEDBACK_PREFIX: feedback
        pa.field("split", pa.string(), nullable=False),  # train, val or test
        pa.field("label", pa.string(), nullable=False),  # class name as the source has it
        pa.field("image", pa.binary(), nullable=False),  # encoded bytes, untouched
        pa.field("sha256", pa.string(), nullable=False),  # of `image`, hexadecimal
        pa.field("width", pa.int32()),  # pixels, after EXIF rotation; null where the header is unreadable
        pa.field("height", pa.int32()),
        pa.field("mode", pa.string()),  # Pillow's name: L, RGB, RGBA, P, CMYK, I;16 ...
        pa.field("format", pa.string()),  # Pillow's name: JPEG, PNG ...
        pa.field("votes", pa.map_(pa.string(), pa.float32())),  # people by what they saw in it; null without any
    ]
)

# One row per row of the data set, in its order. `reason` names the check of `validation` in params.yaml that
# dropped the image, or "class" where `data.classes` leaves its label out; null where it is kept.
DECISIONS_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("keep", pa.bool_(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("defects", pa.list_(pa.string()), nullable=False),  # all found, also those only warned of
    ]
)

# One row per image of the val and test shards. Logits are the model's raw outputs, before temperature.
PREDICTIONS_SCHEMA = pa.schema(
    [
        pa.field("split", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("label", pa.int32(), nullable=False),
        pa.field("predicted", pa.int32(), nullable=False),
        pa.field("logits", pa.list_(pa.float32()), nullable=False),
    ]
)


class Record(BaseModel):
    """A small JSON file: immutable, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class FileFingerprint(Record):
    """What a file held when it was last looked at."""

    file: str
    """As written in params.yaml; empty where none is given."""
    digest: str


class SourceFingerprint(Record):
    """What the source held when it was last looked at; a change makes DVC ingest again."""

    source: str
    """`data.source`, as written in params.yaml."""
    kind: str
    """synthetic, directory, archive, fer_csv, feedback or kaggle."""
    digest: str
    files: int
    size: int
    """Bytes."""
    votes: FileFingerprint | None = None
    """Of `data.votes`."""
    feedback: FileFingerprint | None = None
    """Of `data.feedback`."""


class WeightsFingerprint(Record):
    """What the weights that a training starts from, and its teachers, were when they were last looked at."""

    weights: str
    """`models.NAME.weights`, as written in params.yaml; none where it is left out."""
    sha256: str | None
    """See `weights.decisive_sha256`; a change makes DVC train again."""
    local: bool
    """Whether they are a file or directory."""
    teachers: tuple[str, ...] = ()
    """`training.distillation.teachers` of the model."""

    @property
    def paths(self) -> list[str]:
        """Files and directories on this machine."""
        return [*([self.weights] if self.local else []), *self.teachers]


class Weights(RootModel[dict[str, WeightsFingerprint]]):
    """`data/weights.json`, by model."""

    model_config = ConfigDict(frozen=True)


class DatasetInfo(Record):
    """`data/shards/dataset.json`: what the shards hold."""

    labels: tuple[str, ...]
    """Class names in the order of the model's outputs."""
    image_size: int
    channels: int
    counts: dict[str, dict[str, int]]
    """Images by split and label."""
    class_weights: dict[str, float]
    """Mean class size / size of the class, in the training split."""
    reference_shares: dict[str, float]
    """Share of each label in the training split: the distribution that drift is measured against."""
    files: dict[str, str]
    """SHA-256 by file name."""
    data_hash: str
    """SHA-256 over the sorted image hashes, labels and splits that were kept: names the data whatever the
    number of shards; their votes as well, where there are some."""
    votes: dict[str, int] | None = None
    """Images with votes by split, where `data.votes` is given: then records hold `image/class/votes`."""

    @model_serializer(mode="wrap")
    def without_none(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave `votes` out where there are none, so that such shards are what they were before."""
        content: dict[str, Any] = serialise(self)
        return {key: value for key, value in content.items() if value is not None}


class History(Record):
    """`models/M/history.json`: one value per epoch."""

    metrics: dict[str, list[float]]
    """loss, accuracy, val_loss, val_accuracy, learning_rate, seconds."""
    best_epoch: int
    """Counted from zero; its weights are in model.keras."""
    resumed_at: list[int]
    """Epochs at which an interrupted training went on."""
    stages: list[int] = []
    """Epochs, counted from zero, at which the stages of fine-tuning began."""
    parameters: int
    """Weights of the model, trainable or not."""


class RunInfo(Record):
    """`models/M/run.json`: the MLflow run of a training, or none if MLflow could not be reached."""

    training_id: str
    """SHA-256 of model parameters, training parameters, seed and data hash: finds the run again."""
    run_id: str | None
    experiment: str


class Interval(Record):
    """An estimate with its bootstrap interval."""

    value: float
    low: float
    high: float


class SplitMetrics(Record):
    """Figures of one split; probabilities are those after temperature scaling unless said otherwise."""

    images: int
    accuracy: Interval
    balanced_accuracy: float
    macro_f1: Interval
    roc_auc: float
    """Mean over classes, one against the rest."""
    ece_before: float
    """Expected calibration error without temperature."""
    ece: float
    precision: dict[str, float]
    recall: dict[str, float]


class ViewAccuracy(Record):
    """Accuracy of one of the `views`."""

    val: Interval | None
    """None for ten crops, which cost too much for a figure that nothing is chosen by."""
    test: Interval


class SliceAccuracy(Record):
    """Accuracy of a part of the test split; the interval is Wilson's."""

    slicing: str
    """What it was cut by: class, brightness ..."""
    title: str
    images: int
    accuracy: Interval


class CorruptionAccuracy(Record):
    """Accuracy on faces that were corrupted in one way; the interval is Wilson's."""

    corruption: str
    strength: float
    accuracy: Interval


class Robustness(Record):
    """Accuracy on corrupted test images, the same ones in each row."""

    images: int
    clean: Interval
    """On the same images, not corrupted."""
    mean: Interval
    """Over all corruptions and strengths."""
    rows: tuple[CorruptionAccuracy, ...]

    def by_corruption(self) -> dict[str, float]:
        """Mean accuracy over the strengths of each corruption, in their order."""
        values: dict[str, list[float]] = {}
        for row in self.rows:
            values.setdefault(row.corruption, []).append(row.accuracy.value)
        return {name: sum(found) / len(found) for name, found in values.items()}


class Report(Record):
    """`reports/M/metrics.json`."""

    model: str
    temperature: float
    """Fitted on the validation split."""
    flip_average: bool = False
    """Whether every answer is that to the face and its mirror image, as `inference` in params.yaml had it."""
    val: SplitMetrics
    test: SplitMetrics
    views: dict[str, ViewAccuracy] = {}
    """Where faces are looked at in several ways, by name in `views`; whatever is served."""
    robustness: Robustness | None = None
    slices: tuple[SliceAccuracy, ...] = ()
    """Of the test split."""


QuantisationMethod = Literal["static", "dynamic"]
"""static: ranges of the activations from training faces; dynamic: from the face at hand."""


class EdgeGraph(Record):
    """What a LiteRT file is worth."""

    method: QuantisationMethod | None
    """None: it computes in float32."""
    bytes: int
    milliseconds: float
    """Per face, one thread, TensorFlow's interpreter with XNNPACK, on the machine that converted it: median of rounds
    in which the files took turns."""
    difference: float
    """Largest of any probability to Keras, on `export.parity_images` test images."""
    accuracy: float
    """On the validation split, as all that follow."""
    ece: float
    agreement: float
    """Share of the images for which Keras gives the same class."""


class EdgeReport(Record):
    """`reports/M/edge.json`."""

    model: str
    keras_accuracy: float
    """On the validation split."""
    float32: EdgeGraph
    int8: EdgeGraph | None
    """None where no method was good enough: then edge/M/ has no model.int8.tflite."""
    rejected: dict[QuantisationMethod, str]
    """Why a method was not good enough."""


class Registration(Record):
    """`registrations/M.json`."""

    model: str
    name: str
    """Registered model in MLflow."""
    version: str
    run_id: str
    tracking_uri: str
    bundle_sha256: str


RecordType = TypeVar("RecordType", bound=BaseModel)


def model_dir(name: str) -> Path:
    return Path("models", name)


def report_dir(name: str) -> Path:
    return Path("reports", name)


def bundle_dir(name: str) -> Path:
    return Path("bundles", name)


def edge_dir(name: str) -> Path:
    return Path("edge", name)


def edge_report(name: str) -> Path:
    return report_dir(name) / "edge.json"


def registration_file(name: str) -> Path:
    return Path("registrations", f"{name}.json")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, moved into place when the block ends without an error.

    Raises:
        ArtifactError: the file cannot be written, for example because the disk is full; nothing is left.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise ArtifactError(
            f"{path}: cannot be written: {error.strerror or error}; free space or rights, then run again"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """As `atomic_file`, for a directory; what stood at `path` before is replaced as a whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        shutil.rmtree(path, ignore_errors=True)
        temporary.replace(path)
    except OSError as error:
        raise ArtifactError(
            f"{path}: cannot be written: {error.strerror or error}; free space or rights, then run again"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_record(path: Path, record: BaseModel) -> None:
    """Write one record as indented JSON with a newline at the end."""
    with atomic_file(path) as temporary:
        temporary.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_record(path: Path, kind: type[RecordType]) -> RecordType:
    """Read one record.

    Raises:
        ArtifactError: the file is missing or does not fit the schema.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ArtifactError(f"{path}: missing; `dvc repro` makes it, `dvc pull` fetches it") from None
    except ValidationError as error:
        raise ArtifactError(f"{path}: not a valid {kind.__name__}; remove it and run `dvc repro`: {error}") from None


@contextmanager
def intact(path: Path) -> Iterator[None]:
    """Within, a Parquet file that cannot be read is an ArtifactError."""
    try:
        yield
    except FileNotFoundError:
        raise ArtifactError(f"{path}: missing; `dvc repro` makes it, `dvc pull` fetches it") from None
    except (pa.ArrowException, OSError) as error:  # a damaged footer or page is an OSError
        raise ArtifactError(f"{path}: damaged; remove it and run `dvc repro`: {error}") from None


def read_table(path: Path, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file, or some of its columns.

    Raises:
        ArtifactError: the file is missing or damaged, is no Parquet file or has other columns.
    """
    with intact(path):
        return open_parquet(path, schema).read(columns)


def open_parquet(path: Path, schema: pa.Schema) -> pq.ParquetFile:
    """Open a Parquet file for streaming by row group, each within `intact`.

    Raises:
        ArtifactError: the file is missing, is no Parquet file or has other columns.
    """
    with intact(path):
        file = pq.ParquetFile(path)
    if not file.schema_arrow.equals(schema):
        raise ArtifactError(f"{path}: has columns {file.schema_arrow.names}, expected {schema.names}; run `dvc repro`")
    return file
