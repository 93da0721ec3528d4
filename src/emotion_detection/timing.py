"""What things cost beside each other, on a machine that does other things as well.

fast, slow = medians_in_turns([lambda: first(image), lambda: second(image)])
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

FEWEST_ROUNDS, ROUNDS, ROUNDS_SECONDS = 5, 50, 3.0


def medians_in_turns(
    works: Sequence[Callable[[], object]], rounds: int = ROUNDS, seconds: float = ROUNDS_SECONDS
) -> list[float]:
    """Median seconds of each work; they take turns, so that whatever else the machine does meets all of them.

    Args:
        rounds: most that are made; the first of them warms up and does not count.
        seconds: after which no more than `FEWEST_ROUNDS` are made.
    """
    taken: list[list[float]] = [[] for _ in works]
    start = time.perf_counter()
    while len(taken[0]) < FEWEST_ROUNDS or (len(taken[0]) < rounds and time.perf_counter() - start < seconds):
        for work, times in zip(works, taken, strict=True):
            began = time.perf_counter()
            work()
            times.append(time.perf_counter() - began)
    return [statistics.median(times[1:]) for times in taken]
