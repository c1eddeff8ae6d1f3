"""The time budget of a run. Each timing of each case gets an equal share of the time that is left."""

import time
from collections.abc import Callable

# Timings can use this share of the time until the deadline of their case. Checks and captures need the rest.
_SHARE_OF_DEADLINE = 0.5


class Budget:
    """The time budget of a run: ``max_seconds`` seconds from ``started``, which is a reading of ``clock``.

    A timing that uses less than its share leaves the rest of this share to later timings.
    """

    def __init__(self, max_seconds: float, started: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = started + max_seconds
        self._deadline = self._until = started
        # The numbers of timings that come after the current timing: in its case, and in the run.
        self._timings_of_case = self._timings_of_run = 0

    def begin_case(self, limit_s: float, timings: int, timings_left: int) -> None:
        """Begin a case with ``timings`` timings and a deadline in ``limit_s`` seconds.

        ``timings_left`` is the number of timings in this case and in all later cases.
        """
        self._deadline = self._clock() + limit_s
        self._timings_of_case, self._timings_of_run = timings, timings_left

    def begin_timing(self) -> None:
        """Begin the next timing of the case. Its time is counted from ``begin_rounds``."""
        self._timings_of_case -= 1
        self._timings_of_run -= 1

    def begin_rounds(self) -> None:
        """Begin the rounds of the timing. Call this after the captures of graphs, which are no part of the rounds."""
        now = self._clock()
        share = (self._end - now) / (self._timings_of_run + 1)
        share_of_case = _SHARE_OF_DEADLINE * (self._deadline - now) / (self._timings_of_case + 1)
        self._until = now + min(share, share_of_case)

    def used_up(self) -> bool:
        """Return whether the current timing has used its share of the time."""
        return self._clock() >= self._until
