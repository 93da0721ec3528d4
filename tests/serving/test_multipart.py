"""Forms taken apart: equal to another parser on what is right, refused where anything is wrong."""

from __future__ import annotations

from contextlib import suppress

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from python_multipart.multipart import MultipartParser

from serving.errors import MalformedForm
from serving.multipart import MAX_HEAD, Part, boundary_of, parse_form

HEAD = b'Content-Disposition: form-data; name="file"; filename="f.jpg"'
GOOD = b"--x\r\n" + HEAD + b"\r\n\r\nDATA\r\n--x--\r\n"


def part(head: bytes = HEAD, data: bytes = b"DATA") -> bytes:
    return b"--x\r\n" + head + b"\r\n\r\n" + data + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--x--\r\n"


def with_another_parser(body: bytes, boundary: bytes) -> list[bytes]:
    """The data of all parts, by the parser that Starlette uses."""
    found: list[bytearray] = []
    callbacks = {
        "on_part_begin": lambda: found.append(bytearray()),
        "on_part_data": lambda data, start, end: found[-1].extend(data[start:end]),
    }
    parser = MultipartParser(boundary, callbacks)
    parser.write(body)
    parser.finalize()
    return [bytes(data) for data in found]


RIGHT = {
    "one file": (GOOD, [(b"file", True, b"DATA")]),
    "no line end after the last boundary": (GOOD[:-2], [(b"file", True, b"DATA")]),
    "an empty preamble": (b"\r\n" + GOOD, [(b"file", True, b"DATA")]),
    "no parts": (b"--x--\r\n", []),
    "an empty file": (form(part(data=b"")), [(b"file", True, b"")]),
    "several": (
        form(part(), part(b"content-disposition:form-data;name=text", b"1"), part(data=b"2")),
        [(b"file", True, b"DATA"), (b"text", False, b"1"), (b"file", True, b"2")],
    ),
    "line ends and dashes": (form(part(data=b"\r\n--\r\n--y\r\n--")), [(b"file", True, b"\r\n--\r\n--y\r\n--")]),
    "the boundary within a line of the data": (form(part(data=b"a--x b")), [(b"file", True, b"a--x b")]),
    "a quoted name": (form(part(rb'Content-Disposition: form-data; name="a\"b;c"')), [(b'a"b;c', False, b"DATA")]),
    "a Windows path": (form(part(HEAD.replace(b"f.jpg", rb"C:\d\f.jpg"))), [(b"file", True, b"DATA")]),
    "an encoded file name": (form(part(HEAD.replace(b'filename="', b'filename*="'))), [(b"file", True, b"DATA")]),
    "more header lines": (form(part(HEAD + b"\r\nContent-Type: image/png\r\nX-Odd: ")), [(b"file", True, b"DATA")]),
    "a binary encoding": (form(part(HEAD + b"\r\nContent-Transfer-Encoding: Binary")), [(b"file", True, b"DATA")]),
}  # fmt: skip

WRONG = {
    "nothing": b"",
    "another boundary": GOOD.replace(b"--x", b"--y"),
    "a preamble": b"hello\r\n" + GOOD,
    "an epilogue": GOOD + b"hello",
    "two ends": GOOD + b"--x--\r\n",
    "no end": GOOD[:-9],
    "an end that is cut": GOOD[:-3],
    "only a boundary": b"--x",
    "only a boundary line": b"--x\r\n",
    "line ends without carriage returns": GOOD.replace(b"\r\n", b"\n"),
    "a longer boundary": GOOD.replace(b"--x\r\n", b"--xx\r\n", 1),
    "a longer boundary behind the data": form(part(data=b"a\r\n--xy")),
    "a boundary with blanks after it": GOOD.replace(b"--x\r\n", b"--x  \r\n", 1),
    "no header lines": b"--x\r\n\r\nDATA\r\n--x--\r\n",
    "no blank line": b"--x\r\n" + HEAD + b"\r\n--x--\r\n",
    "no disposition": form(part(b"Content-Type: image/png")),
    "another disposition": form(part(HEAD.replace(b"form-data", b"attachment"))),
    "no name": form(part(b'Content-Disposition: form-data; filename="f"')),
    "two names": form(part(HEAD + b"; name=b")),
    "two dispositions": form(part(HEAD + b"\r\n" + HEAD)),
    "a folded header": form(part(b"Content-Disposition: form-data;\r\n name=file")),
    "a header without colon": form(part(HEAD + b"\r\nhello")),
    "a header with a blank name": form(part(HEAD + b"\r\n : hello")),
    "a null byte in a header": form(part(HEAD + b"\r\nA: \x00")),
    "an open quote": form(part(b'Content-Disposition: form-data; name="file')),
    "junk after a parameter": form(part(HEAD + b' "x"')),
    "base64": form(part(HEAD + b"\r\nContent-Transfer-Encoding: base64")),
    "a head without end": form(part(HEAD + b"\r\nA: " + b"a" * MAX_HEAD)),
    "too many parts": form(*[part()] * 6),
}


