"""Requests that wait for their answer, and what ends the waiting: the answer, a client that leaves, a deadline.

    client = Client(receive)                       # as soon as the body of its request is there
    outcomes = await room.wait(jobs, client)

One timer looks after all of them. Most answers are there before it comes by for the first time, and cost nothing;
whoever waits longer gets a task that notices when the client leaves. Its jobs are done then, and are neither computed
nor kept.
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
class Client:
    """Who waits, once or several times for one request: there is one deadline for all of it."""

    receive: Receive
    """Tells when it leaves."""
    since: float = field(default_factory=time.monotonic)
    """When the request was there to its end."""


@dataclass(eq=False, slots=True)
class _Waiter:
    jobs: list[Job]
    client: Client
    listener: asyncio.Task[None] | None = None

    def settle(self, error: Exception) -> None:
        for job in self.jobs:
            job.settle(error)

    async def listen(self) -> None:
        while (await self.client.receive())["type"] != "http.disconnect":
            pass
        self.settle(ClientGone("the client left"))


class WaitingRoom:
    """Everybody who waits on one event loop."""

    def __init__(self, seconds: float) -> None:
        """Args:
        seconds: longest that a client may wait.
        """
        self._seconds = seconds
        self._waiters: dict[_Waiter, None] = {}  # oldest first, but for those that wait once more
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, jobs: list[Job], client: Client) -> list[Outcome]:
        """Until all jobs are done.

        Returns:
            One outcome for each job; `ClientGone` or `TimedOut` where the waiting ended before the work.
        """
        waiter = _Waiter(jobs, client)
        self._waiters[waiter] = None
        if self._timer is None:
            self._look_again()
        try:
            return [await job.future for job in jobs]
        finally:
            del self._waiters[waiter]
            for job in jobs:
                job.forget()
            if waiter.listener is not None:
                waiter.listener.cancel()
                waiter.listener = None  # it refers to the waiter: together they would be garbage for a while

    def _look_again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(TICK, self._look) if self._waiters else None

    def _look(self) -> None:
        now = time.monotonic()
        for waiter in self._waiters:
            if now - waiter.client.since < TICK:
                break
            if now - waiter.client.since > self._seconds:
                waiter.settle(TimedOut(f"no answer within {self._seconds:g} s"))
            elif waiter.listener is None:
                waiter.listener = asyncio.create_task(waiter.listen())
        self._look_again()
