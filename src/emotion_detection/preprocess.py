"""Image bytes -> oriented pixels -> S x S uint8. The only copy: the shards stage and the server call it alike.

    prepare(data, size=48, channels=1)   -> uint8 (48, 48, 1)

The header is read first, so that format and size are known before a single pixel is decoded. Ordinary
grey and RGB files are then decoded by OpenCV, which is about twice as fast; whatever needs more thought
(EXIF rotation, palette, transparency, CMYK, 16 bits, animation) by Pillow.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from struct import Struct

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from emotion_detection.errors import BrokenImage, ImageError, ImageTooLarge, NotAnImage

MAX_PIXELS = 50_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # Pillow reads MPO as JPEG
_TURNS = {  # what sets an image of each EXIF orientation upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_FRAMES, _SCAN = {0xC0, 0xC2}, 0xDA  # markers of JPEG: baseline and progressive frames; where the pixels begin
_FRAME = Struct(">BHHB")  # bits, height, width, components
_PLAIN_SEGMENTS = {0xC4, 0xDB, 0xDD, 0xE0, 0xFE}  # Huffman and quantisation tables, restarts, JFIF, comment
_SWAPPED = {5, 6, 7, 8}  # orientations that exchange width and height

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Header:
    """What the first bytes of an image tell."""

    width: int
    """Pixels, after EXIF rotation."""
    height: int
    mode: str
    """Pillow's name: L, RGB, RGBA, P, CMYK, I;16 ..."""
    format: str
    """Pillow's name: JPEG, PNG ..."""
    orientation: int
    """EXIF orientation, 1 to 8, that is still to be undone; 1 for TIFF, which Pillow turns by itself."""


def read_header(data: bytes, max_pixels: int = MAX_PIXELS) -> Header:
    """Read format, size and orientation without decoding.

    Raises:
        NotAnImage: the bytes are of none of `FORMATS`.
        BrokenImage: the header is damaged.
        ImageTooLarge: the header announces more than `max_pixels`.
    """
    with _pillow("the header cannot be read"):
        return _header(_open(data), data, max_pixels)


