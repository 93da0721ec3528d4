"""Decoding of ordinary, odd, damaged and hostile images, and the crop to S x S."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from emotion_detection import preprocess
from emotion_detection.errors import BrokenImage, ImageError, ImageTooLarge, NotAnImage
from emotion_detection.preprocess import FORMATS, Pixels, decode, encode_png, fit, prepare, read_header

ORIENTATION = 0x0112
WIDTH, HEIGHT = 40, 24
UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {  # EXIF 2.32, table 6 ("Orientation"), stored -> upright
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].transpose(1, 0, 2),
    8: lambda stored: np.rot90(stored, 1),
}


def scene(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """A picture that is equal to none of its mirror images."""
    image = Image.new("RGB", (width, height), (40, 90, 140))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width // 2, height // 2), fill=(220, 60, 30))
    draw.rectangle((width // 2, 0, width, height // 3), fill=(240, 230, 50))
    draw.ellipse((2, height // 2, width // 3, height - 2), fill=(10, 200, 100))
    return image


def noisy(width: int = 64, height: int = 48) -> Image.Image:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return Image.fromarray(np.clip(smooth.astype(int) + rng.integers(-9, 10, smooth.shape), 0, 255).astype(np.uint8))


def save(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def rgb(image: Image.Image) -> Pixels:
    return np.asarray(image.convert("RGB"))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    return tags


def jpeg_with_thumbnail() -> bytes:
    """A JPEG whose header holds another, complete JPEG."""
    content = save(noisy(), "JPEG")
    inner = b"JFXX\x00\x10" + save(noisy(16, 16), "JPEG")
    return content[:2] + b"\xff\xe0" + struct.pack(">H", len(inner) + 2) + inner + content[2:]


SAMPLES: dict[str, bytes] = {
    "jpeg": save(noisy(), "JPEG"),
    "jpeg, grey": save(noisy().convert("L"), "JPEG"),
    "jpeg, progressive": save(noisy(), "JPEG", progressive=True),
    "jpeg, cmyk": save(noisy().convert("CMYK"), "JPEG"),
    "jpeg, rotated": save(noisy(), "JPEG", exif=exif(6)),
    "jpeg, thumbnail": jpeg_with_thumbnail(),
    "mpo": save(noisy(), "MPO", save_all=True, append_images=[noisy(32, 32)]),
    "png": save(noisy(), "PNG"),
    "png, grey": save(noisy().convert("L"), "PNG"),
    "png, palette": save(noisy().quantize(16), "PNG"),
    "png, animated": save(noisy(), "PNG", save_all=True, append_images=[scene(64, 48)]),
    "webp": save(noisy(), "WEBP"),
    "webp, lossless": save(noisy(), "WEBP", lossless=True),
    "webp, animated": save(noisy(), "WEBP", save_all=True, append_images=[scene(64, 48)]),
    "gif": save(noisy(), "GIF"),
    "gif, animated": save(noisy(), "GIF", save_all=True, append_images=[scene(64, 48)]),
    "bmp": save(noisy(), "BMP"),
    "tiff": save(noisy(), "TIFF"),
    "tiff, lzw": save(noisy(), "TIFF", compression="tiff_lzw"),
    "tiff, jpeg": save(noisy(), "TIFF", compression="jpeg"),
    "ppm": save(noisy(), "PPM"),
}


# --- ordinary images


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_lossless_files_are_decoded_exactly(kind: str, mode: str) -> None:
    image = noisy().convert(mode)
    data = save(image, kind, lossless=True) if kind == "WEBP" else save(image, kind)
    assert (decode(data, 3) == rgb(image)).all()
    assert np.abs(decode(data, 1)[..., 0].astype(int) - np.asarray(image.convert("L"))).max() <= 1
    header = read_header(data)
    assert (header.width, header.height, header.format, header.orientation) == (64, 48, kind, 1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("name", "tolerance"), [("jpeg", 4), ("jpeg, progressive", 4), ("jpeg, grey", 0), ("png", 1)])
def test_both_decoders_agree(name: str, tolerance: int, channels: int) -> None:
    # Pillow has the files that do not end as they should.
    by_opencv, by_pillow = decode(SAMPLES[name], channels), decode(SAMPLES[name] + b"more", channels)
    assert by_opencv.shape == by_pillow.shape == (48, 64, channels)
    assert np.abs(by_opencv.astype(int) - by_pillow).max() <= tolerance


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_kind_is_decoded_as_pillow_does(name: str, channels: int) -> None:
    with Image.open(io.BytesIO(SAMPLES[name])) as opened:
        upright = opened.transpose(Image.Transpose.ROTATE_270) if "rotated" in name else opened
        expected = np.asarray(upright.convert("RGB").convert("L" if channels == 1 else "RGB"))
    pixels = decode(SAMPLES[name], channels)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - expected.reshape(pixels.shape)).max() <= 4


def test_png_encoding_is_lossless() -> None:
    for pixels in (rgb(noisy()), np.asarray(noisy().convert("L"))[..., None]):
        assert (decode(encode_png(pixels), pixels.shape[2]) == pixels).all()


# --- odd images


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["JPEG", "MPO", "PNG", "PNG late", "WEBP", "TIFF"])
def test_exif_orientation(kind: str, orientation: int) -> None:
    options: dict[str, Any] = (
        {"lossless": True} if kind == "WEBP" else {"quality": 95, "subsampling": 0} if kind in ("JPEG", "MPO") else {}
    )
    if kind == "PNG late":  # the chunk may stand after the pixels
        plain, tags = save(scene(), "PNG"), exif(orientation).tobytes().removeprefix(b"Exif\0\0")
        data = plain[:-12] + chunk(b"eXIf", tags) + plain[-12:]
    else:
        data = save(scene(), kind, exif=exif(orientation), **options)
    pixels, expected = decode(data, 3), UPRIGHT[orientation](rgb(scene()))
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).mean() < 4
    header = read_header(data)
    assert (header.height, header.width) == expected.shape[:2]


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_that_does_not_exist_is_ignored(orientation: int) -> None:
    assert (decode(save(scene(), "PNG", exif=exif(orientation)), 3) == rgb(scene())).all()


def test_damaged_exif_is_ignored() -> None:
    data = save(scene(), "JPEG", exif=exif(6))
    start = data.index(b"Exif\0\0") + 6
    damaged = data[:start] + b"\xff" * 14 + data[start + 14 :]
    assert decode(damaged, 3).shape == (HEIGHT, WIDTH, 3)


def over_white(image: Image.Image) -> Pixels:
    pixels = np.asarray(image.convert("RGBA")).astype(float)
    alpha = pixels[..., 3:] / 255
    return np.round(pixels[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)


def with_alpha() -> Image.Image:
    image = scene()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def palette_with_transparency() -> Image.Image:
    image = scene().quantize(8)
    image.info["transparency"] = bytes([0, 128, 255, 60])
    return image


def colour_key() -> tuple[bytes, Pixels]:
    expected = rgb(scene()).copy()
    expected[(expected == (220, 60, 30)).all(axis=2)] = 255
    return save(scene(), "PNG", transparency=(220, 60, 30)), expected


def grey_key() -> tuple[bytes, Pixels]:
    grey = Image.fromarray(np.repeat(np.arange(0, 200, 5, dtype=np.uint8)[None], HEIGHT, axis=0))
    expected = rgb(grey).copy()
    expected[expected == 50] = 255
    return save(grey, "PNG", transparency=50), expected


def deep(kind: str) -> tuple[bytes, Pixels]:
    values = np.linspace(0, 65535, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH)
    image = Image.fromarray(values.astype(np.uint16))
    return save(image, kind), np.repeat((values // 257).astype(np.uint8)[..., None], 3, axis=2)


def deep_rgb() -> tuple[bytes, Pixels]:
    values = rgb(noisy()).astype(np.uint16) * 257
    return cv2.imencode(".png", values[..., ::-1])[1].tobytes(), rgb(noisy())


def first_of_three(kind: str, **options: Any) -> tuple[bytes, Pixels]:
    frames = [Image.new("RGB", (WIDTH, HEIGHT), colour) for colour in ("blue", "red")]
    return save(scene(), kind, save_all=True, append_images=frames, **options), rgb(scene())


ODD: dict[str, Callable[[], tuple[bytes, Pixels]]] = {
    "RGBA": lambda: (save(with_alpha(), "PNG"), over_white(with_alpha())),
    "RGBA, webp": lambda: (save(with_alpha(), "WEBP", lossless=True, exact=True), over_white(with_alpha())),
    "LA": lambda: (save(with_alpha().convert("LA"), "PNG"), over_white(with_alpha().convert("LA"))),
    "palette": lambda: (save(scene().quantize(8), "PNG"), rgb(scene().quantize(8))),
    "palette, bmp": lambda: (save(scene().quantize(8), "BMP"), rgb(scene().quantize(8))),
    "palette with transparency": lambda: (
        save(palette_with_transparency(), "PNG"),
        over_white(palette_with_transparency()),
    ),
    "RGB with a transparent colour": colour_key,
    "grey with a transparent value": grey_key,
    "gif with a transparent colour": lambda: (
        save(scene().quantize(8), "GIF", transparency=0),
        over_white(Image.open(io.BytesIO(save(scene().quantize(8), "GIF", transparency=0)))),
    ),
    "16-bit grey, png": lambda: deep("PNG"),
    "16-bit grey, tiff": lambda: deep("TIFF"),
    "16-bit RGB": deep_rgb,
    "16-bit pgm": lambda: deep("PPM"),
    "1-bit, png": lambda: (save(scene().convert("1"), "PNG"), rgb(scene().convert("1"))),
    "1-bit, tiff": lambda: (save(scene().convert("1"), "TIFF", compression="group4"), rgb(scene().convert("1"))),
    "1-bit, pbm": lambda: (save(scene().convert("1"), "PPM"), rgb(scene().convert("1"))),
    "2-bit grey": lambda: (
        save(scene().convert("L").quantize(4), "PNG", bits=2),
        rgb(scene().convert("L").quantize(4)),
    ),
    "tiff, cmyk": lambda: (save(scene().convert("CMYK"), "TIFF"), rgb(scene().convert("CMYK"))),
    "gif, animated": lambda: first_of_three("GIF"),
    "webp, animated": lambda: first_of_three("WEBP", lossless=True),
    "png, animated": lambda: first_of_three("PNG"),
    "png, animated, still shown first": lambda: first_of_three("PNG", default_image=True),
    "tiff, pages": lambda: first_of_three("TIFF"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_kinds(name: str) -> None:
    data, expected = ODD[name]()
    pixels = decode(data, 3)
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).max() <= 1
    grey = np.asarray(Image.fromarray(expected).convert("L"))[..., None]
    assert np.abs(decode(data, 1).astype(int) - grey).max() <= 2


def test_cmyk_jpeg() -> None:
    data = save(scene().convert("CMYK"), "JPEG", quality=100)
    assert read_header(data).mode == "CMYK"
    assert np.abs(decode(data, 3).astype(int) - rgb(scene())).mean() < 4


def test_progressive_and_baseline_jpeg_are_the_same() -> None:
    assert (decode(SAMPLES["jpeg, progressive"], 3) == decode(SAMPLES["jpeg"], 3)).all()


@pytest.mark.parametrize("name", ["jpeg", "jpeg, progressive", "png", "webp", "gif"])
@pytest.mark.parametrize("trailing", [b"\0" * 100, b"\n", b"trailing bytes " * 100, SAMPLES["png"]])
def test_bytes_after_the_image_are_ignored(name: str, trailing: bytes) -> None:
    expected = decode(SAMPLES[name], 3).astype(int)
    assert np.abs(decode(SAMPLES[name] + trailing, 3) - expected).max() <= 3


# --- damaged images


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("padding", [0, 10_000], ids=["cut", "cut, rest zeros"])
def test_a_truncated_file_is_refused_or_was_complete(name: str, padding: int) -> None:
    data = SAMPLES[name]
    expected, refused = decode(data, 3).astype(int), 0
    for cut in np.unique(np.linspace(16, len(data) - 1, 97, dtype=int)):
        if padding and not name.startswith("jpeg"):
            continue  # other formats say by their own means how much there should be, or zeros are pixels to them
        try:
            pixels = decode(data[:cut] + bytes(padding), 3)
        except BrokenImage:
            refused += 1
        else:
            assert pixels.shape == expected.shape, cut
            assert np.abs(pixels - expected).max() <= 3, cut
    assert padding or refused > (8 if name == "mpo" or "animated" in name else 80)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_file_cut_in_its_first_bytes_is_refused(name: str) -> None:
    for cut in range(64):
        with pytest.raises((NotAnImage, BrokenImage)):
            decode(SAMPLES[name][:cut], 1)


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 50, b"not an image at all, but a text named photo.jpg", b"<svg></svg>", b"%PDF-1.7"]
)
@pytest.mark.parametrize("read", [read_header, lambda data: decode(data, 3), lambda data: prepare(data, 48, 1)])
def test_what_is_no_image(data: bytes, read: Callable[[bytes], Any]) -> None:
    with pytest.raises(NotAnImage, match=f"the bytes are {'no image' if data else 'empty'}; expected one of JPEG, PNG"):
        read(data)


def test_formats_that_are_not_ours_are_refused() -> None:
    for kind in ("ICO", "TGA", "PCX", "EPS"):
        assert kind not in FORMATS
        with pytest.raises(NotAnImage):
            decode(save(noisy(), kind), 3)


def test_damage_after_the_first_frame_does_not_matter() -> None:
    data, expected = first_of_three("GIF")
    second = data.index(b"\x21\xf9")  # the first frame has no graphic control extension
    assert second > data.index(b"\x2c\0\0\0\0")
    damaged = data[: second + 2] + b"\x01\x00" + data[second + 4 :]
    assert np.abs(decode(damaged, 3).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("name", ["png", "png, grey", "png, palette"])
def test_a_png_with_a_damaged_chunk_is_refused(name: str) -> None:
    data = bytearray(SAMPLES[name])
    middle = len(data) // 2
    data[middle : middle + 20] = bytes(20)
    with pytest.raises(BrokenImage, match="PNG data cannot be decoded"):
        decode(bytes(data), 3)


# --- hostile images


def png_announcing(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(10_000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def gif_announcing(width: int, height: int) -> bytes:
    data = bytearray(SAMPLES["gif"])
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        png_announcing(100_000, 100_000),
        png_announcing(8_000, 8_000),
        png_announcing(11_000, 11_000),  # Pillow warns
        gif_announcing(65_535, 65_535),
        b"P6\n100000 100000\n255\n" + bytes(100),
    ],
    ids=["png", "png above our limit", "png above Pillow's", "gif", "ppm"],
)
@pytest.mark.parametrize("read", [read_header, lambda data: decode(data, 3)])
def test_decompression_bombs_are_refused_before_decoding(data: bytes, read: Callable[[bytes], Any]) -> None:
    tracemalloc.start()
    with pytest.raises(ImageTooLarge, match="pixels"):
        read(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


def test_a_chunk_that_announces_gigabytes_costs_no_memory() -> None:
    data = bytearray(SAMPLES["png"])
    data[data.index(b"IDAT") - 4] = 0xE7
    script = "import sys\nfrom emotion_detection.errors import BrokenImage\n"
    script += "from emotion_detection.preprocess import decode\ntry:\n    decode(sys.stdin.buffer.read(), 3)\n"
    # Not ru_maxrss: that counts what the parent held when it started the child.
    script += "except BrokenImage:\n    pass\n"
    script += "print(*(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(
        [sys.executable, "-c", script], input=data, env=environment, stdout=subprocess.PIPE, check=True
    )
    assert int(result.stdout) < 500_000  # kilobytes; importing takes a tenth of a gigabyte


def test_max_pixels_is_the_limit() -> None:
    assert read_header(SAMPLES["png"], max_pixels=64 * 48).width == 64
    assert decode(SAMPLES["png"], 1, max_pixels=64 * 48).shape == (48, 64, 1)
    for read in (
        read_header,
        lambda data, limit: decode(data, 1, limit),
        lambda data, limit: prepare(data, 8, 1, limit),
    ):
        with pytest.raises(ImageTooLarge, match="64 x 48 pixels; at most 3071 in all are allowed"):
            read(SAMPLES["png"], 64 * 48 - 1)


def only_image_errors(data: bytes) -> None:
    for channels in (1, 3):
        try:
            pixels = decode(data, channels, max_pixels=100_000)
        except ImageError:
            continue
        else:
            assert pixels.dtype == np.uint8
            assert pixels.ndim == 3
            assert pixels.shape[2] == channels


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_image_errors_alone(data: bytes) -> None:
    only_image_errors(data)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([data[:12] for data in SAMPLES.values()]), st.binary(max_size=300))
def test_arbitrary_bytes_after_a_known_beginning_raise_image_errors_alone(start: bytes, data: bytes) -> None:
    only_image_errors(start + data)


@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from(sorted(SAMPLES)),
    st.lists(st.tuples(st.floats(0, 0.999), st.binary(min_size=1, max_size=6)), min_size=1, max_size=8),
    st.booleans(),
)
def test_mutated_images_raise_image_errors_alone(name: str, changes: list[tuple[float, bytes]], near: bool) -> None:
    data = bytearray(SAMPLES[name])
    for where, content in changes:
        place = int(where * (200 if near else len(data)))  # headers are where most can go wrong
        data[place : place + len(content)] = content
    only_image_errors(bytes(data))


def test_pillow_warnings_do_not_leak_from_any_thread() -> None:
    outside = struct.pack("<2sHIHHHIII", b"II", 42, 8, 1, 0x010F, 2, 5_000, 100, 0)  # one tag, beyond the end
    corrupt = save(noisy(), "JPEG", exif=b"Exif\0\0" + outside)
    with pytest.warns(UserWarning, match="larger than file"), Image.open(io.BytesIO(corrupt)) as opened:
        opened.getexif()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        with ThreadPoolExecutor(8) as pool:
            shapes = set(pool.map(lambda _: decode(corrupt, 3).shape, range(200)))
        assert list(warnings.filters) == before
        warnings.warn("still seen", stacklevel=1)
    assert shapes == {(48, 64, 3)}
    assert [str(warning.message) for warning in caught] == ["still seen"]


# --- the crop


@pytest.mark.parametrize(("height", "width"), [(4, 9), (9, 4), (4, 4), (5, 8)])
def test_fit_takes_the_centred_square(height: int, width: int) -> None:
    image = np.arange(height * width, dtype=np.uint8).reshape(height, width, 1)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = fit(image, side)
    assert (square == image[top : top + side, left : left + side]).all()
    assert square.flags["C_CONTIGUOUS"]


def test_fit_averages_areas_when_shrinking() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    means = image.reshape(2, 4, 2, 4, 3).mean(axis=(1, 3))
    assert np.abs(fit(image, 2) - means).max() <= 0.5


def test_fit_interpolates_linearly_when_enlarging() -> None:
    image = np.array([[0, 100], [0, 100]], np.uint8)[..., None]
    assert fit(image, 4)[..., 0].tolist() == [[0, 25, 75, 100]] * 4


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]), st.integers(1, 64), st.integers(0, 2**32 - 1))
def test_fit_gives_the_size_and_no_new_extremes(height: int, width: int, channels: int, size: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(50, 200, (height, width, channels), dtype=np.uint8)
    fitted = fit(image, size)
    assert (fitted.shape, fitted.dtype) == ((size, size, channels), np.uint8)
    assert image.min() <= fitted.min()
    assert fitted.max() <= image.max()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", SAMPLES)
def test_prepare_is_decode_then_fit(name: str, channels: int) -> None:
    pixels = prepare(SAMPLES[name], 32, channels)
    assert (pixels.shape, pixels.dtype) == ((32, 32, channels), np.uint8)
    assert (pixels == fit(decode(SAMPLES[name], channels), 32)).all()


def test_real_data_photographs_are_decoded_as_pillow_does() -> None:
    directory = os.environ.get("REAL_DATA_DIR")
    if directory is None or not (Path(directory) / "photos.zip").exists():
        pytest.skip("REAL_DATA_DIR has no photos.zip")
    with zipfile.ZipFile(Path(directory) / "photos.zip") as archive:
        photos = [archive.read(name) for name in archive.namelist() if not name.endswith((".csv", "/"))]
    assert photos
    for data in photos:
        with Image.open(io.BytesIO(data)) as opened:
            if opened.has_transparency_data or opened.getexif().get(ORIENTATION, 1) != 1:
                continue
            expected = rgb(opened).astype(int)
        assert np.abs(decode(data, 3) - expected).mean() < 2


def test_the_short_way_to_the_size_of_a_jpeg_agrees_with_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {name: preprocess._plain_jpeg_size(data) for name, data in SAMPLES.items()}
    plain = {name: size for name, size in sizes.items() if size is not None}
    assert set(plain) == {"jpeg", "jpeg, grey", "jpeg, progressive", "jpeg, thumbnail"}
    short = {name: decode(SAMPLES[name], 1) for name in plain}
    monkeypatch.setattr(preprocess, "_plain_jpeg_size", lambda _: None)
    for name, size in plain.items():
        header = read_header(SAMPLES[name])
        assert size == (header.width, header.height)
        np.testing.assert_array_equal(short[name], decode(SAMPLES[name], 1))
