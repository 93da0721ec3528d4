"""The bytes of one image out of a request: a form with the field `file`, or the body itself.

Limits hold while the body arrives, whatever its Content-Length says, and nothing is ever written to disk.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import closing

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartParser
from starlette.requests import Request

from emotion_detection.errors import ImageTooLarge
from serving.problems import MissingFile, UnsupportedBody

FIELD = "file"
FORM_OVERHEAD = 16_384
"""Bytes that a form may have around its file."""
EXPECTED = f"send an image as multipart/form-data in the field `{FIELD}`, or as the body with an image/* content type"

REQUEST_BODY = {
    "required": True,
    "description": "One image (JPEG, PNG, WebP, BMP, GIF, TIFF): in the field `file` of a form, or as the body itself.",
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": [FIELD],
                "properties": {FIELD: {"type": "string", "format": "binary", "description": "The image file"}},
            }
        },
        "image/*": {"schema": {"type": "string", "format": "binary"}},
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    },
}
"""What `read_image` takes, for OpenAPI."""


class _MemoryParser(MultiPartParser):
    spool_max_size = sys.maxsize  # images are never stored, not even in a temporary file

    def close(self) -> None:
        # Includes the files of a form that ended early, which `FormData.close` does not know of.
        for file in self._files_to_close_on_error:
            file.close()


async def read_image(request: Request, max_bytes: int) -> bytes:
    """Receive one encoded image of at most `max_bytes`.

    Raises:
        UnsupportedBody: the content type is neither a form nor an image.
        ImageTooLarge: more bytes are announced or sent; the rest is thrown away as it arrives.
        MissingFile: the form has no file, or several, in the field `file`.
        MultiPartException: the form cannot be parsed.
        ClientDisconnect: the body ended early.
    """
    content_type = request.headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()
    if content_type == "multipart/form-data":
        with closing(_MemoryParser(request.headers, _limited(request, max_bytes, FORM_OVERHEAD))) as parser:
            return await _only_file(await parser.parse(), max_bytes)
    if content_type.startswith("image/") or content_type == "application/octet-stream":
        return b"".join([chunk async for chunk in _limited(request, max_bytes)])
    raise UnsupportedBody(f"content type {content_type}: {EXPECTED}")


async def _limited(request: Request, max_bytes: int, overhead: int = 0) -> AsyncGenerator[bytes]:
    announced = request.headers.get("content-length", "")
    _check_size(int(announced) if announced.isdecimal() else 0, max_bytes, overhead)
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        _check_size(received, max_bytes, overhead)
        yield chunk


async def _only_file(form: FormData, max_bytes: int) -> bytes:
    files = form.getlist(FIELD)
    if len(files) != 1 or not isinstance(files[0], UploadFile):
        raise MissingFile(f"{_found(form)}; {EXPECTED}")
    data = await files[0].read()
    _check_size(len(data), max_bytes)
    return data


def _found(form: FormData) -> str:
    files = form.getlist(FIELD)
    if not files:
        return f"the form has the fields {sorted(form)}" if form else "the form is empty"
    if len(files) > 1:
        return f"the form has {len(files)} fields `{FIELD}`, one is expected"
    return f"the field `{FIELD}` is text, without a file name"


def _check_size(size: int, max_bytes: int, overhead: int = 0) -> None:
    if size > max_bytes + overhead:
        raise ImageTooLarge(f"more than {max_bytes} bytes; send a smaller image")
