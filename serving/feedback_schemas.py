"""What `/feedback` takes and answers, with the examples that /docs shows."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from emotion_detection.prediction_ids import MOST_FACES
from serving.schemas import EXAMPLE_PREDICTION_ID, Answer


class FeedbackRequest(BaseModel):
    """What somebody says that a face shows; an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    prediction_id: str = Field(max_length=256)
    """Of the answer."""
    label: str = Field(max_length=100)
    """What the face shows: one of the model's labels, that of the answer as well as any other."""
    face: int = Field(0, ge=0, lt=MOST_FACES, strict=True)
    """Which of the answer's `faces` is meant, counted from 0, the largest."""


class FeedbackAnswer(Answer):
    """What became of it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "prediction_id": EXAMPLE_PREDICTION_ID,
                    "face": 0,
                    "model_version": "7",
                    "predicted": "happy",
                    "label": "neutral",
                    "right": False,
                    "counted": True,
                    "kept_until": None,
                }
            ]
        }
    )

    prediction_id: str
    face: int
    model_version: str
    """Of the model that answered."""
    predicted: str
    """What it answered."""
    label: str
    """What the face shows."""
    right: bool
    """Whether the two are the same."""
    counted: bool
    """Whether it counts; false where the same has been said of this face before."""
    kept_until: datetime | None
    """Until when the face is kept, if this request has had it kept: the server was told to keep faces, and it had not
    gone from its memory yet."""


class FeedbackDeleted(Answer):
    """What was deleted."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"prediction_id": EXAMPLE_PREDICTION_ID, "faces": 1}]})

    prediction_id: str
    faces: int
    """Number of faces whose feedback was deleted, and their pictures, where they were kept."""


def request_body() -> dict[str, Any]:
    """What POST takes, for OpenAPI."""
    example = {"prediction_id": EXAMPLE_PREDICTION_ID, "label": "neutral"}
    examples = {
        "wrong": {"summary": "The largest face shows something else", "value": example},
        "right": {"summary": "The answer on the third face is right", "value": example | {"label": "happy", "face": 2}},
    }
    schema = FeedbackRequest.model_json_schema()
    return {"required": True, "content": {"application/json": {"schema": schema, "examples": examples}}}
