"""The bytes of the images out of a request: a form with the field `file`, once or several times, or the body itself.

Limits hold while the body arrives, whatever its Content-Length says, and nothing is ever written to disk.
"""

from __future__ import annotations

from starlette.types import Receive

from emotion_detection.errors import ImageTooLarge
from serving.errors import IncompleteBody, MissingFile, Overloaded, TooManyImages, UnsupportedBody
from serving.multipart import Part, boundary_of, parse_form
from serving.settings import Settings

FIELD = "file"
_NAME = FIELD.encode()
FORM_OVERHEAD = 16_384
"""Bytes that a form may have around its file."""
OTHER_PARTS = 16
"""Fields that a form may have beside its images."""
EXPECTED = f"send an image as multipart/form-data in the field `{FIELD}`, or as the body with an image/* content type"

REQUEST_BODY = {
    "required": True,
    "description": (
        "An image (JPEG, PNG, WebP, BMP, GIF, TIFF): in the field `file` of a form, or as the body itself. "
        "A form may have the field `file` several times."
    ),
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": [FIELD],
                "properties": {
                    FIELD: {
                        "description": "One image file, or several",
                        "anyOf": [
                            {"type": "string", "format": "binary"},
                            {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}},
                        ],
                    }
                },
            }
        },
        "image/*": {"schema": {"type": "string", "format": "binary"}},
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    },
}
"""What `Uploads` takes, for OpenAPI."""


class Uploads:
    """Receives bodies, and counts the bytes of all that are held at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._form_limit = max(settings.max_request_bytes, settings.max_bytes + FORM_OVERHEAD)
        self._held = 0

    async def receive(self, receive: Receive, content_type: bytes, announced: bytes) -> bytes:
        """Receive the body of a request; `release` must follow.

        Args:
            content_type, announced: headers Content-Type and Content-Length, as they were sent.

        Raises:
            UnsupportedBody: the content type is neither a form nor an image.
            ImageTooLarge: more bytes are announced or sent than allowed; the rest is thrown away as it arrives.
            Overloaded: there is no memory for it now.
            IncompleteBody: the body did not arrive to its end (protocol.py limits the time).
        """
        return await self.receive_bytes(receive, announced, self._limit(content_type))

    async def receive_bytes(self, receive: Receive, announced: bytes, limit: int) -> bytes:
        """Receive a body of any kind, of at most `limit` bytes; `release` must follow.

        Raises:
            ImageTooLarge, Overloaded, IncompleteBody: as `receive`.
        """
        _check_size(int(announced) if announced.isdigit() else 0, limit)
        body, more = bytearray(), True  # a list of chunks of a few bytes would take many times as many
        try:
            while more:
                chunk, more = await _chunk(receive)
                body += chunk
                self._hold(len(chunk))
                _check_size(len(body), limit)
        except BaseException:
            self.release(len(body))
            raise
        return bytes(body)

    def release(self, size: int) -> None:
        """Count so many bytes as held no more."""
        self._held -= size

    def images(self, content_type: bytes, body: bytes) -> list[bytes]:
        """The image files of a body, at least one.

        Raises:
            MalformedForm: the form cannot be parsed.
            MissingFile: the form has no file in the field `file`.
            TooManyImages: it has more than allowed.
        """
        if not _is_form(content_type):
            return [body]
        most = self._settings.max_images
        parts = parse_form(body, boundary_of(content_type), most + OTHER_PARTS)
        images = [part for part in parts if part.name == _NAME]
        if not images or not all(part.is_file for part in images):
            raise MissingFile(f"{_found(parts)}; {EXPECTED}")
        if len(images) > most:
            raise TooManyImages(f"the form has {len(images)} images; at most {most} are taken at once")
        return [image.data for image in images]

    def check_image(self, image: bytes) -> None:
        """Do nothing, or fail for a file that is too large; within a form it can be one of many.

        Raises:
            ImageTooLarge: it has more than `max_bytes`.
        """
        _check_size(len(image), self._settings.max_bytes)

    def _hold(self, size: int) -> None:
        self._held += size
        if self._held > self._settings.max_buffer_bytes:
            raise Overloaded("too many bytes are being received; try again later")

    def _limit(self, content_type: bytes) -> int:
        if _is_form(content_type):
            return self._form_limit
        kind = content_type.partition(b";")[0].strip().lower()
        if kind and not kind.startswith(b"image/") and kind != b"application/octet-stream":
            raise UnsupportedBody(f"content type {kind.decode('latin-1')}: {EXPECTED}")
        return self._settings.max_bytes


async def _chunk(receive: Receive) -> tuple[bytes, bool]:
    """The next part of a body, and whether there will be more."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise IncompleteBody("the body ended early")
    return message.get("body", b""), message.get("more_body", False)


def _is_form(content_type: bytes) -> bool:
    return content_type[:19].lower() == b"multipart/form-data" and content_type[19:].lstrip()[:1] in (b"", b";")


def _found(parts: list[Part]) -> str:
    if any(part.name == _NAME for part in parts):
        return f"the field `{FIELD}` is text, without a file name"
    names = sorted({part.name.decode("utf-8", "replace") for part in parts})
    return f"the form has the fields {names}" if names else "the form is empty"


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise ImageTooLarge(f"more than {limit} bytes; send a smaller image")
