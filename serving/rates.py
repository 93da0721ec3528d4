"""How often somebody may ask: a token bucket for each caller.

    verdict = rates.take("phone", time.monotonic())
    verdict.allowed, verdict.headers

A bucket holds `burst` tokens and gains `rate` per second; a request takes one. It is kept as one number, the time at
which it would be full again (the "theoretical arrival time" of ITU-T I.371, GCRA).
Callers are told where they stand as draft-ietf-httpapi-ratelimit-headers says: `RateLimit-Policy` and `RateLimit`.
"""

from __future__ import annotations

import ipaddress
import math
from typing import NamedTuple

from serving.headers import Header

CALLERS = 10_000
"""Buckets that are kept; with more, the one that has not been used for longest is forgotten."""


class Verdict(NamedTuple):
    """Whether a request may go on."""

    allowed: bool
    wait: int
    """Seconds after which it would; 0 where it does."""
    headers: list[Header]


class Rates:
    """The buckets of all callers. Belongs to one event loop."""

    def __init__(self, rate: float, burst: int, callers: int = CALLERS) -> None:
        """Args:
        rate: requests per second.
        burst: requests at once after a pause.
        callers: buckets that are kept.
        """
        self._pause, self._burst, self._callers = 1 / rate, burst, callers
        self._full_at: dict[str, float] = {}  # the one used last is at the end
        window = math.ceil(burst * self._pause)
        self._policy = (b"ratelimit-policy", b'"requests";q=%d;w=%d' % (burst, window))

    def take(self, caller: str, now: float) -> Verdict:
        """Take a token, if there is one.

        Args:
            now: `time.monotonic()`
        """
        full_at = max(self._full_at.pop(caller, now), now) + self._pause
        excess = full_at - now - self._burst * self._pause
        allowed = excess <= 1e-9  # differences of seconds since the start of the machine
        if not allowed:
            full_at -= self._pause
        self._full_at[caller] = full_at
        if len(self._full_at) > self._callers:
            del self._full_at[next(iter(self._full_at))]
        left = max(0, int(self._burst - (full_at - now) / self._pause + 1e-6))
        state = (b"ratelimit", b'"requests";r=%d;t=%d' % (left, math.ceil(full_at - now)))
        return Verdict(allowed, 0 if allowed else math.ceil(excess), [self._policy, state])


def network_of(address: str) -> str:
    """What counts as one caller: an IPv4 address, or the /64 that one IPv6 subscriber has."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address
