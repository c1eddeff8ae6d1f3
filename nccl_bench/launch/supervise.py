"""One sweep from the launching process's side: watch the workers, enforce deadlines, record and go on. No torch."""

from __future__ import annotations

import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Protocol

from nccl_bench.collectives import Case
from nccl_bench.errors import InterruptedRunError, SetupError
from nccl_bench.launch.postmortem import find_death, tail, tail_of
from nccl_bench.launch.torchrun import Job, LaunchConfig
from nccl_bench.plan import PlannedCase
from nccl_bench.records.handoff import Position, WorkerSpec, overdue, read_failures, read_positions
from nccl_bench.records.schema import Crash, Hang

POLL_S = 0.2
# Importing torch over a network file system, in every worker at once, takes a while.
LEAST_START_S = 120.0
# For destroying communicators and leaving the interpreter once every sample is written.
EXIT_S = 60.0
# One timeout for each size would make a broken arm cost the night.
MOST_FAILURES_IN_A_ROW = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a sweep went: launches made, what was recorded, and why it ended early, ``None`` where it did not."""

    attempts: int
    hangs: tuple[Hang, ...]
    crashes: tuple[Crash, ...]
    stopped: str | None


class Launched(Protocol):
    """What is watched: ``torchrun.Job``."""

    def poll(self) -> int | None:
        """The exit code, or ``None`` while it runs."""

    def stop(self) -> None:
        """End every process; returns when all are gone."""


def run_sweep(
    spec: WorkerSpec,
    launch: LaunchConfig,
    *,
    cases: Sequence[PlannedCase],
    append: Callable[[Hang | Crash], None],
    on_progress: Callable[[list[Position]], None],
    start: Callable[[LaunchConfig, WorkerSpec, int], Launched] = Job,
) -> Outcome:
    """Run ``cases`` from ``spec.first_case`` on; after a hang or a crash, relaunch at the case behind it.

    ``spec.scratch`` is set here. ``append`` gets every hang and crash on node 0, ``on_progress`` the local ranks'
    positions about five times a second. No process and no scratch file is left, however this ends.

    Raises ``SetupError`` where workers do not get past set-up, ``InterruptedRunError`` on SIGINT, SIGTERM and SIGHUP.
    """
    ends: list[Hang | Crash] = []
    attempts = 0
    stopped = None
    first_case = spec.first_case
    scratch = Path(tempfile.mkdtemp(prefix="nccl-bench-"))
    try:
        with _signals() as received:
            while first_case < len(cases) and stopped is None:
                # A directory for each attempt: what the last one left must not be taken for this one's.
                place = scratch / str(attempts)
                place.mkdir()
                job = start(launch, replace(spec, scratch=str(place), first_case=first_case), attempts)
                watch = _Watch(job=job, scratch=place, spec=spec, launch=launch, cases=cases, attempt=attempts)
                try:
                    end = watch.end(received, on_progress)
                finally:
                    job.stop()
                attempts += 1
                if end is None:
                    break
                ends.append(end)
                if launch.node_rank == 0:
                    append(end)
                if end.case_index < 0:
                    raise SetupError(_setup_message(end, place, launch))
                first_case = end.case_index + 1
                stopped = _hopeless(ends, cases, spec.first_case)
            _raise_if(received)
    finally:
        # Every process that wrote there is gone; what a network file system keeps back is no reason to fail now.
        shutil.rmtree(scratch, ignore_errors=True)
    return Outcome(
        attempts=attempts,
        hangs=tuple(end for end in ends if isinstance(end, Hang)),
        crashes=tuple(end for end in ends if isinstance(end, Crash)),
        stopped=stopped,
    )


@dataclass(slots=True, kw_only=True)
class _Watch:
    """One launch, watched to its end."""

    job: Launched
    scratch: Path
    spec: WorkerSpec
    launch: LaunchConfig
    cases: Sequence[PlannedCase]
    attempt: int
    started: float = field(default_factory=time.monotonic)
    done_at: float | None = None

    def end(self, received: list[signal.Signals], on_progress: Callable[[list[Position]], None]) -> Hang | Crash | None:
        """What ended the launch, ``None`` where every case was done; its processes may still run."""
        while True:
            # In this order: positions read after the end are the last ones.
            exit_code = self.job.poll()
            positions = read_positions(self.scratch)
            on_progress(positions)
            _raise_if(received)
            done = len(positions) == self.launch.nproc and all(position.done for position in positions)
            if exit_code is not None:
                return None if exit_code == 0 and done else self._crash(positions, exit_code)
            late = self._late(positions, done, time.monotonic())
            if late is not None:
                # Where a rank raised and cannot leave, the others are late because of it.
                return (
                    self._crash(positions, 1)
                    if read_failures(self.scratch)
                    else hang_at(late, self.cases, self.spec.config.timeout_s)
                )
            time.sleep(POLL_S)

    def _late(self, positions: list[Position], done: bool, now: float) -> Position | None:
        if done:
            self.done_at = self.done_at or now
            if now < self.done_at + EXIT_S:
                return None
            return replace(positions[0], case_index=len(self.cases), arm="", phase="exit", timeout_s=EXIT_S)
        if not positions and now > self.started + self._start_s():
            return Position(rank=0, local_rank=0, host=socket.gethostname(), pid=0, timeout_s=self._start_s())
        return overdue(positions, now)

    def _start_s(self) -> float:
        """How long the first worker may take to report; after a relaunch, other nodes may first meet a deadline."""
        timeout_s = self.spec.config.timeout_s
        return max(timeout_s, LEAST_START_S) + (timeout_s if self.launch.nnodes > 1 and self.attempt else 0)

    def _crash(self, positions: list[Position], exit_code: int) -> Crash:
        death = find_death(self.scratch, positions, exit_code)
        return Crash(
            case=_case(self.cases, death.case_index),
            case_index=death.case_index,
            arm=death.arm,
            rank=death.rank,
            host=death.host,
            message=death.message,
        )


def hang_at(late: Position, cases: Sequence[PlannedCase], timeout_s: float) -> Hang:
    """The record of a rank whose deadline has passed; ``timeout_s`` is that of a case."""
    return Hang(
        case=_case(cases, late.case_index),
        case_index=late.case_index,
        arm=late.arm,
        rank=late.rank,
        host=late.host,
        phase=late.phase,
        timeout_s=timeout_s if late.timeout_s is None else late.timeout_s,
    )


def _case(cases: Sequence[PlannedCase], index: int) -> Case | None:
    """``None`` during set-up and behind the last case."""
    return cases[index].case if 0 <= index < len(cases) else None


def _hopeless(ends: Sequence[Hang | Crash], cases: Sequence[PlannedCase], first_case: int) -> str | None:
    """Why going on makes no sense after the last of ``ends``, or ``None``.

    A case that another arm ended counts neither for nor against an arm, nor does one that it has no part in.
    """
    last = ends[-1]
    failed = {end.case_index: end.arm for end in ends}
    in_a_row = 0
    for index in range(last.case_index, first_case - 1, -1):
        if failed.get(index) == last.arm:
            in_a_row += 1
        elif index not in failed and (not last.arm or last.arm in cases[index].arms):
            break
    if in_a_row < MOST_FAILURES_IN_A_ROW:
        return None
    what = f"the arm {last.arm}" if last.arm else "the run, outside any arm,"
    label = f", the last being {last.case.label}" if last.case else ""
    return f"{what} hung or crashed in {in_a_row} cases running{label}: it would go on with every later case"


def _setup_message(end: Hang | Crash, scratch: Path, launch: LaunchConfig) -> str:
    if isinstance(end, Crash):
        return f"the workers did not get past set-up: {end.message}"
    # torchrun numbers ranks node by node, with as many on each.
    output = tail_of(scratch, end.rank % launch.nproc) or tail(scratch / "torchrun.log")
    return f"rank {end.rank} on {end.host} did not get past set-up ({end.phase}) within {end.timeout_s:g} s" + (
        f":\n{output}" if output else ""
    )


def _raise_if(received: Sequence[signal.Signals]) -> None:
    if received:
        raise InterruptedRunError(f"interrupted by {received[0].name}; what was measured before is kept")


@contextmanager
def _signals() -> Iterator[list[signal.Signals]]:
    """The signals that asked for the end, as they arrive.

    They are noted, not raised: an exception from a handler could cut short the very clean-up that it asks for. One
    that is ignored stays so, which is how nohup and background jobs work; threads cannot have handlers.
    """
    received: list[signal.Signals] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(signal.Signals(number))

    previous = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                previous[number] = signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
