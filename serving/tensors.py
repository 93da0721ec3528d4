"""Bodies of the Open Inference Protocol (KServe v2): tensors as JSON, or as bytes behind the JSON.

    reading = InferBody(body, header_length, info, limits)     # a job's `prepare`: runs in a worker
    images = reading()                                         # uint8 (N, S, S, C)
    reading.answer(rows, ...)                                  -> headers, body

https://github.com/kserve/open-inference-protocol, and Triton's extension for binary tensor data. The input is `image`,
uint8 (N, S, S, C), as `preprocess.prepare` makes it; or `image_bytes`, N image files, each of one face: in JSON as
base64, in binary each behind its length (4 bytes, little-endian). The output is `probabilities`, float32 (N, K).
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emotion_detection.bundle import INPUT_NAME, OUTPUT_NAME, BundleInfo
from emotion_detection.errors import ImageTooLarge
from emotion_detection.preprocess import Pixels, prepare
from serving.engine import Probabilities
from serving.errors import InvalidTensor, TooManyImages, first_mistakes
from serving.settings import Settings

BYTES_NAME = "image_bytes"
HEADER_LENGTH = "Inference-Header-Content-Length"
MAX_JSON = 1_000_000
"""Bytes of JSON in one request: parsed, they may take 35 times as many, and nothing else runs meanwhile."""


class _Given(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class InputParameters(_Given):
    binary_data_size: int | None = Field(None, ge=0)
    """Bytes of this tensor behind the JSON; without it the tensor is in `data`."""
    shared_memory_region: None = None
    """Shared memory is not supported."""


class InferInput(_Given):
    name: str
    """`image` or `image_bytes`."""
    datatype: str
    """UINT8 for `image`, BYTES for `image_bytes`."""
    shape: Annotated[list[int], Field(max_length=8)]
    """N, S, S, C for `image`, N for `image_bytes`."""
    parameters: InputParameters = InputParameters()
    data: list[Any] | None = None
    """Row by row, nested or flat: numbers from 0 to 255, or image files as base64."""


class OutputParameters(_Given):
    binary_data: bool | None = None
    """Whether this output comes as bytes behind the JSON."""
    classification: None = None
    """Not supported; `/labels` names the classes."""
    shared_memory_region: None = None
    """Not supported."""


class InferOutput(_Given):
    name: str
    """`probabilities`"""
    parameters: OutputParameters = OutputParameters()


class InferParameters(_Given):
    binary_data_output: bool = False
    """Whether outputs come as bytes behind the JSON where nothing else is said of them."""


class InferRequest(_Given):
    """The JSON of a request."""

    id: str | None = Field(None, max_length=1000)
    """Comes back in the answer."""
    inputs: list[InferInput] = Field(min_length=1, max_length=1)
    outputs: list[InferOutput] = Field([], max_length=1)
    """None: all."""
    parameters: InferParameters = InferParameters()

    @property
    def binary_output(self) -> bool:
        """Whether the probabilities are to be bytes."""
        chosen = self.outputs[0].parameters.binary_data if self.outputs else None
        return self.parameters.binary_data_output if chosen is None else chosen


@dataclass(slots=True)
class InferBody:
    """A body on its way through a worker, which takes it apart: JSON can keep a thread busy for a while."""

    body: bytes
    """Let go as soon as it has been read."""
    header_length: str | None
    """As in the header of the request."""
    info: BundleInfo
    settings: Settings
    request: InferRequest | None = None
    """Once it has been read."""

    def __call__(self) -> Pixels:
        """Read the images.

        Raises:
            InvalidTensor: the body is no request, or its tensor not what the model takes.
            TooManyImages: more than `max_images`.
            ImageError: of a file in `image_bytes`.
        """
        body, self.body = self.body, b""
        self.request, binary = _parse(body, self.header_length)
        _check_output(self.request)
        [tensor] = self.request.inputs
        raw = _binary(tensor, binary)
        if tensor.name == BYTES_NAME:
            return self._decoded(tensor, raw)
        return self._pixels(tensor, raw)

    def answer(self, rows: Probabilities, name: str, version: str) -> tuple[dict[str, str], bytes]:
        """Headers and body for the probabilities, float32 (N, K)."""
        assert self.request is not None  # noqa: S101 (without it there would be no rows)
        output: dict[str, Any] = {"name": OUTPUT_NAME, "datatype": "FP32", "shape": list(rows.shape)}
        answer: dict[str, Any] = {"model_name": name, "model_version": version, "outputs": [output]}
        if self.request.id:
            answer["id"] = self.request.id
        if not self.request.binary_output:
            output["data"] = rows.ravel().tolist()
            return {"Content-Type": "application/json"}, json.dumps(answer).encode()
        raw = rows.astype("<f4").tobytes()
        output["parameters"] = {"binary_data_size": len(raw)}
        head = json.dumps(answer).encode()
        return {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(head))}, head + raw

    def _pixels(self, tensor: InferInput, raw: bytes | None) -> Pixels:
        info = self.info
        shape = (info.image_size, info.image_size, info.channels)
        _check_input(tensor, INPUT_NAME, "UINT8", shape)
        self._check_count(tensor.shape[0])
        raw = _flat_bytes(tensor) if raw is None else raw
        if len(raw) != prod(tensor.shape):
            raise InvalidTensor(f"{tensor.name}: {len(raw)} values; its shape {tensor.shape} has {prod(tensor.shape)}")
        return np.frombuffer(raw, np.uint8).reshape(tensor.shape)

    def _decoded(self, tensor: InferInput, raw: bytes | None) -> Pixels:
        _check_input(tensor, BYTES_NAME, "BYTES", ())
        self._check_count(tensor.shape[0])
        files = _base64_files(tensor) if raw is None else _length_prefixed(tensor, raw)
        if len(files) != tensor.shape[0]:
            raise InvalidTensor(f"{tensor.name}: {len(files)} files; its shape is {tensor.shape}")
        if max(map(len, files)) > self.settings.max_bytes:
            raise ImageTooLarge(f"more than {self.settings.max_bytes} bytes; send a smaller image")
        info, limit = self.info, self.settings.max_pixels
        return np.stack([prepare(file, info.image_size, info.channels, limit) for file in files])

    def _check_count(self, count: int) -> None:
        if count > self.settings.max_images:
            raise TooManyImages(f"{count} images; at most {self.settings.max_images} are taken at once")


def _parse(body: bytes, header_length: str | None) -> tuple[InferRequest, bytes | None]:
    """The JSON, and what stands behind it; none where no header says that there is something."""
    end = len(body)
    if header_length is not None:
        digits = header_length.isascii() and header_length.isdigit() and len(header_length) <= 20
        if not digits or int(header_length) > len(body):
            raise InvalidTensor(f"{HEADER_LENGTH}: found {header_length[:20]!r}, the body has {len(body)} bytes")
        end = int(header_length)
    if end > MAX_JSON:
        raise InvalidTensor(f"{end} bytes of JSON, at most {MAX_JSON} are taken; send the tensor as binary data")
    try:
        request = InferRequest.model_validate_json(body[:end])
    except ValidationError as error:
        raise InvalidTensor(first_mistakes(error.errors())) from None
    return request, None if header_length is None else body[end:]


def _binary(tensor: InferInput, binary: bytes | None) -> bytes | None:
    """The bytes of the only tensor; none where it is in the JSON."""
    size = tensor.parameters.binary_data_size
    if size is None and not binary and tensor.data is not None:
        return None
    if size is None or tensor.data is not None:
        raise InvalidTensor(f"{tensor.name}: expected either data or the parameter binary_data_size")
    if binary is None or len(binary) != size:
        found = f"{len(binary)} bytes" if binary is not None else f"no header {HEADER_LENGTH}"
        raise InvalidTensor(f"{tensor.name}: binary_data_size is {size}, found {found}")
    return binary


def _check_output(request: InferRequest) -> None:
    for output in request.outputs:
        if output.name != OUTPUT_NAME:
            raise InvalidTensor(f"outputs: found {output.name[:100]!r}; there is {OUTPUT_NAME!r}")


def _check_input(tensor: InferInput, name: str, datatype: str, shape: tuple[int, ...]) -> None:
    fits = len(tensor.shape) > 0 and tensor.shape[0] > 0 and tuple(tensor.shape[1:]) == shape
    if tensor.name != name or tensor.datatype != datatype or not fits:
        found = f"{tensor.name[:100]} {tensor.datatype[:20]} {tensor.shape}"
        known = f"{name} {datatype} {['N', *shape]}".replace("'", "")
        raise InvalidTensor(f"inputs: found {found}; expected {known}, or {BYTES_NAME} BYTES [N]; N at least 1")


def _flat_bytes(tensor: InferInput) -> bytes:
    data = tensor.data or []
    for _ in tensor.shape[1:]:
        if data and all(isinstance(item, list) for item in data):
            data = list(chain.from_iterable(data))
    try:
        return bytes(data)
    except (TypeError, ValueError):
        raise InvalidTensor(f"{tensor.name}: data must be integers from 0 to 255, flat or row by row") from None


def _base64_files(tensor: InferInput) -> list[bytes]:
    try:
        return [base64.b64decode(text, validate=True) for text in tensor.data or []]
    except (TypeError, ValueError):
        raise InvalidTensor(f"{tensor.name}: data must be image files as base64") from None


def _length_prefixed(tensor: InferInput, raw: bytes) -> list[bytes]:
    files: list[bytes] = []
    place = 0
    while place < len(raw) and len(files) < tensor.shape[0]:
        start = place + 4
        place = start + int.from_bytes(raw[place:start], "little")
        files.append(raw[start:place])
    if place != len(raw):
        raise InvalidTensor(f"{tensor.name}: its {len(raw)} bytes are not {tensor.shape[0]} files behind their lengths")
    return files
