"""The JSON answers of the server, with the examples that /docs shows."""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from emotion_detection.bundle import Lineage
from serving.model import ServedModel

_EXAMPLE_MODEL: JsonDict = {
    "name": "emotion-detector",
    "version": "7",
    "run_id": "5f0b6ac1b8df4a1c9a58d6a3f7f0f1de",
    "commit": "873a7ee0c1f6b9f2a1d3e4f5a6b7c8d9e0f1a2b3",
    "data_hash": "9b74c9897bac770ffc029102a200c5de7d7bbf5c9cf0ad5fbcbb3f0bd9fb4a4e",
    "bundle_sha256": "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
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
        )

    @staticmethod
    def header(field: str) -> str:
        """HTTP header of a field: X-Model-Run-Id for `run_id`."""
        return f"X-Model-{field.replace('_', '-').title()}"

    def headers(self) -> dict[str, str]:
        """All fields that are not none, as HTTP headers; whatever is not ASCII is percent-encoded."""
        return {self.header(field): quote(value) for field, value in self if value is not None}


class Detection(Answer):
    """The emotion in one image."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "prediction_id": "7-2c26b46b-01932c07-209f-7b5e-8d3c-5a0c9f1e7b42",
                    "label": "happy",
                    "confidence": 0.91,
                    "probabilities": {"angry": 0.02, "happy": 0.91, "neutral": 0.05, "sad": 0.02},
                    "model": _EXAMPLE_MODEL,
                }
            ]
        }
    )

    prediction_id: str
    """Names this answer and says which model gave it: `emotion trace ID`. Also in the header X-Prediction-Id."""
    label: str
    """The most probable emotion."""
    confidence: float = Field(ge=0, le=1)
    """Its calibrated probability."""
    probabilities: dict[str, float]
    """Calibrated probability of every emotion; they sum to 1."""
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


class DetectOptions(BaseModel):
    """Parameters in the query of `/detect`; an unknown one is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class InputSpec(Answer):
    """What the model sees of an image: its largest centred square, scaled."""

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
