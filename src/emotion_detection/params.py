"""The only reader of params.yaml: frozen, typed, and an unknown key is an error.

    from emotion_detection.params import load_params
    params = load_params()                      # params.yaml of the current directory
    params.training_of("vit").learning_rate     # the model's own value, else the common one

`emotion params --schema` prints the schema. Architectures declare their hyperparameters in the signature
of `build`; `models.check_hyperparameters` compares against it, since reading it needs Keras.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from emotion_detection.errors import ParamsError

Split = Literal["train", "val", "test"]
Share = Annotated[float, Field(ge=0, le=1)]
Unfrozen = Annotated[int, Field(ge=0)] | Literal["all"]
"""How many of a pretrained backbone's topmost layers with weights go on learning."""
PARAMS_FILE = Path("params.yaml")
ModelType = TypeVar("ModelType", bound=BaseModel)


class Section(BaseModel):
    """A part of params.yaml: immutable, strict about types, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class SplitParams(Section):
    """Shares of the images for splits that the source does not name itself."""

    val: Share = 0.15
    test: Share = 0.15

    @model_validator(mode="after")
    def leave_some_for_training(self) -> SplitParams:
        if self.val + self.test >= 1:
            raise ValueError("val and test together must be below 1")
        return self


class SyntheticParams(Section):
    """The drawn data set (`data.source: synthetic`)."""

    count: int = Field(5000, ge=1)
    """Images over all classes and splits."""
    difficulty: Share = 0.5
    """0: posed, frontal, evenly lit; 1: faint expressions, strong pose, poor light, blur, occlusion."""
    image_size: int = Field(64, ge=16, le=1024)
    """Side of the drawn images, pixels."""


class DataParams(Section):
    """Where the images come from and what every model sees of them."""

    source: str = "synthetic"
    """`synthetic`, a directory, zip or tar of `<split>/<class>/*` or `<class>/*`, a FER2013 csv, or
    `kaggle:owner/name`."""
    votes: str = ""
    """A csv (or csv.gz) that says how many people saw which emotion in each image: FER+'s `fer2013new.csv`, or a column
    `path`, `sha256` or `md5` and one of counts for each emotion; empty: none."""
    classes: tuple[str, ...] = ()
    """Class names to use, in the order of the model's outputs; empty: all that the source has, sorted."""
    image_size: int = Field(48, ge=8, le=1024)
    """Side of the square model input, pixels."""
    channels: Literal[1, 3] = 1
    """1: grey, 3: RGB."""
    max_pixels: int = Field(50_000_000, ge=1)
    """Images whose header announces more pixels are refused before decoding."""
    shards: int = Field(10, ge=1, le=99_999)
    """TFRecord files per split."""
    split: SplitParams = SplitParams()
    synthetic: SyntheticParams = SyntheticParams()


class CheckParams(Section):
    """What to do about images with one kind of defect."""

    drop: tuple[Split, ...] = ()
    """Splits from which such images are left out."""
    critical_above: Share = 1.0
    """The stage fails where a larger share of all images has the defect."""


class ConstantParams(CheckParams):
    min_std: float = Field(1.0, ge=0)
    """Images whose grey values (0 to 255) have a smaller standard deviation count as constant."""


class SizeParams(CheckParams):
    min_side: int = Field(16, ge=1)
    """Pixels; images with a shorter side count as too small."""


class NoFaceParams(CheckParams):
    min_share: float = Field(0.5, gt=0, le=1)
    """Images count as no face where at least this share of their votes (`data.votes`) says so."""


class SuspiciousParams(CheckParams):
    file: str = ""
    """A csv with a column `sha256`, such as the suspicious.csv of `emotion labels`; empty: none."""

    @model_validator(mode="after")
    def leave_what_judges_alone(self) -> SuspiciousParams:
        if set(self.drop) - {"train"}:
            raise ValueError(
                "only train may lose images for what a model thinks of their labels; without them val and test would "
                "make models look better than they are"
            )
        if self.drop and not self.file:
            raise ValueError("drop needs file, such as the suspicious.csv that `emotion labels` writes")
        return self


class NearDuplicateParams(CheckParams):
    max_distance: int = Field(0, ge=0, le=3)
    """Differing bits, out of 64, up to which two perceptual hashes count as near-duplicates."""


