"""The time that more than the fewest rounds may take: an even share of what is left, for every timing of every case."""

from __future__ import annotations

import time
from collections.abc import Callable

# Of what is left until a case's deadline. The rest is for checks and captures: slow must not be taken for stuck.
_SHARE_OF_DEADLINE = 0.5


class Budget:
    """What is left of ``max_seconds`` since ``started``, a time of ``clock``.

    A timing that leaves some of its share leaves it to all that follow.
    """

    def __init__(self, max_seconds: float, started: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = started + max_seconds
        self._deadline = self._until = started
        self._of_case = self._of_run = 0

    def begin_case(self, limit_s: float, timings: int, left: int) -> None:
        """A case of so many ``timings``, the first of ``left`` in the run, begins and has to end in ``limit_s``."""
        self._deadline = self._clock() + limit_s
        self._of_case, self._of_run = timings, left

    def begin_timing(self) -> None:
        """The next timing of the case begins."""
        now = self._clock()
        share = (self._end - now) / self._of_run
        share_of_case = _SHARE_OF_DEADLINE * (self._deadline - now) / self._of_case
        self._until = now + min(share, share_of_case)
        self._of_case -= 1
        self._of_run -= 1

    def used_up(self) -> bool:
        """Whether the timing has taken its share."""
        return self._clock() >= self._until
