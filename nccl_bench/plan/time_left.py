"""The time that is left of a command's work: from estimates at first, then from what was measured."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step of the work, with estimates of its duration."""

    least_s: float  # the duration that the step needs, in seconds
    most_s: float  # the duration that the step takes if it is not short of time, in seconds
    is_setup: bool = False  # True if new ranks start; False if a case is measured or a probe runs


@dataclass(slots=True)
class TimeLeft:
    """The time that is left after some of ``steps``.

    With ``max_seconds``, the steps share that time, which begins at the start. A step gets at least the time that it
    needs.
    """

    steps: Sequence[Step]  # the steps of the work, in their order
    max_seconds: float | None = None  # the time that the steps share; None if each step takes the time that it needs
    _expected_s: list[float] = field(init=False)  # the expected duration of each step
    _mean_case_s: float = field(init=False)  # the mean expected duration of the steps that are not a set-up
    _done: int = 0  # the number of steps that are done
    _done_at_s: float = 0.0  # the time at which the last of these steps ended, in seconds from the start
    # The expected and the measured duration of all steps that are done and that are not a set-up.
    _expected_so_far_s: float = 0.0
    _measured_so_far_s: float = 0.0

    def __post_init__(self) -> None:
        """Share the time among the steps. Longer steps get the time that a short step does not need."""
        self._expected_s = [step.most_s for step in self.steps]
        cases = sorted((step.most_s, index) for index, step in enumerate(self.steps) if not step.is_setup)
        if self.max_seconds is not None:
            shared_s = self.max_seconds - sum(step.most_s for step in self.steps if step.is_setup)
            for position, (most_s, index) in enumerate(cases):
                share_s = shared_s / (len(cases) - position)
                self._expected_s[index] = min(most_s, max(self.steps[index].least_s, share_s))
                shared_s -= self._expected_s[index]
        self._mean_case_s = sum(self._expected_s[index] for _, index in cases) / max(1, len(cases))

    def update(self, done: int, elapsed_s: float) -> None:
        """Note that ``done`` steps are done ``elapsed_s`` seconds after the start. A smaller number changes nothing."""
        passed = range(self._done, min(done, len(self.steps)))
        if not passed:
            return
        expected_s = sum(self._expected_s[index] for index in passed) or 1.0
        measured_s = elapsed_s - self._done_at_s
        for index in passed:
            if not self.steps[index].is_setup:
                self._expected_so_far_s += self._expected_s[index]
                self._measured_so_far_s += measured_s * self._expected_s[index] / expected_s
        self._done, self._done_at_s = passed.stop, elapsed_s

    def left_s(self, elapsed_s: float) -> float:
        """Return the seconds that are left at ``elapsed_s`` seconds after the start."""
        expected_s = self._sum_left_s(self._expected_s, elapsed_s)
        if self.max_seconds is None:
            return expected_s
        needed_s = self._sum_left_s([step.least_s for step in self.steps], elapsed_s)
        return min(expected_s, max(self.max_seconds - elapsed_s, needed_s))

    def _sum_left_s(self, durations_s: Sequence[float], elapsed_s: float) -> float:
        """Return the seconds that are left. ``durations_s`` are estimates for all steps, in their order.

        The measured pace corrects these estimates, except the estimates of set-ups.
        """
        pace = self._pace()
        left_s = [
            duration_s * (1.0 if step.is_setup else pace)
            for duration_s, step in zip(durations_s[self._done :], self.steps[self._done :], strict=True)
        ]
        at_work_s = elapsed_s - self._done_at_s
        return max(0.0, left_s[0] - at_work_s) + sum(left_s[1:]) if left_s else 0.0

    def share_done(self, elapsed_s: float) -> float:
        """Return the share of the work that is done, from 0 to 1. A part of the current step counts."""
        total_s = sum(self._expected_s)
        done_s = sum(self._expected_s[: self._done])
        if self._done < len(self.steps):
            done_s += min(elapsed_s - self._done_at_s, self._expected_s[self._done])
        return min(1.0, done_s / total_s) if total_s else 1.0

    def _pace(self) -> float:
        """Return the factor by which cases take longer than expected, from the cases that are done."""
        # The estimate counts as much as one case, because a single case says little about the others.
        expected_s = self._mean_case_s + self._expected_so_far_s
        return (self._mean_case_s + self._measured_so_far_s) / expected_s if expected_s else 1.0