class ClassParams(Section):
    min_images: int = Field(1, ge=1)
    """Per class and split after dropping; fewer is critical."""
    max_imbalance: float = Field(10.0, ge=1)
    """Largest class over smallest class of the training split; more is a warning."""


class ValidationParams(Section):
    """Policy for each defect that validation looks for."""

    unreadable: CheckParams = CheckParams(drop=("train", "val", "test"), critical_above=0.05)
    constant: ConstantParams = ConstantParams(drop=("train", "val", "test"), critical_above=0.05)
    too_small: SizeParams = SizeParams(drop=("train", "val", "test"), critical_above=0.05)
    no_face: NoFaceParams = NoFaceParams()
    """Images that people saw no face in; needs `data.votes`."""
    conflicting_labels: CheckParams = CheckParams(drop=("train",), critical_above=0.1)
    """Equal bytes under different labels: nobody knows the right one, so all copies are meant."""
    suspicious: SuspiciousParams = SuspiciousParams()
    """Images whose label a model doubts; they may be left out of train alone."""
    leaked: CheckParams = CheckParams(drop=("val", "test"))
    """Copies of a training image in val or test, and copies of a test image in val."""
    duplicate: CheckParams = CheckParams(drop=("train", "val", "test"))
    """All but the first of equal images in one split."""
    near_duplicate: NearDuplicateParams = NearDuplicateParams()
    """Images whose perceptual hash is close to that of an image in another split."""
    classes: ClassParams = ClassParams()


class AugmentationParams(Section):
    """Random changes of the training images, made anew in every epoch."""

    flip: bool = True
    """Mirror left and right."""
    rotation: float = Field(10.0, ge=0, le=180)
    """Largest angle to either side, degrees."""
    zoom: float = Field(0.1, ge=0, lt=1)
    """Largest relative change of size."""
    shift: float = Field(0.1, ge=0, lt=1)
    """Largest translation, as a share of the side."""
    contrast: float = Field(0.2, ge=0, lt=1)
    """Largest relative change of contrast."""
    brightness: float = Field(0.0, ge=0, lt=1)
    """Largest change of brightness, as a share of the range of the pixels."""
    erasing: Share = 0.0
    """Probability that a rectangle of 2 to 20 % of the area is filled with the image's mean."""
    mixup: float = Field(0.0, ge=0)
    """Alpha of the Beta distribution by which two images and their labels are blended; 0: never."""
    cutmix: float = Field(0.0, ge=0)
    """The same for a rectangle of one image put into another; with `mixup` as well, a coin decides per batch."""


LATER_AUGMENTATION = ("brightness", "erasing", "mixup", "cutmix")


class FinetuningParams(Section):
    """A stage of fine-tuning: it goes on from the best weights so far, with an optimizer and a schedule of its own."""

    epochs: int = Field(ge=1)
    unfrozen: Unfrozen = "all"
    """Topmost layers of the backbone that learn; batch norm of the backbone stays in inference mode."""
    learning_rate: float | None = Field(None, gt=0)
    """Default: a hundredth of `training.learning_rate`."""


