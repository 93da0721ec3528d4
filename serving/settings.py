"""The server's settings, from environment variables or options; the names stand here and nowhere else.

    EMOTION_BUNDLE=bundles/lenet EMOTION_PORT=9000 python -m serving
    python -m serving --bundle bundles/lenet --port 9000        # the same; --help lists them all

Without a bundle directory the champion is taken from the MLflow registry at MLFLOW_TRACKING_URI.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import CliSuppress, SettingsConfigDict

from emotion_detection.bundle import Wanted
from emotion_detection.crops import MAX_FACES, SCALE
from emotion_detection.errors import EmotionError, FaceModelError
from emotion_detection.face_model import cached_face_model, read_face_model
from emotion_detection.faces import SIDE
from emotion_detection.network import is_loopback
from emotion_detection.preprocess import MAX_PIXELS
from serving.catalogue import SHIPPED
from serving.feedback_settings import FeedbackSettings
from serving.rollout import RolloutSettings
from serving.safety import SafetySettings

PREFIX = "EMOTION_"
_TYPO = 0.75  # similarity from which an unknown name is taken for a misspelt one


class SettingsError(EmotionError):
    """An environment variable or option of the server has a wrong name or value."""


class Settings(FeedbackSettings, RolloutSettings, SafetySettings):
    """How the server runs."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        cli_prog_name="python -m serving",
        cli_kebab_case=True,
    )

    bundle: Path | None = None
    """Serve this bundle directory, without any registry; it is read at the start and not watched."""
    model: str = Field("emotion-detector", min_length=1)
    """Registered model in MLflow."""
    alias: str = Field("champion", min_length=1)
    """Alias, or number, of the version that is served."""
    poll_seconds: float = Field(10.0, gt=0)
    """How long a change in the registry may go unnoticed."""
    webhook_secret: CliSuppress[SecretStr | None] = None
    """Secret of MLflow's webhook, from the environment only; POST /webhooks/mlflow has the registry asked at once."""
    cache: Path = Path(".cache/serving")
    """Where bundles from the registry are downloaded to; with it the server starts while the registry is away."""
    cache_versions: int = Field(3, ge=1)
    """Bundles that are kept there."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for every interface."""
    port: int = Field(8000, ge=0, le=65535)
    """0: any free port."""
    processes: int = Field(1, ge=1, le=64)
    """More than one share the port, each with a model of its own; /metrics adds them up."""
    workers: int = Field(0, ge=0, le=256)
    """Threads that decode and predict; 0: one per core, divided among the processes."""
    threads: int = Field(0, ge=0, le=256)
    """Threads of ONNX Runtime for a request that has the server for itself; 0: as many as `workers`."""
    precision: Wanted = "auto"
    """auto: int8 where the model's bundle has it, which means that it is as good and faster, and this machine computes
    it rightly; fp32 or int8 to insist: with int8, models that do not have it are refused."""
    max_batch: int = Field(32, ge=1, le=1024)
    """Most images that one worker takes at once, and most faces in one run of the model."""
    queue_size: int = Field(256, ge=1)
    """Images that may wait for a worker; with more, requests are refused with 503."""
    max_images: int = Field(32, ge=1)
    """Images in one request; no more than `queue_size`."""
    max_bytes: int = Field(10_000_000, ge=1)
    """Largest image file, bytes; larger ones are refused before they are read."""
    max_request_bytes: int = Field(40_000_000, ge=1)
    """Largest form with several images, bytes; a form with one image of `max_bytes` is always taken."""
    max_buffer_bytes: int = Field(256_000_000, ge=1)
    """Request bodies that are held in memory at a time, bytes; with more, requests are refused with 503."""
    max_pixels: int = Field(MAX_PIXELS, ge=1)
    """Largest image, pixels; larger ones are refused before they are decoded."""
    face_model: Path | None = Field(default_factory=cached_face_model, validate_default=True)
    """YuNet's file; by default the one that `emotion fetch-face-model` brought, else OpenCV's own cascade is used."""
    face_side: int = Field(SIDE, ge=64, le=4096)
    """Images are scaled down to this longer side, pixels, before faces are searched in them."""
    face_scale: float = Field(SCALE, ge=0.5, le=2)
    """Side of a crop, by the square root of the area of the face's box; should fit how the training images are cut."""
    max_faces: int = Field(MAX_FACES, ge=1, le=1000)
    """Most faces in the answer on one image; the smallest are left out."""
    heat_queue_size: int = Field(16, ge=1)
    """Requests that may wait for heat maps; with more, they are refused with 503."""
    max_streams: int = Field(64, ge=1)
    """WebSockets of /stream that may be open at a time."""
    max_streams_per_caller: int = Field(0, ge=0)
    """Of these, as many as one key, or without keys one address, may have; 0: any number."""
    max_frame_bytes: int = Field(2_000_000, ge=1)
    """Largest frame of a stream, bytes."""
    stream_rate: float = Field(60.0, gt=0)
    """Frames that a stream may send per second, taken over ten seconds; most are dropped if they come that fast."""
    stream_idle_seconds: float = Field(60.0, gt=0)
    """A stream without a frame for so long is closed."""
    catalogue: Path = SHIPPED
    """Songs for /recommend: CSV with the fields title, artist, emotion, distance."""
    head_seconds: float = Field(10.0, gt=0)
    """How long a client may take to send the head of a request."""
    body_seconds: float = Field(30.0, gt=0)
    """How long a client may take to send the body, or to read the answer."""
    answer_seconds: float = Field(30.0, gt=0)
    """How long a request whose body has arrived may wait for its answer; then it is refused with 503."""
    keep_alive_seconds: int = Field(20, ge=1)
    """How long an idle connection is kept."""
    retry_seconds: float = Field(5.0, gt=0)
    """Pause before loading a model is tried again; while the registry is away it grows up to `poll_seconds`."""
    drain_seconds: int = Field(30, ge=0)
    """How long requests in flight may take to end after SIGTERM."""

    @field_validator("face_model")
    @classmethod
    def _face_model_is_the_known_one(cls, path: Path | None) -> Path | None:
        try:
            if path is not None:
                read_face_model(path)
        except FaceModelError as error:
            raise ValueError(str(error)) from None
        return path

    @model_validator(mode="after")
    def _images_fit_the_queue(self) -> Settings:
        if self.max_images > self.queue_size:
            raise ValueError(f"max_images ({self.max_images}) must not exceed queue_size ({self.queue_size})")
        return self

    @model_validator(mode="after")
    def _challengers_are_others(self) -> Settings:
        if self.tries_challenger and self.bundle is not None:
            raise ValueError(
                "a challenger comes from the registry; shadow_share and canary_share do not go with bundle"
            )
        if self.tries_challenger and self.challenger_alias == self.alias:
            raise ValueError(f"challenger_alias {self.alias!r} is the alias of the model that answers")
        return self

    @model_validator(mode="after")
    def _strangers_need_a_key(self) -> Settings:
        if not (self.needs_key or self.allow_anonymous or is_loopback(self.host)):
            raise ValueError(
                f"host {self.host} can be reached from other machines, and there are no API keys; make one with "
                "`emotion keys new`, and name the file in api_keys_file, or let everybody in with allow_anonymous"
            )
        return self

    @property
    def worker_threads(self) -> int:
        """`workers`, with 0 resolved."""
        return self.workers or max(1, available_cores() // self.processes)

    @property
    def lone_threads(self) -> int:
        """`threads`, with 0 resolved."""
        return self.threads or self.worker_threads


def available_cores() -> int:
    """Cores that this process may use: its affinity, and the quota of its container (cgroup v2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroup v2, or "max": no quota
        return cores


def load_settings(arguments: Sequence[str] = ()) -> Settings:
    """Read the settings; options win over environment variables.

    Raises:
        SettingsError: a value does not fit, or a variable looks like a misspelt setting; the message names
            each, with what was found and what is expected.
    """
    _refuse_typos()
    for name in ("webhook-secret", "api-keys", "feedback-key", "feedback-secret"):
        if any(argument.partition("=")[0] == f"--{name}" for argument in arguments):
            variable = PREFIX + name.replace("-", "_").upper()
            raise SettingsError(f"--{name}: every user of this machine could read it; set {variable}")
    try:
        return Settings(_cli_parse_args=list(arguments))
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(item) for item in error.errors())) from None


def _refuse_typos() -> None:
    # Not every EMOTION_* is meant for us: Kubernetes sets EMOTION_DETECTOR_PORT for a service of that name.
    known = [name.upper() for name in Settings.model_fields]
    for variable in os.environ:
        name = variable.removeprefix(PREFIX)
        if variable == name or name in known:
            continue
        for meant in difflib.get_close_matches(name, known, n=1, cutoff=_TYPO):
            raise SettingsError(f"{variable}: no such setting; did you mean {PREFIX}{meant}?")


def _explain(item: Mapping[str, Any]) -> str:
    message = item["msg"].removeprefix("Value error, ")
    if not item["loc"]:  # two settings that contradict each other
        return f"settings: {message}"
    name, message = str(item["loc"][0]), message[0].lower() + message[1:]
    variable, option = PREFIX + name.upper(), "--" + name.replace("_", "-")
    if _is_secret(name):
        return f"{variable}: {message}"
    return f"{variable} or {option}: found {item['input']!r}; {message}"


def _is_secret(name: str) -> bool:
    annotation = Settings.model_fields[name].annotation if name in Settings.model_fields else None
    return SecretStr in (annotation, *get_args(annotation))
