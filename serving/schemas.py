"""The JSON answers of the server, with the examples that /docs shows."""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from emotion_detection.bundle import Lineage, Precision, Quantisation
from emotion_detection.crops import How
from emotion_detection.face_quality import Reason
from emotion_detection.faces import Detector
from serving.model import ServedModel

_EXAMPLE_MODEL: JsonDict = {
    "name": "emotion-detector",
    "version": "7",
    "run_id": "5f0b6ac1b8df4a1c9a58d6a3f7f0f1de",
    "commit": "873a7ee0c1f6b9f2a1d3e4f5a6b7c8d9e0f1a2b3",
    "data_hash": "9b74c9897bac770ffc029102a200c5de7d7bbf5c9cf0ad5fbcbb3f0bd9fb4a4e",
    "bundle_sha256": "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
    "precision": "int8",
}


EXAMPLE_PREDICTION_ID = "7-2c26b46b-01932c07-209f-7b5e-8d3c-5a0c9f1e7b42-01-9f86d081884c7d65"
_EXAMPLE_EMOTION: JsonDict = {
    "label": "happy",
    "confidence": 0.91,
    "probabilities": {"angry": 0.02, "happy": 0.91, "neutral": 0.05, "sad": 0.02},
}
_EXAMPLE_FACE: JsonDict = {
    "box": {"x": 520, "y": 94, "width": 263, "height": 367},
    "score": 0.942419,
    "detector": "yunet",
    **_EXAMPLE_EMOTION,
    "quality": {
        "size": 342,
        "brightness": 120.821,
        "contrast": 62.6363,
        "sharpness": 2899.31,
        "reasons": [],
        "ok": True,
    },
}

_EXAMPLE_DETECTION: JsonDict = {
    "prediction_id": EXAMPLE_PREDICTION_ID,
    **_EXAMPLE_EMOTION,
    "image": {"width": 1280, "height": 720},
    "faces": [_EXAMPLE_FACE],
    "model": _EXAMPLE_MODEL,
}


class Answer(BaseModel):
    """Immutable; the docstrings of the fields become their descriptions in OpenAPI."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class ModelReference(Answer):
    """Which model answered, and the links that lead back to its code and data."""

    name: str
    version: str
    """Version in the registry, or `bundle-...` where the server was started from a directory."""
    run_id: str | None
    """MLflow run that registered it; none where the server was started from a directory."""
    commit: str | None
    """Git commit it was trained at."""
    data_hash: str
    """Names the images it was trained on."""
    bundle_sha256: str
    """Names the exact files that answer."""
    precision: Precision
    """Which of them: fp32, or int8 where the bundle has it and the server does not insist on fp32."""

    @classmethod
    def of(cls, model: ServedModel) -> ModelReference:
        info = model.bundle.info
        return cls(
            name=model.name,
            version=model.version,
            run_id=model.run_id,
            commit=info.lineage.commit,
            data_hash=info.lineage.data_hash,
            bundle_sha256=model.digest,
            precision=model.precision,
        )

    @staticmethod
    def header(field: str) -> str:
        """HTTP header of a field: X-Model-Run-Id for `run_id`."""
        return f"X-Model-{field.replace('_', '-').title()}"

    def headers(self) -> dict[str, str]:
        """All fields that are not none, as HTTP headers; whatever is not ASCII is percent-encoded."""
        return {self.header(field): quote(value) for field, value in self if value is not None}


class Box(Answer):
    """A rectangle in the upright image (EXIF rotation undone); pixels, from the top left."""

    x: int
    y: int
    width: int
    height: int


class Quality(Answer):
    """What the model sees of a face; all but the size are measured on it in grey at 48 x 48."""

    size: int
    """Side of the crop in the image, pixels; below 24 it is `too_small`."""
    brightness: float
    """Mean, 0 to 255; below 40 it is `too_dark`, above 220 `too_bright`."""
    contrast: float
    """Standard deviation; below 20 it is `low_contrast`."""
    sharpness: float
    """Variance of the Laplacian; below 200 it is `blurred`."""
    reasons: list[Reason]
    """What is wrong with it."""
    ok: bool
    """Whether nothing is."""


class FaceAnswer(Answer):
    """One face, and the emotion in it."""

    box: Box
    """As the detector gives it; the model sees a square around it. The whole image where that is taken for a face."""
    score: float | None
    """How sure the detector is, 0 to 1; the cascade does not say."""
    detector: Detector | None
    """Who found it; null where the whole image is taken for a face."""
    label: str
    """The most probable emotion."""
    confidence: float = Field(ge=0, le=1)
    """Its calibrated probability."""
    probabilities: dict[str, float]
    """Calibrated probability of every emotion; they sum to 1."""
    quality: Quality
    heatmap: list[list[float]] | None = None
    """Where in the crop the reason for the label lies, 0 to 1, row by row; with `explain=true`, else absent."""


class ImageSize(Answer):
    """Of the upright image, pixels."""

    width: int
    height: int


class Detection(Answer):
    """The emotions in one image; at the top level that of its largest face."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE_DETECTION]})

    prediction_id: str
    """Names this answer and says which model gave it: `emotion trace ID`. Also in the header X-Prediction-Id. With it
    `/feedback` is told what a face really shows."""
    label: str | None
    """The most probable emotion of the largest face; null where there is no face."""
    confidence: float | None = Field(ge=0, le=1)
    """Its calibrated probability."""
    probabilities: dict[str, float] | None
    """Calibrated probability of every emotion; they sum to 1."""
    image: ImageSize
    faces: list[FaceAnswer]
    """Largest first."""
    model: ModelReference