class TrainingParams(Section):
    """How a model is trained; `models.NAME.training` overrides single values."""

    batch_size: int = Field(64, ge=1)
    epochs: int = Field(10, ge=0)
    """0: the weights are taken as they are, such as those of a checkpoint that somebody else fine-tuned."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = Field(0.001, gt=0)
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup_epochs: float = Field(1.0, ge=0)
    """Epochs in which the learning rate rises linearly from zero (cosine schedule only)."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay of `adamw` and `sgd`: each step shrinks the kernels by learning rate x this."""
    weight_average: float = Field(0.0, ge=0, lt=1)
    """Decay per step of the exponential moving average of the weights, such as 0.999, which is judged and kept
    in place of the last weights; 0: no average."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    targets: Literal["labels", "votes"] = "labels"
    """What a training image is to be answered with: its label, or the shares of its votes (`data.votes`), where it has
    some. Models are always judged by labels."""
    class_weights: Literal["none", "balanced"] = "none"
    """`balanced`: the loss of an image is weighted by mean class size / size of its class."""
    monitor: Literal["val_accuracy", "val_loss"] = "val_accuracy"
    """What decides which epoch's weights are kept."""
    patience: int = Field(0, ge=0)
    """End a stage after so many epochs without improvement of `monitor`; 0: never."""
    augmentation: AugmentationParams = AugmentationParams()
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    """What layers compute in while they are trained; weights, loss and the saved model are float32."""
    devices: Annotated[int, Field(ge=1)] | Literal["all"] = 1
    """GPUs of this machine that share each batch; CPUs where there is no GPU."""
    finetuning: tuple[FinetuningParams, ...] = ()
    """Stages after the first `epochs` epochs, for which the backbone is as the architecture froze it."""

    def identity(self) -> dict[str, Any]:
        """All values, but for what came later and has its default: older trainings keep their `training_id`."""
        later = ("precision", "devices", "finetuning", "weight_average", "targets")
        values = without_defaults(self, later)
        return values | {"augmentation": without_defaults(self.augmentation, LATER_AUGMENTATION)}

    @property
    def total_epochs(self) -> int:
        """Epochs of all stages, if patience ends none."""
        return self.epochs + sum(stage.epochs for stage in self.finetuning)

    def stage(self, number: int) -> TrainingParams:
        """What holds in one stage: 0 is the first training, from 1 on those of `finetuning`."""
        if number == 0:
            return self
        stage = self.finetuning[number - 1]
        rate = stage.learning_rate or self.learning_rate / 100
        return self.model_copy(update={"epochs": stage.epochs, "learning_rate": rate})


class ModelParams(BaseModel):
    """One model to train: its architecture, its training overrides, and any hyperparameter of `build`."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)

    architecture: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """Name of a module in `src/emotion_detection/models`."""
    training: Mapping[str, Any] = Field(default_factory=dict)
    """Overrides of single values of `training`."""

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Keyword arguments for the architecture's `build`."""
        return dict(self.model_extra or {})


class InferenceParams(Section):
    """How a trained model is asked; it is judged, calibrated and served like this."""

    flip_average: bool | tuple[str, ...] = False
    """Average the logits of a face and of its mirror image, for twice the time: `true`, or for a list of models."""


class EvaluationParams(Section):
    """How models are judged."""

    bootstrap: int = Field(1000, ge=100)
    """Resamples behind each confidence interval."""
    confidence: float = Field(0.95, gt=0, lt=1)
    ece_bins: int = Field(15, ge=2)
    """Equal-width bins of the expected calibration error."""
    mistakes: int = Field(24, ge=0, le=300)
    """Most confident mistakes shown as pictures."""
    explained: int = Field(12, ge=0, le=300)
    """Faces, half of them mistakes, for which the pictures show where the reason for the answer lies."""
    ten_crop: bool = True
    """Also measure accuracy over ten crops of each face, for ten more passes over test."""
    robustness_images: int = Field(120, ge=0)
    """Test images, drawn by seed, that are spoiled in every way of `corruptions`, 33 passes; 0: none."""


class Int8Params(Section):
    """The same graph in 8 bits; the bundle gets it only where it is as good and faster."""

    enabled: bool = True
    """Whether to try it."""
    calibration_images: int = Field(256, ge=1)
    """Training faces from which the ranges of the activations are taken."""
    method: Literal["minmax", "entropy", "percentile"] = "percentile"
    """How: the whole range; the one that loses least information; all but the outermost values."""
    per_channel: bool = True
    """A scale for each feature map of a convolution, instead of one for all."""
    tolerance: Share = 0.003
    """Largest loss of validation accuracy; 0.003 are 0.3 points."""
    min_speedup: float = Field(1.0, ge=0)
    """It must be more than so many times as fast as fp32: batch 1, one thread, where it is exported."""


class ExportParams(Section):
    """How a trained model becomes an ONNX graph."""

    opset: int = Field(18, ge=13)
    max_difference: float = Field(1e-4, gt=0)
    """Largest difference of any probability between Keras and ONNX."""
    parity_images: int = Field(200, ge=1)
    """Test images on which the two are compared."""
    int8: Int8Params = Int8Params()


