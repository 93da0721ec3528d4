"""`training` and `models`: what is trained, and how."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from emotion_detection.params.section import Section, Share, Unfrozen, without_defaults


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


class DistillationParams(Section):
    """Knowledge distillation: the model learns what others say beside the labels."""

    teachers: tuple[str, ...] = ()
    """Bundles, each a directory, for the same labels and image size; the mean of what they say to the augmented image
    counts. They lie outside the pipeline: copy one out of bundles/ first."""
    weight: Share = 0.5
    """Part of the target that is the teachers'; the rest is the label, or the votes."""


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
    distillation: DistillationParams = DistillationParams()
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
    seed: int | None = Field(None, ge=0, lt=2**31)
    """Of first weights, order, augmentation and dropout, so that one run can train a model several times; by default
    the `seed` of all."""

    def identity(self) -> dict[str, Any]:
        """All values but the seed, and but for what came later and has its default: older trainings keep their
        `training_id`."""
        later = ("precision", "devices", "finetuning", "weight_average", "targets", "distillation")
        values = without_defaults(self, later)
        del values["seed"]
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


NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"
TAKEN = ("data", "labels", "validation")
"""Folders of reports/ that are of no model."""


def checked_name(name: str) -> str:
    """A name that a model may have: DVC makes stages of it, and every stage a folder.

    Raises:
        ValueError: it is none.
    """
    if not re.fullmatch(NAME, name) or name in TAKEN:
        raise ValueError(
            "allowed as name of a model are letters, digits, - and _, beginning with none of the two, but not "
            f"{', '.join(TAKEN)}, which are other folders of reports/"
        )
    return name


ModelName = Annotated[str, AfterValidator(checked_name), Field(json_schema_extra={"pattern": NAME})]


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
