"""From an image file to the faces in it and the model's probabilities for them.

looks, outcomes = await look(context, model, options, images, client)       # each look keeps what it found
model, cut, rows = await judge(context, options, [image], client, model)    # one image
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import NamedTuple

from emotion_detection.crops import Cut, Cutter
from emotion_detection.errors import ImageError
from emotion_detection.preprocess import Pixels
from serving.batching import Outcome
from serving.canary import check
from serving.context import Context
from serving.engine import Probabilities
from serving.histograms import Histogram
from serving.model import ServedModel
from serving.schemas import FaceOptions
from serving.waiting import Client

SMALL_FILE, SMALL_IMAGE = 8_192, 96 * 96
"""Bytes of a file, and pixels in it, up to which it is decoded on the event loop: for a face that has been cut out
already, handing it to another thread takes longer, and makes both threads wait for Python's lock."""


class Looking:
    """What is done with one image before the model sees it; keeps what was found."""

    __slots__ = ("_context", "_image", "_info", "_options", "cut")

    def __init__(self, context: Context, model: ServedModel, options: FaceOptions, image: bytes) -> None:
        self._context, self._options, self._image = context, options, image
        self._info = model.bundle.info
        self.cut: Cut | None = None
        """Once it has been called, its faces."""

    def look_at_once(self) -> None:
        """Do it now, on the event loop, if it is small work; all else, whatever is wrong included, is for a worker."""
        settings = self._context.settings
        if len(self._image) <= min(SMALL_FILE, settings.max_bytes) and self._options.faces in {"auto", "none"}:
            with suppress(ImageError):
                limit, cutter = min(SMALL_IMAGE, settings.max_pixels), self._context.cutter_on_the_loop
                self._cut(self._image, cutter, limit, self._context.metrics.at_once_seconds)

    def __call__(self) -> Pixels:
        image, self._image = self._image, b""  # it is not held while the answer is waited for
        if self.cut is None:
            self._context.uploads.check_image(image)
            limit, seconds = self._context.settings.max_pixels, self._context.metrics.decode_seconds
            return self._cut(image, self._context.cutter, limit, seconds)
        return self.cut.images

    def _cut(self, image: bytes, cutter: Cutter, limit: int, seconds: Histogram) -> Pixels:
        info, start = self._info, time.perf_counter()
        self.cut = cutter.cut_file(image, info.image_size, info.channels, self._options.faces, limit)
        seconds.observe(time.perf_counter() - start)
        self._context.metrics.faces.observe(self.cut)
        return self.cut.images


class Judged(NamedTuple):
    """One image."""

    model: ServedModel
    cut: Cut
    """Its n faces."""
    rows: Probabilities
    """float32 (n, K), in the same order."""


async def look(
    context: Context, model: ServedModel, options: FaceOptions, images: list[bytes], client: Client
) -> tuple[list[Looking], list[Outcome]]:
    """Find the faces of images and judge them.

    Args:
        images: emptied, so that each goes as soon as it is decoded, unless the champion may need them.
        client: who waits for it.

    Raises:
        Overloaded: there is no room for them.
        Exception: a challenger failed.
    """
    looks = [Looking(context, model, options, image) for image in images]
    if len(looks) == 1:
        looks[0].look_at_once()
    if not model.on_trial:
        images.clear()
    outcomes = await context.room.wait(context.queue.submit(model, looks), client)
    if model.on_trial:
        check(outcomes)
    return looks, outcomes


async def judge(
    context: Context, options: FaceOptions, images: list[bytes], client: Client, model: ServedModel
) -> Judged:
    """As `look`, for one image.

    Raises:
        Overloaded, ClientGone, TimedOut: there is no room, or the waiting ended before the work.
        ImageError: the image cannot be used.
    """
    [found], [outcome] = await look(context, model, options, images, client)
    if isinstance(outcome, Exception):
        raise outcome
    assert found.cut is not None  # noqa: S101  (without it there would be no rows)
    return Judged(model, found.cut, outcome)