class GateParams(Section):
    """What a challenger must show before it may become champion."""

    min_accuracy: Share = 0.5
    min_recall: Share = 0.2
    """Floor for every class."""
    min_slice_accuracy: Share = 0.3
    """Floor for the thirds of the test images by brightness, contrast and sharpness, where they have 30; 0: none."""
    min_corrupted_accuracy: Share = 0.25
    """Floor for the mean accuracy on `evaluation.robustness_images` spoiled test images; 0: none."""
    max_ece: Share = 0.1
    """Expected calibration error after temperature scaling."""
    max_milliseconds: float = Field(50.0, gt=0)
    """Median time of one face, batch 1, one thread, on the machine that runs the gate."""
    margin: Share = 0.01
    """Non-inferiority: the lower end of the interval of (challenger - champion) accuracy must lie above
    minus this."""
    bootstrap: int = Field(2000, ge=100)
    confidence: float = Field(0.95, gt=0, lt=1)


class RangeParams(Section):
    """Values of one hyperparameter that `emotion tune` tries: from `low` to `high`, or one of `choices`."""

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    """Try as many values between 1 and 10 as between 10 and 100."""
    step: int | float | None = Field(None, gt=0)
    """Try `low` and whole steps from there only."""
    choices: list[bool | int | float | str | list[bool | int | float | str]] = []

    @model_validator(mode="after")
    def be_one_kind(self) -> RangeParams:
        ends = [end for end in (self.low, self.high) if end is not None]
        if self.choices and (ends or self.log or self.step):
            raise ValueError("choices stand alone, without low, high, log and step")
        if not self.choices and len(ends) < 2:
            raise ValueError("give low and high, or choices")
        if any(choice in self.choices[:place] for place, choice in enumerate(self.choices)):
            raise ValueError("a choice stands there twice")
        if ends and ends[0] >= ends[1]:
            raise ValueError("low must be below high")
        if self.log and (self.step or ends[0] <= 0):
            raise ValueError("log needs low above 0, and no step")
        return self


