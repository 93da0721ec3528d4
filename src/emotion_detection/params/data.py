"""`data` and `validation`: where the images come from, and which are left out."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from emotion_detection.params.section import Section, Share, Split


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
    """`synthetic`, a directory, zip or tar of `<split>/<class>/*` or `<class>/*`, a FER2013 csv,
    `kaggle:owner/name`, or the `feedback.db` of a server."""
    votes: str = ""
    """A csv (or csv.gz) that says how many people saw which emotion in each image: FER+'s `fer2013new.csv`, or a column
    `path`, `sha256` or `md5` and one of counts for each emotion; empty: none."""
    feedback: str = ""
    """Directory of the server's feedback, such as `.cache/feedback`: the faces that it keeps join the training images;
    empty: none. Encrypted ones take EMOTION_FEEDBACK_KEY."""
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
    known: NearDuplicateParams = NearDuplicateParams(drop=("train",), max_distance=2)
    """Faces of `data.feedback` that the data set has, or that look like an image of val or test: to learn them would
    spoil what models are judged by."""
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