def decode(data: bytes, channels: int, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decode an image, turned upright; of an animation the first frame; transparency over white.

    Returns:
        uint8 (height, width, channels), grey for 1 channel, RGB for 3.

    Raises:
        NotAnImage, BrokenImage, ImageTooLarge: as `read_header`; BrokenImage also for truncated data.
    """
    if (size := _plain_jpeg_size(data)) is not None and _looks_complete(data, "JPEG"):
        _check_size(*size, max_pixels)
        if (pixels := _decode_with_opencv(data, channels)) is not None:
            return pixels
    with _pillow("the header cannot be read"):
        image = _open(data)
        header = _header(image, data, max_pixels)
    if size is None and _looks_complete(data, header.format) and _is_ordinary(image, header):
        pixels = _decode_with_opencv(data, channels)
        if pixels is not None:
            return pixels
    if _ends_in_zeros(data):
        raise BrokenImage(f"{header.format} data ends in zeros, before the image does")
    with _pillow(f"{header.format} data cannot be decoded"):
        return _decode_with_pillow(image, header, channels)


def fit(image: Pixels, size: int) -> Pixels:
    """Cut the largest centred square and scale it.

    Args:
        image: uint8 (height, width, channels).

    Returns:
        uint8 (size, size, channels). Area averaging when shrinking, bilinear when enlarging.
    """
    height, width, channels = image.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    if side == size:
        return np.ascontiguousarray(square)
    method = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    return cv2.resize(square, (size, size), interpolation=method).reshape(size, size, channels).astype(np.uint8)


def prepare(data: bytes, size: int, channels: int, max_pixels: int = MAX_PIXELS) -> Pixels:
    """From encoded bytes to the model's input: `decode`, then `fit`.

    Returns:
        uint8 (size, size, channels).
    """
    return fit(decode(data, channels, max_pixels), size)


def encode_png(image: Pixels) -> bytes:
    """Encode losslessly.

    Args:
        image: uint8 (height, width, 1 or 3), grey or RGB.
    """
    stored = image if image.shape[2] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, buffer = cv2.imencode(".png", stored)
    return buffer.tobytes()


class _PillowWarnings:
    """Hides Pillow's warnings about odd files while any thread is inside.

    `warnings.catch_warnings` alone changes the filters of all threads and puts them back in the wrong order.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._catcher = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._catcher = warnings.catch_warnings()
                self._catcher.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._catcher.__exit__(None, None, None)


_pillow_warnings = _PillowWarnings()


@contextmanager
def _pillow(problem: str) -> Iterator[None]:
    # Pillow's readers raise whatever a damaged file makes them stumble over: struct.error, KeyError, zlib.error ...
    try:
        with _pillow_warnings:
            yield
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageTooLarge(str(error)) from None
    except Exception as error:
        raise BrokenImage(f"{problem}: {error or type(error).__name__}") from None


def _open(data: bytes) -> Image.Image:
    if not _has_known_beginning(data):
        kind = "no image" if data else "empty"
        raise NotAnImage(f"the bytes are {kind}; expected one of {', '.join(FORMATS)}")
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise BrokenImage("the header is damaged or incomplete") from None


def _has_known_beginning(data: bytes) -> bool:
    Image.init()  # fills Image.OPEN; does nothing from the second time on
    tests = (Image.OPEN[name][1] for name in FORMATS)
    return any(test is not None and test(data[:16]) for test in tests)


def _header(image: Image.Image, data: bytes, max_pixels: int) -> Header:
    width, height = image.size
    _check_size(width, height, max_pixels)
    orientation = _orientation(image, data)
    if orientation in _SWAPPED:
        width, height = height, width
    return Header(width, height, image.mode, image.format or "", orientation)


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageTooLarge(f"{width} x {height} pixels; at most {max_pixels} in all are allowed")


def _orientation(image: Image.Image, data: bytes) -> int:
    if image.format == "TIFF":
        return 1
    try:
        # PngImageFile.getexif decodes all pixels to look for EXIF after them.
        late = image.format == "PNG" and b"eXIf" in data
        exif = image.getexif() if late else Image.Image.getexif(image)
        orientation = exif.get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1  # damaged metadata is no reason to refuse good pixels
    return orientation if orientation in range(1, 9) else 1


def _is_ordinary(image: Image.Image, header: Header) -> bool:
    animated = getattr(image, "is_animated", False)
    plain = header.mode in ("L", "RGB") and not image.has_transparency_data
    return plain and header.orientation == 1 and not animated


def _plain_jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a JPEG in grey or YCbCr, without EXIF, colour profile or a second image (ITU T.81, annex B).

    For faces of 48 x 48 Pillow takes twice as long to read a header as OpenCV does to decode all.
    """
    size, place = None, 2 if data.startswith(b"\xff\xd8") else len(data)
    while place + 10 <= len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], data[place + 2] << 8 | data[place + 3]
        if marker == _SCAN:
            return size
        if marker in _FRAMES and size is None:
            bits, height, width, components = _FRAME.unpack_from(data, place + 4)
            if bits != 8 or components not in (1, 3) or not width * height:
                return None
            size = width, height
        elif marker not in _PLAIN_SEGMENTS:
            return None
        place += 2 + length
    return None


def _looks_complete(data: bytes, format_name: str) -> bool:
    # OpenCV fills what is missing of a truncated JPEG with grey and says nothing; Pillow raises.
    if format_name == "JPEG":
        return data.rstrip(b"\x00").endswith(b"\xff\xd9")
    return format_name == "PNG" and _chunks_fill(data)


def _chunks_fill(png: bytes) -> bool:
    # libpng, as OpenCV uses it, allocates whatever length a chunk announces: gigabytes for a file of 100 bytes.
    place = 8
    while place < len(png):
        place += 12 + int.from_bytes(png[place : place + 4], "big")
    return place == len(png)


def _ends_in_zeros(data: bytes) -> bool:
    # What a crash or an unfinished download leaves of a file; any decoder takes zeros for image data of a JPEG.
    written = data.rstrip(b"\x00")
    return (
        len(written) < len(data)
        and written.startswith(b"\xff\xd8")
        and written.rfind(b"\xff\xd9") < written.rfind(b"\xff\xda")
    )


def _decode_with_opencv(data: bytes, channels: int) -> Pixels | None:
    flag = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR_RGB
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flag | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None
    return None if pixels is None else pixels.reshape(*pixels.shape[:2], channels).astype(np.uint8, copy=False)


def _decode_with_pillow(image: Image.Image, header: Header, channels: int) -> Pixels:
    image.load()
    upright = image.transpose(_TURNS[header.orientation]) if header.orientation in _TURNS else image
    shallow = _eight_bits(upright)
    if shallow.has_transparency_data:
        shallow = shallow.convert("RGBA")
        shallow = Image.alpha_composite(Image.new("RGBA", shallow.size, "white"), shallow)
    pixels = np.asarray(shallow.convert("L" if channels == 1 else "RGB"), dtype=np.uint8)
    return pixels.reshape(*pixels.shape[:2], channels)


def _eight_bits(image: Image.Image) -> Image.Image:
    # Pillow clips 16-bit grey at 255 where it should scale.
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) // 257).astype(np.uint8))