@pytest.mark.parametrize(("body", "expected"), RIGHT.values(), ids=RIGHT)
def test_right_forms_are_taken_apart(body: bytes, expected: list[tuple[bytes, bool, bytes]]) -> None:
    assert parse_form(body, b"x", 5) == [Part(*values) for values in expected]


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG)
def test_wrong_forms_are_refused(body: bytes) -> None:
    with pytest.raises(MalformedForm):
        parse_form(body, b"x", 5)


@pytest.mark.parametrize("length", range(len(GOOD) - 2))
def test_a_form_that_is_cut_anywhere_is_refused(length: int) -> None:
    with pytest.raises(MalformedForm):
        parse_form(GOOD[:length], b"x", 5)


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        (b"multipart/form-data; boundary=x", b"x"),
        (b'Multipart/Form-Data ;charset=utf-8; BOUNDARY="a b\'()+_,-./:=?c"', b"a b'()+_,-./:=?c"),
        (b"multipart/form-data;boundary=----WebKitFormBoundaryA1;", b"----WebKitFormBoundaryA1"),
    ],
)
def test_the_boundary_is_read(content_type: bytes, boundary: bytes) -> None:
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    "parameters",
    [
        b"",
        b"; boundary",
        b"; boundary=",
        b'; boundary=""',
        b'; boundary="a "',
        b'; boundary="\xc3"',
        b"; boundary=" + b"x" * 71,
        b"; boundary=x;boundary=y",
    ],
)
def test_a_boundary_that_is_none_is_refused(parameters: bytes) -> None:
    with pytest.raises(MalformedForm):
        boundary_of(b"multipart/form-data" + parameters)


pieces = st.sampled_from(
    [b"\r\n", b"--x", b"--", b"\r", b"\n", b"x", b";", b'"', b"\\", b"name=", b": ", HEAD, b"\x00"]
)


def spliced(place: int, removed: int, added: bytes) -> bytes:
    """The good form with something else in it."""
    return GOOD[:place] + added + GOOD[place + removed :]


soups = st.lists(pieces | st.binary(max_size=8), max_size=20).map(b"".join)


@settings(max_examples=300, deadline=None)
@given(st.lists(soups.filter(lambda data: b"\r\n--x" not in b"\r\n" + data), max_size=4))
def test_what_was_put_in_comes_out_and_equals_another_parser(contents: list[bytes]) -> None:
    body = form(*(part(data=data) for data in contents))
    assert [found.data for found in parse_form(body, b"x", 5)] == contents
    if contents:
        assert with_another_parser(body, b"x") == contents


@settings(max_examples=500, deadline=None)
@given(soups | st.builds(spliced, st.integers(0, len(GOOD)), st.integers(0, 9), soups))
def test_anything_else_is_refused_or_has_the_data_that_another_parser_finds(body: bytes) -> None:
    try:
        found = parse_form(body, b"x", 5)
    except MalformedForm:
        return
    if found:
        assert with_another_parser(body, b"x") == [part.data for part in found]


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_any_content_type_gives_a_boundary_or_is_refused(text: bytes) -> None:
    with suppress(MalformedForm):
        assert 1 <= len(boundary_of(b"multipart/form-data; boundary=" + text)) <= 70


def test_the_forms_of_httpx_are_taken_apart() -> None:
    files = [("file", ('a"b.jpg', b"\x00\r\n", "image/jpeg")), ("file", ("ä", b"", None))]
    request = httpx.Request("POST", "http://x", files=files, data={"text": "1"})
    parts = parse_form(request.read(), boundary_of(request.headers["content-type"].encode()), 5)
    assert parts == [Part(b"text", False, b"1"), Part(b"file", True, b"\x00\r\n"), Part(b"file", True, b"")]
