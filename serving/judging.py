"""From an image file to the faces in it and the model's probabilities for them.

looks = [Looking(context, model, options, image) for image in images]
jobs = context.queue.submit(model, looks)                     # each keeps what it found, for the answer

cut, rows = await judge(context, model, options, image, receive)        # one image, from submitting to the end
"""

from __future__ import annotations

from starlette.types import Receive

from emotion_detection.crops import Cut
from emotion_detection.preprocess import Pixels
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


async def judge(
    context: Context, model: ServedModel, options: FaceOptions, image: bytes, receive: Receive
) -> tuple[Cut, Probabilities]:
    """Find the n faces of one image and judge them.

    Args:
        receive: tells when the client leaves.

    Returns:
        The faces, and float32 (n, K) in the same order.

    Raises:
        Overloaded, ClientGone, TimedOut: there is no room, or the waiting ended before the work.
        ImageError: the image cannot be used.
    """
    look = Looking(context, model, options, image)
    [outcome] = await context.room.wait(context.queue.submit(model, [look]), receive)
    if isinstance(outcome, Exception):
        raise outcome
    assert look.cut is not None  # noqa: S101  (without it there would be no rows)
    return look.cut, outcome
