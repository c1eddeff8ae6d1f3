"""Find out if the machine was steady: how much the rounds differ, lowered clocks, and other processes on a GPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np

from nccl_bench.analysis.rows import Rows
from nccl_bench.analysis.summary import Row
from nccl_bench.analysis.two_speeds import TwoSpeeds, find_two_speeds
from nccl_bench.analysis.wording import counted, format_share, joined, percent
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.catalog.timings import Timing
from nccl_bench.records.run import Run

# A share of the median. Users look for differences of roughly ten percent between arms.
LARGE_NOISE = 0.1
# If at least this share of the noisy cells has two speeds, the two speeds explain the noise.
_TWO_SPEEDS_SHARE = 0.25
# If fewer cells than this share are noisy, and nothing else is wrong, the machine was mostly steady.
_MOSTLY = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisyCell:
    """A cell whose rounds differ much."""

    row: Row  # the row of the cell
    side: str  # the name of its run; empty if there is only one run
    share: float  # the interquartile range of its rounds, as a share of the median


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoSpeedsCell:
    """A noisy cell whose rounds come in two speeds."""

    row: Row  # the row of the cell
    side: str  # the name of its run; empty if there is only one run
    speeds: TwoSpeeds  # the speeds


@dataclass(frozen=True, slots=True, kw_only=True)
class Steadiness:
    """The cells of one or more runs that show an unsteady machine."""

    timed: int  # the number of cells with a time
    timed_by_timing: tuple[tuple[Timing, int], ...] = ()  # the number of cells with a time in each timing
    noisy: tuple[NoisyCell, ...] = ()  # the cells whose rounds differ much
    two_speeds: tuple[TwoSpeedsCell, ...] = ()  # the noisy cells whose rounds come in two speeds
    lowered: int = 0  # the number of cells in which a GPU lowered its clocks
    shared: int = 0  # the number of cells in which another process used a GPU
    watched: bool = False  # True if the clocks of GPUs were read
    runs: int = 1  # the number of runs
    has_gpus: bool = True  # False if a run was measured without GPUs

    @property
    def has_two_speeds(self) -> bool:
        """True if two speeds explain the noise."""
        return bool(self.noisy) and len(self.two_speeds) >= _TWO_SPEEDS_SHARE * len(self.noisy)

    @property
    def answer(self) -> str:
        """The answer to "Was the machine steady?" as a sentence; empty if nothing was timed."""
        if not self.timed:
            return ""
        limit, cells = format_share(LARGE_NOISE), counted(self.timed, "cell")
        if not (self.noisy or self.lowered or self.shared):
            clocks = ", and no GPU lowered its clocks" if self.watched else ""
            return f"Yes: in all {cells} the rounds differ by at most {limit}{clocks}."
        unsteady = joined(self._unsteady) if self._unsteady else ""
        mostly = len(self.noisy) < _MOSTLY * self.timed and not self.lowered and not self.shared
        start = f"Not in {unsteady}" if unsteady else "Mostly" if mostly else "No"
        return f"{start}: {'; '.join(self._faults(limit, cells))}."

    @property
    def in_short(self) -> str:
        """The answer in a few words, such as "eager; not enqueue: 9 of 56 cells differ by over 10 % ..."."""
        if not self.timed:
            return ""
        if self._unsteady:
            steady = joined([timing for timing, _ in self.timed_by_timing if timing not in self._unsteady])
            answer = f"{steady}; not {' or '.join(self._unsteady)}"
        else:
            answer = self.answer.partition(":")[0].lower()
        faults = []
        if self.noisy:
            speeds = ", the CPU has two speeds" if self.has_two_speeds else ""
            of_runs = "" if self.runs == 1 else " of both runs" if self.runs == 2 else f" of all {self.runs} runs"
            share = f"{len(self.noisy)} of {counted(self.timed, 'cell')}{of_runs}"
            faults.append(f"{share} differ by over {percent(LARGE_NOISE)} % from round to round{speeds}")
        faults += ["a GPU lowered its clocks"] if self.lowered else []
        faults += ["another process used a GPU"] if self.shared else []
        return ": ".join(filter(None, (answer, " and ".join(faults))))

    @property
    def _unsteady(self) -> list[Timing]:
        """The timings that were not steady; empty if none or all were not, or if a GPU was not steady."""
        noisy = Counter(cell.row.timing for cell in self.noisy)
        unsteady = [timing for timing, number in self.timed_by_timing if noisy[timing] >= _MOSTLY * number]
        alike = len(unsteady) == len(self.timed_by_timing)
        return [] if alike or self.lowered or self.shared else unsteady

    def _faults(self, limit: str, cells: str) -> Iterator[str]:
        if self.noisy:
            counts = Counter(cell.row.timing for cell in self.noisy)
            places = joined([f"{counts[timing]} in {timing}" for timing in Timing if counts[timing]])
            speeds = f", and in {len(self.two_speeds)} of them they come in two speeds" if self.has_two_speeds else ""
            yield f"the rounds differ by more than {limit} in {len(self.noisy)} of {cells} ({places}){speeds}"
        if self.lowered:
            yield f"a GPU lowered its clocks in {counted(self.lowered, 'cell')}"
        if self.shared:
            yield f"another process used a GPU in {counted(self.shared, 'cell')}"


def steadiness_of(rows_of_runs: Sequence[tuple[str, Rows]], runs: Sequence[tuple[str, Run]]) -> Steadiness:
    """Return what was not steady in ``runs``. Both arguments name each run; with only one run, the name is empty."""
    timed: Counter[Timing] = Counter()
    counts: Counter[str] = Counter()
    noisy: list[NoisyCell] = []
    for side, rows in rows_of_runs:
        time_us, first_us, third_us = (rows.numbers(name) for name in ("time_us", "q1_us", "q3_us"))
        # Absent numbers are NaN, and NaN > 0 is False.
        is_timed = time_us > 0
        timed.update(compress(rows.column("timing"), is_timed))
        for name in ("throttled", "other_process", "sm_clock_mhz"):
            counts[name] += sum(value is not None for value in compress(rows.column(name), is_timed))
        range_us = third_us - first_us
        large = np.flatnonzero(is_timed & (first_us > 0) & (range_us > LARGE_NOISE * time_us))
        shares = (range_us[large] / time_us[large]).tolist()
        noisy += [
            NoisyCell(row=row, side=side, share=share)
            for row, share in zip(rows.at(large.tolist()), shares, strict=True)
        ]
    return Steadiness(
        timed=timed.total(),
        timed_by_timing=tuple((timing, timed[timing]) for timing in Timing if timed[timing]),
        noisy=tuple(noisy),
        two_speeds=tuple(
            TwoSpeedsCell(row=row, side=side, speeds=speeds)
            for side, run in runs
            for row, speeds in find_two_speeds(run, [cell.row for cell in noisy if cell.side == side])
        ),
        lowered=counts["throttled"],
        shared=counts["other_process"],
        runs=len(rows_of_runs),
        watched=counts["sm_clock_mhz"] > 0,
        has_gpus=all(run.device not in DEVICES or DEVICES[run.device].has_gpus for _, run in runs),
    )
