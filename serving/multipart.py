"""Forms (multipart/form-data, RFC 7578) taken apart, strictly: what is not exactly a form is refused.

    boundary = boundary_of(b"multipart/form-data; boundary=x")
    parse_form(body, boundary, max_parts=10)        -> [Part(name=b"file", is_file=True, data=b"...")]

The body is in memory already, and bounded. A few searches for the boundary replace a state machine over every byte;
a form with a photo costs microseconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from serving.errors import MalformedForm

MAX_HEAD = 8192
"""Bytes of the header lines of one part."""
_TOKEN = rb"[\w!#$%&'*+.^`|~-]+"
_PARAMETER = re.compile(rb"[ \t]*;[ \t]*(" + _TOKEN + rb')[ \t]*=[ \t]*("(?:[^"\\\r\n]|\\[^\r\n])*"|' + _TOKEN + rb")")
_END = re.compile(rb"[ \t]*;?[ \t]*")
_HEADER = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([^\r\n\x00]*)")
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")  # RFC 2046, 5.1.1
_ORDINARY_TYPE = re.compile(rb"multipart/form-data; ?boundary=([0-9A-Za-z'+_.-]{1,70})")
_ORDINARY_HEAD = re.compile(
    rb'Content-Disposition: form-data; name="([^"\\\r\n]*)"(; filename="[^"\\\r\n]*")?'
    rb"(?:\r\nContent-Type: [^\r\n\x00]*)?"
)
"""How browsers, curl and httpx write them: one look instead of ten."""
_PLAIN_ENCODINGS = (b"7bit", b"8bit", b"binary")


@dataclass(frozen=True, slots=True)
class Part:
    """One field of a form."""

    name: bytes
    is_file: bool
    """Whether it came with a file name."""
    data: bytes


def boundary_of(content_type: bytes) -> bytes:
    """The boundary that a `multipart/form-data; boundary=...` header names.

    Raises:
        MalformedForm: there is none, or not one that RFC 2046 allows.
    """
    if ordinary := _ORDINARY_TYPE.fullmatch(content_type):
        return ordinary[1]
    parameters = content_type.strip()[len(b"multipart/form-data") :]
    boundary = _parameters(parameters, "the content type").get(b"boundary", b"")
    if not _BOUNDARY.fullmatch(boundary):
        raise MalformedForm("the content type names no boundary of 1 to 70 allowed characters")
    return boundary


def parse_form(body: bytes, boundary: bytes, max_parts: int) -> list[Part]:
    """Take a form apart.

    Raises:
        MalformedForm: the body does not begin and end with its boundary, has more than `max_parts` parts, or a part
            has no name, broken header lines, or a transfer encoding.
    """
    delimiter = b"\r\n--" + boundary
    place = 2 if body.startswith(b"\r\n") else 0  # an empty preamble
    if not body.startswith(delimiter[2:], place):
        raise MalformedForm("the body does not begin with its boundary")
    place += len(delimiter) - 2
    parts: list[Part] = []
    while not body.startswith(b"--", place):
        if len(parts) == max_parts:
            raise MalformedForm(f"the form has more than {max_parts} parts")
        data = _end_of_head(body, place)
        end = body.find(delimiter, data)
        if end < 0:
            raise MalformedForm("the body ends before its last boundary")
        parts.append(Part(*_describe(body[place + 2 : data - 4]), body[data:end]))
        place = end + len(delimiter)
    if body[place + 2 :] not in (b"", b"\r\n"):
        raise MalformedForm("the body goes on after its last boundary")
    return parts


def _end_of_head(body: bytes, place: int) -> int:
    if not body.startswith(b"\r\n", place):
        raise MalformedForm("a boundary is followed by something else than the end of its line")
    end = body.find(b"\r\n\r\n", place, place + MAX_HEAD)
    if end < 0:
        raise MalformedForm(f"the header lines of a part have no end within {MAX_HEAD} bytes")
    return end + 4


def _describe(head: bytes) -> tuple[bytes, bool]:
    """Name of a part, and whether it is a file, from its header lines."""
    if ordinary := _ORDINARY_HEAD.fullmatch(head):
        return ordinary[1], ordinary[2] is not None
    headers = _headers(head)
    disposition = headers.get(b"content-disposition", b"")
    kind = disposition.partition(b";")[0]
    if kind.strip().lower() != b"form-data":
        raise MalformedForm("a part has no `Content-Disposition: form-data`")
    if headers.get(b"content-transfer-encoding", b"binary").lower() not in _PLAIN_ENCODINGS:
        raise MalformedForm("a part has a transfer encoding; send its bytes as they are")
    parameters = _parameters(disposition[len(kind) :], "a part")
    if b"name" not in parameters:
        raise MalformedForm("a part has no name")
    return parameters[b"name"], b"filename" in parameters or b"filename*" in parameters


def _headers(head: bytes) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for line in head.split(b"\r\n") if head else ():
        match = _HEADER.fullmatch(line)
        if match is None or (name := match[1].lower()) in headers:
            raise MalformedForm("a part has a broken or repeated header line")
        headers[name] = match[2].rstrip()
    return headers


def _parameters(text: bytes, where: str) -> dict[bytes, bytes]:
    """`; name="a"; filename=b` by lower-case name, quotes removed."""
    parameters: dict[bytes, bytes] = {}
    place = 0
    while match := _PARAMETER.match(text, place):
        name, value = match[1].lower(), match[2]
        if name in parameters:
            raise MalformedForm(f"{where} has the parameter {name.decode('latin-1')} twice")
        parameters[name] = _unquote(value)
        place = match.end()
    if not _END.fullmatch(text, place):
        raise MalformedForm(f"{where} has broken parameters")
    return parameters


def _unquote(value: bytes) -> bytes:
    if not value.startswith(b'"'):
        return value
    return re.sub(rb"\\(.)", rb"\1", value[1:-1]) if b"\\" in value else value[1:-1]
