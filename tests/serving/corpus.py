"""Bad input, and odd input that is right, all made here: images, forms, and what is sent as HTTP.

IMAGES["truncated JPEG"]        -> Kind(data=b"...", expected={415, 422})
FORMS["no boundary"]            -> Form(content_type, body, expected)
REQUESTS["two lengths"]         -> bytes as they go over the wire
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tests.serving.tiny import encode

GOOD = frozenset({200})
BAD = frozenset({413, 415, 422})
EITHER = GOOD | BAD
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")


@dataclass(frozen=True)
class Kind:
    data: bytes
    expected: frozenset[int] = BAD


@dataclass(frozen=True)
class Form:
    content_type: str
    body: bytes
    expected: frozenset[int]


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: bytes, width: int = 16, height: int = 16, depth: int = 8, colour: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND", b"")


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def jpeg_with_size(width: int, height: int) -> bytes:
    data = bytearray(encode(form="JPEG"))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def exif(*entries: bytes, count: int | None = None, following: int = 0) -> bytes:
    """An EXIF block with one directory."""
    number = len(entries) if count is None else count
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", number) + b"".join(entries) + struct.pack("<I", following)


def tiff(entries: dict[int, tuple[int, int, int]], following: int = 0) -> bytes:
    """A little-endian TIFF with one directory: tag -> type, count, value."""
    rows = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in sorted(entries.items()))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + rows + struct.pack("<I", following) + bytes(64)


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../etc/passwd", "x")
    return buffer.getvalue()


_IDAT = chunk(b"IDAT", zlib.compress(bytes(17 * 16)))
_BOMB = zlib.compress(bytes(50_000_000), 9)
_FLOATS = np.full((16, 16), np.nan, np.float32)
_FRAMES = [Image.new("L", (16, 16), shade) for shade in range(0, 250, 5)]
_GREY = Image.new("L", (16, 16), 9)
_STRIP = {256: (3, 1, 16), 257: (3, 1, 16), 258: (3, 1, 8), 262: (3, 1, 1), 273: (4, 1, 8), 279: (4, 1, 256)}

IMAGES: dict[str, Kind] = {
    **{f"truncated {form}": Kind(encode(form=form, mode="RGB")[: len(encode(form=form, mode="RGB")) // 2])
       for form in FORMATS},
    **{f"only the beginning of a {form}": Kind(encode(form=form)[:24]) for form in FORMATS if form != "PPM"},
    **{f"{form} whose end is zeros": Kind((data := encode(form=form, mode="RGB"))[: len(data) // 2]
       + bytes(len(data) - len(data) // 2), EITHER) for form in FORMATS},
    **{f"{form} with noise in the middle": Kind((data := encode(form=form))[: len(data) // 2] + b"\xa5\x5a\xff\xd9" * 9
       + data[len(data) // 2 + 36 :], EITHER) for form in FORMATS},
    "empty": Kind(b""),
    "zeros": Kind(bytes(5000)),
    "text": Kind(b"face.jpg"),
    "UTF-16 text": Kind("a face \N{GRINNING FACE}".encode("utf-16")),
    "HTML": Kind(b"<!DOCTYPE html><script>alert(1)</script>"),
    "SVG": Kind(b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'),
    "JSON": Kind(b'{"image": "aGVsbG8="}'),
    "PDF": Kind(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj"),
    "PostScript": Kind(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (w) file\n"),
    "ZIP": Kind(zipped()),
    "pickle": Kind(b"cos\nsystem\n(S'true'\ntR."),
    "program": Kind(b"\x7fELF\x02\x01\x01" + bytes(99)),
    "ICO": Kind(saved(Image.new("RGB", (16, 16)), "ICO")),
    "JPEG 2000": Kind(b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99)),
    "HEIC": Kind(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99)),
    "XPM that Pillow would read": Kind(b'/* XPM */\nstatic char *x[] = {"1 1 1 1","a c #000000","a"};'),
    "signature of a PNG": Kind(b"\x89PNG\r\n\x1a\n"),
    "signature of a JPEG": Kind(b"\xff\xd8\xff"),
    "begin and end of a JPEG": Kind(b"\xff\xd8\xff\xd9"),
    "RIFF that is no WebP": Kind(b"RIFF\x24\0\0\0WAVEfmt " + bytes(99)),
    "WebP with a wrong length": Kind(encode(form="WEBP")[:4] + b"\xff\xff\xff\x7f" + encode(form="WEBP")[8:], EITHER),
    "PNG of 60,000 x 60,000": Kind(png(_IDAT, width=60_000, height=60_000)),
    "PNG of 2^31 - 1 squared": Kind(png(_IDAT, width=2**31 - 1, height=2**31 - 1)),
    "PNG of width 0": Kind(png(_IDAT, width=0)),
    "JPEG of 65,500 x 65,500": Kind(jpeg_with_size(65_500, 65_500)),
    "JPEG of height 0": Kind(jpeg_with_size(16, 0)),
    "GIF of 65,535 x 65,535": Kind(b"GIF89a\xff\xff\xff\xff" + encode(form="GIF")[10:]),
    "GIF whose frame is larger than its screen": Kind(
        b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\xff\xff\xff\xff\0\x02\x02L\x01\0;"),
    "BMP of 60,000 x 60,000": Kind(encode(form="BMP")[:18] + struct.pack("<ii", 60_000, 60_000) + bytes(900)),
    "BMP of negative width": Kind(encode(form="BMP")[:18] + struct.pack("<ii", -16, 16) + encode(form="BMP")[26:]),
    "TIFF of 60,000 x 60,000": Kind(tiff(_STRIP | {256: (4, 1, 60_000), 257: (4, 1, 60_000)})),
    "PPM of 60,000 x 60,000": Kind(b"P5 60000 60000 255\n" + bytes(99)),
    "PPM of negative size": Kind(b"P5 -16 -16 255\n" + bytes(999)),
    "PPM with a range of 0": Kind(b"P5 16 16 0\n" + bytes(256)),
    "PPM with half a number": Kind(b"P5 16 1"),
    "pixels that unpack to a thousand times more": Kind(png(chunk(b"IDAT", _BOMB)), EITHER),
    "text that unpacks to 50 MB": Kind(png(chunk(b"zTXt", b"a\0\0" + _BOMB), _IDAT), EITHER),
    "profile that unpacks to 50 MB": Kind(png(chunk(b"iCCP", b"a\0\0" + _BOMB), _IDAT), EITHER),
    "PNG with wrong checksums": Kind(png(_IDAT[:-4] + b"\0\0\0\0"), EITHER),
    "PNG without pixels": Kind(png()),
    "PNG with broken pixels": Kind(png(chunk(b"IDAT", b"\x78\x9c" + b"\xff" * 99))),
    "PNG with too few rows": Kind(png(chunk(b"IDAT", zlib.compress(bytes(17 * 3)))), EITHER),
    "PNG of depth 3": Kind(png(_IDAT, depth=3)),
    "PNG of an unknown colour type": Kind(png(_IDAT, colour=5)),
    "PNG with a palette that is missing": Kind(png(_IDAT, colour=3), EITHER),
    "PNG with a chunk of 2 GB": Kind(png(struct.pack(">I", 2**31 - 1) + b"tEXt")),
    "EXIF of 65,535 entries": Kind(encode(form="JPEG", exif=exif(count=65_535)), EITHER),
    "EXIF that goes in a circle": Kind(encode(form="JPEG", exif=exif(following=8)), EITHER),
    "EXIF with 4 GB of values": Kind(
        encode(form="JPEG", exif=exif(struct.pack("<HHII", 0x112, 12, 2**29, 8))), EITHER),
    "EXIF with orientation 99": Kind(
        encode(form="JPEG", exif=exif(struct.pack("<HHIHH", 0x112, 3, 1, 99, 0))), EITHER),
    "EXIF that is noise": Kind(encode(form="JPEG", exif=b"Exif\0\0" + b"\xa5" * 500), EITHER),
    "TIFF that goes in a circle": Kind(tiff(_STRIP, following=8), EITHER),
    "TIFF with strips outside": Kind(tiff(_STRIP | {273: (4, 1, 2**31)})),
    "TIFF of 65,535 samples": Kind(tiff(_STRIP | {277: (3, 1, 65_535)}), EITHER),
    "TIFF with an unknown compression": Kind(tiff(_STRIP | {259: (3, 1, 60_000)})),
    "TIFF with broken LZW": Kind(tiff(_STRIP | {259: (3, 1, 5), 273: (4, 1, 90), 279: (4, 1, 40)}), EITHER),
    "TIFF of NaN": Kind(saved(Image.fromarray(_FLOATS), "TIFF"), EITHER),
    "TIFF of infinities": Kind(saved(Image.fromarray(_FLOATS * 0 + np.inf), "TIFF"), EITHER),
    "TIFF of huge floats": Kind(saved(Image.fromarray(np.full((16, 16), 1e38, np.float32)), "TIFF"), EITHER),
    "TIFF of 32-bit integers": Kind(saved(Image.fromarray(np.full((16, 16), 2**30, np.int32)), "TIFF"), EITHER),
    "GIF with broken LZW": Kind(encode(form="GIF")[:-60] + b"\xff" * 59 + b";", EITHER),
    "polyglot of GIF and script": Kind(b"GIF89a/*" + bytes(20) + b"*/=1;alert(1)//;"),
    "polyglot of JPEG and HTML": Kind(encode(form="JPEG", comment=b"<script>alert(1)</script>"), GOOD),
    "polyglot of PNG and ZIP": Kind(encode() + zipped(), GOOD),
    "polyglot of PDF and JPEG": Kind(b"%PDF-1.4\n" + encode(form="JPEG")),
    "a thousand comments": Kind((data := encode(form="JPEG"))[:2] + b"\xff\xfe\0\x08hello!" * 1000 + data[2:], GOOD),
    "16-bit PNG": Kind(saved(Image.fromarray(np.full((16, 16), 40_000, np.uint16)), "PNG"), GOOD),
    "1-bit PNG": Kind(encode(mode="1"), GOOD),
    "grey with transparency": Kind(encode(mode="LA"), GOOD),
    "palette with transparency": Kind(encode(mode="P", transparency=0), GOOD),
    "CMYK JPEG": Kind(encode(form="JPEG", mode="CMYK"), GOOD),
    "YCbCr TIFF": Kind(encode(form="TIFF", mode="YCbCr"), EITHER),
    "LAB TIFF": Kind(encode(form="TIFF", mode="LAB"), EITHER),
    "progressive JPEG": Kind(encode(form="JPEG", mode="RGB", progressive=True), GOOD),
    "animated GIF": Kind(saved(_GREY, "GIF", save_all=True, append_images=_FRAMES), GOOD),
    "animated WebP": Kind(saved(_GREY, "WEBP", save_all=True, append_images=_FRAMES), GOOD),
    "animated PNG": Kind(saved(_GREY, "PNG", save_all=True, append_images=_FRAMES), GOOD),
    "TIFF of 51 pages": Kind(saved(_GREY, "TIFF", save_all=True, append_images=_FRAMES), GOOD),
    "one pixel": Kind(encode(size=(1, 1)), GOOD),
    "one row of 20,000 pixels": Kind(encode(size=(20_000, 1)), GOOD),
    "one column of 20,000 pixels": Kind(encode(form="JPEG", size=(1, 20_000)), GOOD),
}  # fmt: skip

_PIXELS = encode(3)
_TYPE = "multipart/form-data; boundary=x"
_HEAD = b'Content-Disposition: form-data; name="file"; filename="f.png"'
_REFUSED = frozenset({400, 413, 415, 422})


def form(*heads: bytes, data: bytes = _PIXELS) -> bytes:
    return b"".join(b"--x\r\n" + head + b"\r\n\r\n" + data + b"\r\n" for head in heads) + b"--x--\r\n"


def named(filename: bytes) -> bytes:
    return form(b'Content-Disposition: form-data; name="file"; filename="' + filename + b'"')


FORMS: dict[str, Form] = {
    "text/plain": Form("text/plain", _PIXELS, _REFUSED),
    "JSON instead of an image": Form("application/json", b'{"url": "http://169.254.169.254/"}', _REFUSED),
    "urlencoded": Form("application/x-www-form-urlencoded", b"file=%89PNG", _REFUSED),
    "another multipart": Form("multipart/mixed; boundary=x", form(_HEAD), _REFUSED),
    "JSON that says it is an image": Form("image/png", b'{"a": 1}', _REFUSED),
    "a type that is noise": Form(";;;=,\x7f", _PIXELS, _REFUSED),
    "no boundary": Form("multipart/form-data", form(_HEAD), _REFUSED),
    "an empty boundary": Form("multipart/form-data; boundary=", form(_HEAD), _REFUSED),
    "another boundary": Form("multipart/form-data; boundary=y", form(_HEAD), _REFUSED),
    "a boundary of 5,000 characters": Form("multipart/form-data; boundary=" + "x" * 5000, form(_HEAD), _REFUSED),
    "two boundaries": Form(_TYPE + "; boundary=y", form(_HEAD), _REFUSED),
    "no end": Form(_TYPE, form(_HEAD)[:-8], _REFUSED),
    "half of a head": Form(_TYPE, form(_HEAD)[:30], _REFUSED),
    "only the end": Form(_TYPE, b"--x--\r\n", _REFUSED),
    "something after the end": Form(_TYPE, form(_HEAD) + b"GET / HTTP/1.1\r\n\r\n", _REFUSED),
    "bare line feeds": Form(_TYPE, form(_HEAD).replace(b"\r\n", b"\n"), _REFUSED),
    "no name": Form(_TYPE, form(b"Content-Disposition: form-data"), _REFUSED),
    "no disposition": Form(_TYPE, form(b"Content-Type: image/png"), _REFUSED),
    "two dispositions": Form(_TYPE, form(_HEAD + b"\r\n" + _HEAD), _REFUSED),
    "two names": Form(_TYPE, form(_HEAD + b'; name="other"'), _REFUSED),
    "a line without a colon": Form(_TYPE, form(_HEAD + b"\r\nnonsense"), _REFUSED),
    "a folded line": Form(_TYPE, form(_HEAD + b"\r\nX: a\r\n b"), _REFUSED),
    "base64": Form(_TYPE, form(_HEAD + b"\r\nContent-Transfer-Encoding: base64"), _REFUSED),
    "a form in a form": Form(_TYPE, form(_HEAD + b"\r\nContent-Type: " + _TYPE.encode(), data=form(_HEAD)), _REFUSED),
    "a head of 100 kB": Form(_TYPE, form(_HEAD + b"\r\nX: " + b"a" * 100_000), _REFUSED),
    "5,000 parts": Form(_TYPE, form(*[_HEAD] * 5000, data=b""), _REFUSED),
    "5,000 other fields": Form(_TYPE, form(*[b'Content-Disposition: form-data; name="a"'] * 5000, data=b""), _REFUSED),
    "an empty file": Form(_TYPE, form(_HEAD, data=b""), _REFUSED),
    "a text": Form(_TYPE, form(b'Content-Disposition: form-data; name="file"'), _REFUSED),
    "a NUL in the file's name": Form(_TYPE, named(b"a\0b"), GOOD | _REFUSED),
    "a line end in the file's name": Form(_TYPE, named(b"a\r\nX: b"), _REFUSED),
    "a path as the file's name": Form(_TYPE, named(b"../../../../etc/passwd"), GOOD),
    "a Windows path as the file's name": Form(_TYPE, named(rb"C:\con\..\aux.png"), GOOD),
    "a file's name in Unicode": Form(_TYPE, named("лицо \N{GRINNING FACE}\u202egnp.exe".encode()), GOOD),
    "a file's name that is no UTF-8": Form(_TYPE, named(b"\xff\xfe\x80"), GOOD),
    "a script as the file's name": Form(_TYPE, named(b"<img src=x onerror=alert(1)>"), GOOD),
    "an empty name": Form(_TYPE, named(b""), GOOD),
}


def request(*headers: str, body: bytes = b"", first: str = "POST /detect HTTP/1.1") -> bytes:
    lines = [first, "Host: test", "Content-Type: image/png", *headers]
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n" + body


_LENGTH = f"Content-Length: {len(_PIXELS)}"
_CHUNKED = "Transfer-Encoding: chunked"
_SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n"
REQUESTS: dict[str, bytes] = {
    "a length that is too short": request("Content-Length: 9", body=_PIXELS),
    "a length that is too long": request("Content-Length: 9999", body=_PIXELS),
    "a negative length": request("Content-Length: -1", body=_PIXELS),
    "a length with a sign": request("Content-Length: +9", body=_PIXELS),
    "a length of 2^64": request(f"Content-Length: {2**64}", body=_PIXELS),
    "a length of 10^18": request(f"Content-Length: {10**18}", body=_PIXELS),
    "a length in hexadecimal": request("Content-Length: 0x10", body=_PIXELS),
    "two lengths": request(_LENGTH, "Content-Length: 9", body=_PIXELS),
    "a list of lengths": request("Content-Length: 9, 9", body=_PIXELS),
    "a length and chunks": request(_LENGTH, _CHUNKED, body=b"0\r\n\r\n" + _SMUGGLED),
    "chunks and a length": request(_CHUNKED, "Content-Length: 4", body=b"5c\r\n" + _SMUGGLED),
    "chunked, with a space before the colon": request("Transfer-Encoding : chunked", body=b"0\r\n\r\n"),
    "an unknown transfer encoding": request("Transfer-Encoding: xchunked", body=b"0\r\n\r\n" + _SMUGGLED),
    "chunked, then identity": request("Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"),
    "chunked twice": request(_CHUNKED, _CHUNKED, body=b"0\r\n\r\n"),
    "a chunk whose length is no number": request(_CHUNKED, body=b"zz\r\nabc\r\n0\r\n\r\n"),
    "a chunk of 2^64 bytes": request(_CHUNKED, body=b"ffffffffffffffff1\r\nabc"),
    "a chunk that is longer than it says": request(_CHUNKED, body=b"3\r\nabcdef\r\n0\r\n\r\n"),
    "chunks without an end": request(_CHUNKED, body=b"3\r\nabc\r\n"),
    "a line feed in a chunk's extension": request(_CHUNKED, body=b"3;a\nb\r\nabc\r\n0\r\n\r\n"),
    "a million tiny chunks' worth of trailers": request(_CHUNKED, body=b"0\r\n" + b"A: b\r\n" * 20_000 + b"\r\n"),
    "a body where none belongs": request(_LENGTH, body=_PIXELS, first="GET /healthz HTTP/1.1"),
    "two requests at once": 2 * request(_LENGTH, body=_PIXELS),
    "a good and a bad request at once": request(_LENGTH, body=_PIXELS) + request(_LENGTH, body=bytes(len(_PIXELS))),
    "fifty requests at once": 50 * request(first="GET /healthz HTTP/1.1"),
    "a header of 100 kB": request("X-Long: " + "a" * 100_000, _LENGTH, body=_PIXELS),
    "5,000 headers": request(*[f"X-{number}: a" for number in range(5000)], _LENGTH, body=_PIXELS),
    "a URL of 100 kB": request(_LENGTH, body=_PIXELS, first=f"POST /detect?{'a' * 100_000}=1 HTTP/1.1"),
    "a header without a colon": request("nonsense", _LENGTH, body=_PIXELS),
    "a header without a name": request(": x", _LENGTH, body=_PIXELS),
    "a NUL in a header": request("X: a\0b", _LENGTH, body=_PIXELS),
    "a folded header": request("X: a\r\n b", _LENGTH, body=_PIXELS),
    "a header that is no ASCII": request("X-\xff: \xfe", _LENGTH, body=_PIXELS),
    "no host": request(_LENGTH, body=_PIXELS).replace(b"Host: test\r\n", b""),
    "an id that splits the answer": request("X-Request-Id: a\rSet-Cookie: b", _LENGTH, body=_PIXELS),
    "no HTTP at all": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(99),
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "HTTP/0.9": b"GET /healthz\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/9.9": request(_LENGTH, body=_PIXELS, first="POST /detect HTTP/9.9"),
    "an unknown method": request(first="STEAL /detect HTTP/1.1"),
    "CONNECT": request(first="CONNECT example.org:443 HTTP/1.1"),
    "TRACE": request(first="TRACE / HTTP/1.1"),
    "a whole URL": request(first="GET http://169.254.169.254/latest HTTP/1.1"),
    "a path upwards": request(first="GET /../../../../etc/passwd HTTP/1.1"),
    "an encoded path upwards": request(first="GET /static/%2e%2e/%2e%2e/%2e%2e/etc/passwd HTTP/1.1"),
    "a NUL in the path": request(first="GET /static/%00.html HTTP/1.1"),
    "a path that is no UTF-8": request(first="GET /%ff%fe HTTP/1.1"),
    "half an escape in the path": request(first="GET /%e HTTP/1.1"),
    "an unknown parameter": request(_LENGTH, body=_PIXELS, first="POST /detect?url=file:///etc/passwd HTTP/1.1"),
    "parameters that are noise": request(_LENGTH, body=_PIXELS, first="POST /detect?faces=%ff&%00=%f0 HTTP/1.1"),
    "an upgrade to something else": request("Connection: Upgrade", "Upgrade: h2c", first="GET /healthz HTTP/1.1"),
    "a WebSocket without its key": request(
        "Connection: Upgrade", "Upgrade: websocket", first="GET /stream HTTP/1.1"),
    "a WebSocket of another version": request(
        "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: eA==", "Sec-WebSocket-Version: 99",
        first="GET /stream HTTP/1.1"),
    "a WebSocket where there is none": request(
        "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13", first="GET /detect HTTP/1.1"),
}  # fmt: skip
