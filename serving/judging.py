"""From an image file to the faces in it and the model's probabilities for them.

looks, outcomes = await look(context, model, options, images, receive)      # each look keeps what it found
model, cut, rows = await judge(context, options, [image], receive, model)   # one image
"""

from __future__ import annotations

from typing import NamedTuple

from starlette.types import Receive

from emotion_detection.crops import Cut
from emotion_detection.preprocess import Pixels
from serving.batching import Outcome
from serving.canary import check
from serving.context import Context
from serving.engine import Probabilities
from serving.model import ServedModel
from serving.schemas import FaceOptions


class Looking:
    """What a worker does with one image before the model sees it; keeps what was found."""

    __slots__ = ("_context", "_image", "_info", "_options", "cut")

    def __init__(self, context: Context, model: ServedModel, options: FaceOptions, image: bytes) -> None:
        self._context, self._options, self._image = context, options, image
        self._info = model.bundle.info
        self.cut: Cut | None = None
        """Once it has been called, its faces."""

    def __call__(self) -> Pixels:
        image, self._image = self._image, b""  # it is not held while the answer is waited for
        self._context.uploads.check_image(image)
        info, limit = self._info, self._context.settings.max_pixels
        cut = self._context.cutter.cut_file(image, info.image_size, info.channels, self._options.faces, limit)
        self._context.metrics.faces.observe(cut)
        self.cut = cut
        return cut.images


class Judged(NamedTuple):
    """One image."""

    model: ServedModel
    cut: Cut
    """Its n faces."""
    rows: Probabilities
    """float32 (n, K), in the same order."""


async def look(
    context: Context, model: ServedModel, options: FaceOptions, images: list[bytes], receive: Receive
) -> tuple[list[Looking], list[Outcome]]:
    """Find the faces of images and judge them.

    Args:
        images: emptied, so that each goes as soon as it is decoded, unless the champion may need them.
        receive: tells when the client leaves.

    Raises:
        Overloaded: there is no room for them.
        Exception: a challenger failed.
    """
    looks = [Looking(context, model, options, image) for image in images]
    if not model.on_trial:
        images.clear()
    outcomes = await context.room.wait(context.queue.submit(model, looks), receive)
    if model.on_trial:
        check(outcomes)
    return looks, outcomes


async def judge(
    context: Context, options: FaceOptions, images: list[bytes], receive: Receive, model: ServedModel
) -> Judged:
    """As `look`, for one image.

    Raises:
        Overloaded, ClientGone, TimedOut: there is no room, or the waiting ended before the work.
        ImageError: the image cannot be used.
    """
    [found], [outcome] = await look(context, model, options, images, receive)
    if isinstance(outcome, Exception):
        raise outcome
    assert found.cut is not None  # noqa: S101  (without it there would be no rows)
    return Judged(model, found.cut, outcome)
