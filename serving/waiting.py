"""Requests that wait for their answer, and what ends the waiting: the answer, a client that leaves, a deadline.

    outcomes = await room.wait(jobs, receive)

One timer looks after all of them. Most answers are there before it comes by for the first time, and cost nothing;
whoever waits longer gets a task that notices when the client leaves. Its jobs are done then, and are not computed.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from starlette.types import Receive

from serving.batching import Job, Outcome
from serving.errors import ClientGone, TimedOut

TICK = 0.025
"""Seconds between two rounds of the timer."""


@dataclass(eq=False, slots=True)
class _Waiter:
    jobs: list[Job]
    receive: Receive
    since: float = field(default_factory=time.monotonic)
    listener: asyncio.Task[None] | None = None

    def settle(self, error: Exception) -> None:
        for job in self.jobs:
            job.settle(error)

    async def listen(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self.settle(ClientGone("the client left"))


class WaitingRoom:
    """Everybody who waits on one event loop."""

    def __init__(self, seconds: float) -> None:
        """Args:
        seconds: longest that a request may wait.
        """
        self._seconds = seconds
        self._waiters: dict[_Waiter, None] = {}  # oldest first
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, jobs: list[Job], receive: Receive) -> list[Outcome]:
        """Until all jobs are done.

        Returns:
            One outcome for each job; `ClientGone` or `TimedOut` where the waiting ended before the work.
        """
        waiter = _Waiter(jobs, receive)
        self._waiters[waiter] = None
        if self._timer is None:
            self._look_again()
        try:
            return [await job.future for job in jobs]
        finally:
            del self._waiters[waiter]
            for job in jobs:
                job.future.cancel()  # nothing where all went well
            if waiter.listener is not None:
                waiter.listener.cancel()
                waiter.listener = None  # it refers to the waiter: together they would be garbage for a while

    def _look_again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(TICK, self._look) if self._waiters else None

    def _look(self) -> None:
        now = time.monotonic()
        for waiter in self._waiters:
            if now - waiter.since < TICK:
                break
            if now - waiter.since > self._seconds:
                waiter.settle(TimedOut(f"no answer within {self._seconds:g} s"))
            elif waiter.listener is None:
                waiter.listener = asyncio.create_task(waiter.listen())
        self._look_again()