class Problem(Answer):
    """An error answer, RFC 9457."""

    type: str
    """What went wrong, for programs; `about:blank` where the status says it all."""
    title: str
    """What went wrong, for people; the same for all problems of a type."""
    status: int
    detail: str
    """What was wrong with this request, and what was expected."""


class FaceOptions(BaseModel):
    """Parameters in the query of all that takes images; an unknown one is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    faces: How = "auto"
    """Which faces to judge. `none`: the whole image is one. `all`, `largest`: those that are found; there may be none.
    `auto`: as `all`, unless the image is a face that has been cut out already: neither side is longer than twice the
    model's input (it is not searched then), no face is found, or the largest, cut out, covers 60 % of it."""


class DetectOptions(FaceOptions):
    """Parameters in the query of `/detect`."""

    explain: bool = False
    """Whether faces, the eight largest, come with a heat map; for one image at a time."""


class ExplainOptions(FaceOptions):
    """Parameters in the query of `/explain`."""

    target: str | None = Field(None, alias="class", max_length=100)
    """The emotion to explain; the one that is answered if left out."""
    format: Literal["png", "json"] = "png"
    """A picture, or numbers."""
    overlay: bool = True
    """Whether the picture shows the face under the heat; without it, white is hot."""


class Explanation(Answer):
    """Why the model answers so."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "detection": _EXAMPLE_DETECTION,
                    "explained": "happy",
                    "method": "grad_cam",
                    "heatmap": [[0.0, 0.12, 0.0], [0.2, 1.0, 0.31], [0.0, 0.4, 0.02]],
                }
            ]
        }
    )

    detection: Detection
    explained: str
    """The emotion that the heat map is about."""
    method: Literal["grad_cam", "attention_rollout", "occlusion"]
    heatmap: list[list[float]]
    """(S, S), what the model sees of the largest face: 0 to 1, row by row, with three decimals."""


class RecommendOptions(BaseModel):
    """Parameters in the query of `/recommend`; an unknown one is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    emotion: str = Field(max_length=100, examples=["happy"])
    """One that the catalogue knows."""
    session: str | None = Field(None, pattern="^[A-Za-z0-9_-]{1,64}$")
    """Whose listening this is: a name of your own, or the one of an answer."""


class Recommendation(Answer):
    """A song."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "emotion": "happy",
                    "title": "Ode to Joy",
                    "artist": "Ludwig van Beethoven",
                    "distance": 0.0,
                    "session": "Zr0mC1kq0f2zq7yH1c9GvA",
                    "left": 8,
                }
            ]
        }
    )

    emotion: str
    title: str
    artist: str
    distance: float
    """How far its mood is from the emotion; 0 hits it."""
    session: str
    """To be named in the next request."""
    left: int
    """Songs for this emotion that the session has not heard yet; after 0 all come again."""


class InputSpec(Answer):
    """What the model sees of a face: its square, scaled."""

    image_size: int
    """Side, pixels."""
    channels: int
    """1: grey, 3: RGB."""


class ModelCard(ModelReference):
    """The model that answers now."""

    model: str
    """Entry in `models` of params.yaml."""
    architecture: str
    parameters: int
    labels: tuple[str, ...]
    input: InputSpec
    temperature: float
    """By which the logits are divided; already in the probabilities."""
    metrics: dict[str, float]
    """Measured when it was exported."""
    quantisation: Quantisation | None
    """How int8 compared with fp32 when it was exported; null where it was not tried."""
    reference_shares: dict[str, float]
    """Share of each emotion that drift is measured against."""
    lineage: Lineage

    @classmethod
    def of(cls, model: ServedModel) -> ModelCard:
        info = model.bundle.info
        content = info.model_dump()
        return cls.model_validate(content | ModelReference.of(model).model_dump() | {"input": content})


class Labels(Answer):
    labels: tuple[str, ...]
    """In the order of the model's outputs."""


class Health(Answer):
    status: Literal["ok"]


class Readiness(Answer):
    status: Literal["ready"]
    version: str
    """Of the model that answers."""
    detail: str | None
    """Why it may not be the one that should answer: the registry is away, or a newer version was refused."""


class Accepted(Answer):
    status: Literal["accepted"]
