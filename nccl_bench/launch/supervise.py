"""Launches under this process's watch: deadlines enforced, ends explained, relaunched behind them. No torch."""

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
from typing import Protocol, TypeVar

from nccl_bench.errors import InterruptedRunError, SetupError
from nccl_bench.launch.crashes import find_death, tail, tail_of
from nccl_bench.launch.torchrun import Job, LaunchConfig
from nccl_bench.launch.user_calls import find_user_call
from nccl_bench.ranks.failure import read_failures
from nccl_bench.ranks.progress import Position, find_overdue, read_positions
from nccl_bench.ranks.spec import LaunchSpec
from nccl_bench.records.schema import Crash, Hang

POLL_S = 0.2
# Importing torch over a network file system, in every worker at once, takes a while.
LEAST_START_S = 120.0
# For destroying communicators and leaving the interpreter once every sample is written.
EXIT_S = 60.0

_S = TypeVar("_S", bound=LaunchSpec)


class Launched(Protocol):
    """What is watched: ``torchrun.Job``."""

    def poll(self) -> int | None:
        """The exit code, or ``None`` while it runs."""

    def stop(self) -> None:
        """End every process; returns when all are gone."""


def supervise(
    spec: _S,
    launch: LaunchConfig,
    *,
    count: int,
    timeout_s: float,
    first: int,
    on_end: Callable[[Hang | Crash, int], tuple[_S, int] | None],
    on_progress: Callable[[list[Position]], None],
    start: Callable[[LaunchConfig, _S, int], Launched] = Job,
) -> int:
    """Have the ranks go through ``count`` items from index ``first`` on; returns how many launches that took.

    ``timeout_s`` is what the ranks allow one item. After a hang or a crash ``on_end`` gets it, with no ``case``, and
    the first item of that launch; it says what to launch next and from which item on, or ``None``. ``on_progress`` gets
    the local ranks' positions about five times a second. No process and no scratch file is left, however this ends.

    Raises ``SetupError`` where ranks do not get past set-up, ``InterruptedRunError`` on SIGINT, SIGTERM and SIGHUP.
    """
    attempts = 0
    scratch = Path(tempfile.mkdtemp(prefix="nccl-bench-"))
    try:
        with _signals() as received:
            while first < count:
                # A directory for each attempt: what the last one left must not be taken for this one's.
                place = scratch / str(attempts)
                place.mkdir()
                processes = launch.times(spec.processes_per_rank)
                job = start(processes, spec.for_launch(str(place), first), attempts)
                watch = _Watch(
                    job=job, scratch=place, launch=processes, count=count, timeout_s=timeout_s, attempt=attempts
                )
                try:
                    end = watch.end(received, on_progress)
                finally:
                    job.stop()
                attempts += 1
                if end is None:
                    break
                following = on_end(end, first)
                if following is not None:
                    spec, first = following
                elif end.case_index < 0:
                    raise SetupError(_setup_message(end, place, processes))
                else:
                    break
            _raise_if(received)
    finally:
        # Every process that wrote there is gone; what a network file system keeps back is no reason to fail now.
        shutil.rmtree(scratch, ignore_errors=True)
    return attempts


@dataclass(slots=True, kw_only=True)
class _Watch:
    """One launch, watched to its end."""

    job: Launched
    scratch: Path
    launch: LaunchConfig
    count: int
    timeout_s: float
    attempt: int
    started: float = field(default_factory=time.monotonic)
    done_at: float | None = None

    def end(self, received: list[signal.Signals], on_progress: Callable[[list[Position]], None]) -> Hang | Crash | None:
        """What ended the launch, ``None`` where every item was done; its processes may still run."""
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
                return self._crash(positions, 1) if read_failures(self.scratch) else self._hang(positions, late)
            time.sleep(POLL_S)

    def _hang(self, positions: list[Position], late: Position) -> Hang:
        stuck = find_user_call(positions, late, self.scratch)
        hang = hang_of(late, self.timeout_s)
        return hang if stuck is None else replace(hang, rank=stuck.rank, call=stuck.where)

    def _late(self, positions: list[Position], done: bool, now: float) -> Position | None:
        if done:
            self.done_at = self.done_at or now
            if now < self.done_at + EXIT_S:
                return None
            return replace(positions[0], case_index=self.count, arm="", phase="exit", timeout_s=EXIT_S)
        if not positions and now > self.started + self._start_s():
            return Position(rank=0, local_rank=0, host=socket.gethostname(), pid=0, timeout_s=self._start_s())
        return find_overdue(positions, now)

    def _start_s(self) -> float:
        """How long the first worker may take to report; after a relaunch, other nodes may first meet a deadline."""
        return max(self.timeout_s, LEAST_START_S) + (self.timeout_s if self.launch.nnodes > 1 and self.attempt else 0)

    def _crash(self, positions: list[Position], exit_code: int) -> Crash:
        death = find_death(self.scratch, positions, exit_code)
        return Crash(
            case=None,
            case_index=death.case_index,
            arm=death.arm,
            rank=death.rank,
            host=death.host,
            message=death.message,
        )


def hang_of(late: Position, timeout_s: float) -> Hang:
    """The record of a rank whose deadline has passed, with no case; ``timeout_s`` where the position has none."""
    return Hang(
        case=None,
        case_index=late.case_index,
        arm=late.arm,
        rank=late.rank,
        host=late.host,
        phase=late.phase,
        timeout_s=timeout_s if late.timeout_s is None else late.timeout_s,
    )


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
        raise InterruptedRunError(f"interrupted by {received[0].name}")


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
