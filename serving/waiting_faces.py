"""The faces of the last answers, in memory and nowhere else, until somebody judges them or their time is over.

    faces = WaitingFaces(seconds=3600, max_bytes=32_000_000)
    faces.add(prediction_id, images)
    await faces.find(prediction_id, 0)         -> uint8 (S, S, C), or none

Several processes ask each other, through sockets in the directory that they share for their metrics.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

from emotion_detection.preprocess import Pixels, encode_png
from serving.process_metrics import DIRECTORY, several_processes

ASKING = 2.0
"""Seconds that another process may take to answer."""
_SOCKET, _SOCKETS = "faces-{}.sock", "faces-*.sock"
_MAX_QUESTION = 512


class WaitingFaces:
    """What the model saw of each face. Belongs to one event loop."""

    def __init__(self, seconds: float, max_bytes: int) -> None:
        """Args:
        seconds: after which a face is dropped.
        max_bytes: of all pixels; where it would be exceeded, the oldest go.
        """
        self._seconds, self._max_bytes, self._bytes = seconds, max_bytes, 0
        self._faces: OrderedDict[str, tuple[float, Pixels]] = OrderedDict()  # whose first one is found at once
        self._server: asyncio.Server | None = None
        self._socket = Path(os.environ[DIRECTORY]) / _SOCKET.format(os.getpid()) if several_processes() else None

    def add(self, prediction_id: str, images: Pixels) -> None:
        """Hold the faces of an answer, uint8 (n, S, S, C)."""
        if not len(images):
            return
        self._faces[prediction_id] = time.monotonic(), images
        self._bytes += images.nbytes
        while self._bytes > self._max_bytes:
            self._drop_first()

    def drop_old(self) -> None:
        """Drop those whose time is over."""
        end = time.monotonic() - self._seconds
        while self._faces and next(iter(self._faces.values()))[0] <= end:
            self._drop_first()

    async def find(self, prediction_id: str, face: int) -> bytes | None:
        """PNG of a face, from whichever process has it; none where it is gone."""
        found = self._own(prediction_id, face)
        if found is not None or self._socket is None:
            return found
        others = [path for path in self._socket.parent.glob(_SOCKETS) if path != self._socket]
        answers = await asyncio.gather(*(_ask(path, f"{prediction_id} {face}\n") for path in others))
        return next(filter(None, answers), None)

    async def start(self) -> None:
        """Answer the other processes."""
        if self._socket is not None:
            self._server = await asyncio.start_unix_server(self._answer, str(self._socket), limit=_MAX_QUESTION)

    def stop(self) -> None:
        """Forget everything."""
        self._faces.clear()
        self._bytes = 0
        if self._server is not None and self._socket is not None:
            self._server.close()
            self._socket.unlink(missing_ok=True)

    def _own(self, prediction_id: str, face: int) -> bytes | None:
        self.drop_old()
        _, images = self._faces.get(prediction_id, (0.0, None))
        return encode_png(images[face]) if images is not None and face < len(images) else None

    def _drop_first(self) -> None:
        self._bytes -= self._faces.popitem(last=False)[1][1].nbytes

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, ValueError):  # whoever asks so is none of us
            prediction_id, _, face = (await reader.readline()).decode().partition(" ")
            writer.write(self._own(prediction_id, int(face)) or b"")
            await writer.drain()
        writer.close()


async def _ask(path: Path, question: str) -> bytes | None:
    try:
        async with asyncio.timeout(ASKING):
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(question.encode())
            answer = await reader.read()  # to its end
            writer.close()
            return answer
    except (OSError, TimeoutError):  # a process that has ended leaves its socket
        return None
