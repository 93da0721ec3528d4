"""`emotion webcam`: the emotions before a camera, live in the terminal. Nothing is stored.

emotion webcam                             # the first camera, the champion of the registry
emotion webcam --camera film.avi --json    # a video file; one line of JSON for each frame
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emotion_detection.cli.detect import Bundle, Computed, FaceModel, Faces, Precision, Server, Which, open_detector
from emotion_detection.cli.output import console
from emotion_detection.errors import DetectionError

if TYPE_CHECKING:
    from rich.table import Table

    from emotion_detection.detection import Record
    from emotion_detection.preprocess import Pixels

WIDTH = 40
"""Of the longest bar, characters."""
_MEMORY = 0.9
"""Share of the former value in the frames per second that are shown."""


def webcam(  # noqa: PLR0913, PLR0917  one for each option
    camera: Annotated[str, typer.Option(help="Number of a camera, or a video file.", metavar="N|FILE")] = "0",
    server: Server = None,
    bundle: Bundle = None,
    faces: Which = Faces.all,
    face_model: FaceModel = None,
    precision: Computed = Precision.auto,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each frame.")] = False,
) -> None:
    """Show the emotions before a camera until Ctrl-C, or those in a video to its end."""
    detector = open_detector(server, bundle, face_model, precision)
    frames, rate, last = 0, 0.0, time.perf_counter()
    with _video(camera) as video, _display(as_json) as show:
        for frame in video:
            record = detector.frame(frame, faces.value)
            now = time.perf_counter()
            rate = _MEMORY * rate + (1 - _MEMORY) / (now - last) if frames else 1 / (now - last)
            frames, last = frames + 1, now
            show({"frame": frames, "frames_per_second": round(rate, 1), **record})
    if not as_json:
        print(f"{frames} frames")


def panel(record: Record) -> Table:
    """One bar for each emotion of the largest face."""
    from rich.table import Table

    count, rate = len(record["faces"]), record["frames_per_second"]
    table = Table(title=f"{count} face{'' if count == 1 else 's'}, {rate:.1f} frames/s", show_header=False, box=None)
    for emotion, probability in (record["probabilities"] or {}).items():
        style = "bold green" if emotion == record["label"] else ""
        bar = "█" * round(WIDTH * probability)
        table.add_row(emotion, f"{bar:<{WIDTH}}", f"{probability:.0%}", style=style)
    return table


@contextmanager
def _video(camera: str) -> Iterator[Iterator[Pixels]]:
    """The frames, uint8 (height, width, 3), RGB; Ctrl-C ends them."""
    import cv2

    capture = cv2.VideoCapture(int(camera) if camera.isdecimal() else camera)
    try:
        if not capture.isOpened():
            kind = f"camera {camera}" if camera.isdecimal() else camera
            raise DetectionError(f"--camera: {kind} cannot be opened; give the number of a camera or a video file")
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # of a camera that is faster than the model, the newest frame
        yield _frames(capture)
    except KeyboardInterrupt:
        pass
    finally:
        capture.release()


def _frames(capture: Any) -> Iterator[Pixels]:
    import cv2
    import numpy as np

    while True:
        there, frame = capture.read()
        if not there:
            return
        yield np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)


@contextmanager
def _display(as_json: bool) -> Iterator[Any]:
    from rich.live import Live

    if as_json:
        yield lambda record: print(json.dumps(record), flush=True)
        return
    with Live(console=console(), auto_refresh=False) as live:
        yield lambda record: live.update(panel(record), refresh=live.console.is_terminal)
