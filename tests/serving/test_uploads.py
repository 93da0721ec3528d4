"""Bodies as they arrive: their limits, and what they cost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from emotion_detection.errors import ImageTooLarge
from serving.errors import IncompleteBody, Overloaded
from serving.settings import Settings
from serving.uploads import Uploads


class Chunk(bytes):
    """Counts how often somebody asks for the length of a chunk."""

    asked = 0

    def __len__(self) -> int:
        Chunk.asked += 1
        return super().__len__()


def receive(uploads: Uploads, chunks: Iterable[bytes], limit: int = 1000, *, leaves: bool = False) -> bytes:
    """Receive a body in these chunks, from a client that may leave before the last one."""
    parts: list[dict[str, Any]] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    if leaves:
        parts.append({"type": "http.disconnect"})
    else:
        parts[-1]["more_body"] = False
    messages = iter(parts)

    async def next_message() -> dict[str, Any]:
        return next(messages)

    return asyncio.run(uploads.receive_bytes(next_message, b"", limit))


@pytest.fixture
def uploads() -> Uploads:
    return Uploads(Settings(face_model=None, max_buffer_bytes=1500))


def test_a_body_is_its_chunks(uploads: Uploads) -> None:
    assert receive(uploads, [b"one"]) == b"one"
    assert receive(uploads, [b"one", b"", b"two", b""]) == b"onetwo"


def test_what_a_chunk_costs_does_not_depend_on_those_before_it(uploads: Uploads) -> None:
    Chunk.asked = 0
    receive(uploads, [Chunk(b"x")] * 1000)
    assert Chunk.asked <= 2000


@pytest.mark.parametrize("chunks", [[b"x" * 1001], [b"x" * 600, b"x" * 401], [b"x" * 1001, b""]])
def test_no_chunk_may_go_beyond_the_limit_not_even_the_last(uploads: Uploads, chunks: list[bytes]) -> None:
    with pytest.raises(ImageTooLarge):
        receive(uploads, chunks)


def test_what_is_not_received_to_its_end_is_not_held(uploads: Uploads) -> None:
    for _ in range(5):
        with pytest.raises(ImageTooLarge):
            receive(uploads, [b"x" * 1001])
        with pytest.raises(IncompleteBody):
            receive(uploads, [b"x" * 999], leaves=True)
        with pytest.raises(Overloaded):
            receive(uploads, [b"x" * 1000, b"x" * 501], limit=2000)
    uploads.release(len(receive(uploads, [b"x" * 1000])))
    assert receive(uploads, [b"x" * 1000]) == b"x" * 1000