def _flat_ranges(content: Any, prefix: str = "") -> Any:
    """`{training: {learning_rate: {low: ...}}}` is the same as `{training.learning_rate: {low: ...}}`."""
    if not isinstance(content, Mapping):
        return content
    flat: dict[str, Any] = {}
    for key, value in content.items():
        nested = isinstance(value, Mapping) and not set(value) & set(RangeParams.model_fields)
        found = _flat_ranges(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
        if twice := flat.keys() & found.keys():
            raise ValueError(f"{', '.join(twice)} stands there twice")
        flat |= found
    return flat


Ranges = Annotated[Mapping[str, RangeParams | None], BeforeValidator(_flat_ranges)]
"""By key below `models.NAME`, such as `dropout` or `training.learning_rate`; null: it is not tuned."""


class TuningParams(Section):
    """What `emotion tune` tries; no stage of the pipeline reads it."""

    pruner: Literal["median", "hyperband", "none"] = "median"
    """What ends a trial that does badly after some epochs: worse than the median of the others, or Hyperband."""
    startup: int = Field(10, ge=1)
    """So many trials are drawn at random, and none of them is ended early by `median`."""
    space: Ranges = Field(default_factory=dict)
    """For every model; empty: what `tuning/space.py` has for all."""
    models: Mapping[str, Ranges] = Field(default_factory=dict)
    """By model, over `space`."""


class RegistryParams(Section):
    """Names in MLflow."""

    experiment: str = Field("emotion-detection", min_length=1)
    model: str = Field("emotion-detector", min_length=1)


class Params(Section):
    """All of params.yaml."""

    seed: int = Field(0, ge=0, lt=2**31)
    data: DataParams = DataParams()
    validation: ValidationParams = ValidationParams()
    training: TrainingParams = TrainingParams()
    models: Mapping[str, ModelParams] = Field(min_length=1)
    """Models to train, by name."""
    inference: InferenceParams = InferenceParams()
    evaluation: EvaluationParams = EvaluationParams()
    export: ExportParams = ExportParams()
    gate: GateParams = GateParams()
    tuning: TuningParams = TuningParams()
    registry: RegistryParams = RegistryParams()

    def model(self, name: str) -> ModelParams:
        """The entry `models.NAME`.

        Raises:
            ParamsError: there is none.
        """
        if name not in self.models:
            raise ParamsError(f"models.{name}: no such model; params.yaml has {', '.join(self.models)}")
        return self.models[name]

    def training_of(self, name: str) -> TrainingParams:
        """The training parameters of one model: `training`, overridden by `models.NAME.training`."""
        merged = merge(self.training.model_dump(), self.model(name).training)
        return validated(TrainingParams, merged, f"models.{name}.training.")

    def flip_average_of(self, name: str) -> bool:
        """Whether the answers of one model are averaged with those to the mirror image.

        Raises:
            ParamsError: `inference.flip_average` names a model that there is not.
        """
        chosen = self.inference.flip_average
        if isinstance(chosen, bool):
            return chosen
        if unknown := [other for other in chosen if other not in self.models]:
            raise ParamsError(
                f"inference.flip_average: no such model: {', '.join(unknown)}; params.yaml has {', '.join(self.models)}"
            )
        return name in chosen


def without_defaults(section: Section, keys: tuple[str, ...]) -> dict[str, Any]:
    """All values of a section, but for those of `keys` that have their default."""
    fields = type(section).model_fields
    return section.model_dump(exclude={key for key in keys if getattr(section, key) == fields[key].default})


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `changes`, mapping by mapping; null removes a key (JSON Merge Patch, RFC 7386)."""
    merged = {key: value for key, value in base.items() if changes.get(key, value) is not None}
    for key, value in changes.items():
        if isinstance(value, Mapping):
            old = merged.get(key)
            merged[key] = merge(old if isinstance(old, Mapping) else {}, value)
        elif value is not None:
            merged[key] = value
    return merged


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check the parameter file.

    Raises:
        ParamsError: the file is missing, is not YAML, or has an unknown key, a wrong type or a value out of
            range; the message names each key, what was found and what is allowed.
    """
    try:
        # YAML 1.2, as DVC reads it: 1e-4 is a number and no is a word.
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(f"{path}: no such file; run from the root of the repository") from None
    except YAMLError as error:
        raise ParamsError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise ParamsError(f"{path}: expected a mapping of sections, found {type(content).__name__}")
    return parse_params(content, source=f"{path}: ")


def parse_params(content: Mapping[str, Any], source: str = "") -> Params:
    """Check parameters that are already in memory; errors as `load_params`."""
    params = validated(Params, content, source)
    for name in params.models:
        params.training_of(name)
        params.flip_average_of(name)
    return params


def validated(kind: type[ModelType], content: Mapping[str, Any], prefix: str) -> ModelType:
    """Check one section; each line of the ParamsError names a key, which starts with `prefix`."""
    try:  # JSON's strict mode takes a list for a tuple and an int for a float, but no "10" for a 10
        return kind.model_validate_json(json.dumps(content, default=str), strict=True)
    except ValidationError as error:
        raise ParamsError("\n".join(_explain(kind, item, prefix) for item in error.errors())) from None


def _explain(kind: type[BaseModel], item: Any, prefix: str) -> str:
    location = [part for part in item["loc"] if part != "[key]"]
    key = prefix + ".".join(str(part) for part in location)
    if item["type"] == "extra_forbidden":
        allowed = ", ".join(_fields_at(kind, location[:-1]))
        return f"{key}: unknown key; allowed here: {allowed}"
    if item["type"] == "missing":
        return f"{key}: missing; add it"
    return f"{key}: found {item['input']!r}; {item['msg'][0].lower()}{item['msg'][1:]}"


def _fields_at(kind: type[BaseModel], location: list[Any]) -> list[str]:
    inside: Any = kind
    for part in location:
        if isinstance(inside, type) and issubclass(inside, BaseModel):
            inside = inside.model_fields[part].annotation if part in inside.model_fields else None
        else:  # of a mapping the values; of a tuple its items
            inside = (get_args(inside) or (None,))[-1 if get_origin(inside) is Mapping else 0]
        while get_origin(inside) in (Annotated, UnionType):
            inside = get_args(inside)[0]
    return list(inside.model_fields) if isinstance(inside, type) and issubclass(inside, BaseModel) else []
