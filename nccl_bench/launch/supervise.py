"""Watches launches: enforces deadlines, explains hangs and crashes, and relaunches after them."""

import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from signal import Signals
from typing import Protocol, TypeVar

from nccl_bench.catalog.cases import Case
from nccl_bench.errors import SetupError
from nccl_bench.launch.config import LaunchConfig
from nccl_bench.launch.crashes import find_crash, stderr_tail, tail
from nccl_bench.launch.memory_kills import KillCount, read_kill_count
from nccl_bench.launch.messages import FIRST_MEETING_S, LAUNCH_LOG, MEETING_S
from nccl_bench.launch.rank_states import find_ended, find_stopped
from nccl_bench.launch.ras import DEFAULT_ADDRESS, ask_ras
from nccl_bench.launch.signals import collect_signals, raise_interrupted
from nccl_bench.launch.user_calls import find_user_call
from nccl_bench.ranks.failure import read_failures
from nccl_bench.ranks.progress import Position, find_overdue, read_positions
from nccl_bench.ranks.spec import LaunchSpec
from nccl_bench.records.schema import Crash, Hang

POLL_S = 0.2
# The least time for the start: the agent imports torch, which is slow over a network file system.
LEAST_START_S = 120.0
# The time for the end: after its last item, a rank destroys its communicators and leaves the interpreter.
EXIT_S = 60.0
# After the end of one rank, torch's launcher sends SIGTERM to the others. A rank that still runs after this time gets
# SIGKILL. After the same time again, the crash is reported without this rank. torch's launcher would wait 30 s for it.
SURVIVAL_S = 1.0

_S = TypeVar("_S", bound=LaunchSpec)


class RunningJob(Protocol):
    """The processes of one launch, with the methods that ``supervise`` needs. ``job.Job`` has these methods."""

    def poll(self) -> int | None:
        """Return the exit code, or ``None`` while the launch runs."""

    def wait(self, limit_s: float) -> None:
        """Return when the launch ends, or after ``limit_s`` seconds."""

    def end_processes(self, processes: Iterable[int]) -> None:
        """Send SIGKILL to those of ``processes`` that belong to the launch."""

    def stop(self) -> None:
        """End every process, and return when all are gone."""


class Starter(Protocol):
    """A starter of launches, with the attributes that ``supervise`` needs. ``job.Agent`` has these attributes."""

    scratch: Path  # the directory for the files of all launches

    def start(self, launch: LaunchConfig, spec: LaunchSpec) -> RunningJob:
        """Start the ranks of one launch."""


def supervise(
    spec: _S,
    launch: LaunchConfig,
    agent: Starter,
    *,
    count: int,
    timeout_s: float,
    on_end: Callable[[Hang | Crash, _S], _S | None],
    on_progress: Callable[[list[Position]], None],
) -> _S:
    """Let the ranks do the items of ``spec``, with as many launches as needed.

    Items have indices below ``count``. One item may take ``timeout_s`` seconds. After a hang or a crash, ``on_end``
    gets its record, without a case, and the specification of that launch. ``on_end`` returns the specification of the
    next launch, which can be empty, or ``None`` to stop. ``on_progress`` gets the local ranks' positions about five
    times a second. Return the specification of the last launch. When this function ends, even with an error, no rank is
    left.

    Raises:
        SetupError: The ranks did not finish their set-up, and ``on_end`` returned ``None``.
        InterruptedRunError: This process got SIGINT, SIGTERM or SIGHUP.
    """
    attempts = 0
    with collect_signals() as received:
        while not spec.is_empty:
            # One directory for each launch, so that files of an earlier launch are not read again.
            directory = tempfile.mkdtemp(prefix="launch-", dir=agent.scratch)
            # For the agent every process is a rank, so `nproc` counts the processes of all process sets.
            processes = replace(launch, nproc=launch.nproc * spec.processes_per_rank)
            job = agent.start(processes, spec.for_launch(directory))
            watch = _LaunchWatch(
                job=job,
                scratch=Path(directory),
                spec=spec,
                launch=processes,
                count=count,
                timeout_s=timeout_s,
                attempt=attempts,
            )
            try:
                end = watch.wait(received, on_progress)
            finally:
                job.stop()
            attempts += 1
            if end is None:
                break
            following = on_end(end, spec)
            if following is None and end.case_index < 0:
                raise SetupError(_setup_message(end, Path(directory), processes))
            if following is None:
                break
            spec = following
        raise_interrupted(received)
    return spec


@dataclass(slots=True, kw_only=True)
class _LaunchWatch:
    """Watches one launch until the launch ends."""

    job: RunningJob
    scratch: Path
    spec: LaunchSpec
    launch: LaunchConfig
    count: int  # the number of items of the whole work
    timeout_s: float  # the time that one item may take
    attempt: int  # the number of launches before this one
    started: float = field(default_factory=time.monotonic)
    first_position_at: float | None = None  # the time at which the first position of a rank was seen; None before
    seen: set[int] = field(default_factory=set)  # the local ranks of which a position was seen
    done_at: float | None = None  # the time at which the ranks had done every item; None before
    ended: frozenset[int] = frozenset()  # the ranks that had ended when the first end was seen
    ended_at: float = 0.0  # the time at which the first end was seen
    kills_before: KillCount | None = field(default_factory=read_kill_count)  # the kernel's count at the start

    def wait(self, received: list[Signals], on_progress: Callable[[list[Position]], None]) -> Hang | Crash | None:
        """Return the hang or crash that ended the launch; ``None`` if every item was done. Processes may still run."""
        positions: list[Position] = []
        while True:
            # Read the positions last. If the launch has ended, they are final. A rank that went on in the meantime does
            # not count as late or as ended early. Both can happen, because this process can be slow, and a shell can
            # stop it.
            exit_code, now, ended = self.job.poll(), time.monotonic(), find_ended(positions)
            positions = read_positions(self.scratch)
            self.seen.update(position.local_rank for position in positions)
            on_progress(positions)
            raise_interrupted(received)
            done = len(positions) == self.launch.nproc and all(position.done for position in positions)
            if exit_code is not None:
                return None if exit_code == 0 and done else self._crash(positions, exit_code)
            if self._outlives(positions, ended, now):
                return self._crash(positions, None)
            late = self._late(positions, done, now)
            if late:
                # The end of a rank makes other ranks late, so report the end and not the hang. The process of a rank
                # that raised may be unable to end.
                if self.ended or read_failures(self.scratch):
                    return self._crash(positions, None)
                return self._with_ras(self._hang(positions, late), positions)
            self.job.wait(POLL_S)

    def _outlives(self, positions: list[Position], ended: frozenset[int], now: float) -> bool:
        """Return whether a rank has ended early and another rank does not end even after SIGKILL.

        ``ended`` are the ranks that had ended before ``positions`` were read.
        """
        busy = [position for position in positions if not position.done]
        ended &= {position.rank for position in busy}
        if not self.ended:
            self.ended, self.ended_at = ended, now
        survivors = [position.pid for position in busy if position.rank not in ended]
        if not self.ended or not survivors or now < self.ended_at + SURVIVAL_S:
            return False
        self.job.end_processes(survivors)
        return now > self.ended_at + 2 * SURVIVAL_S

    def _crash(self, positions: list[Position], exit_code: int | None) -> Crash:
        return find_crash(self.scratch, positions, exit_code, ended=self.ended, kills_before=self.kills_before)

    def _hang(self, positions: list[Position], late: list[Position]) -> Hang:
        stopped = find_stopped(late)
        if stopped is not None:
            return replace(make_hang(stopped[0], self.timeout_s), state=stopped[1])
        hang, call = make_hang(late[0], self.timeout_s), find_user_call(positions, late[0], self.scratch)
        return hang if call is None else replace(hang, rank=call.rank, call=call.location)

    def _with_ras(self, hang: Hang, positions: list[Position]) -> Hang:
        """Return ``hang`` with the answer of NCCL's RAS. The ranks must not have been ended."""
        process = next((position for position in positions if position.rank == hang.rank), None)
        if process is None or not self.spec.records_ras:
            return hang
        environment = {**os.environ, **self.spec.variables_of(process.local_rank, self.launch.nproc)}
        return replace(hang, ras=ask_ras(environment.get("NCCL_RAS_ADDR", DEFAULT_ADDRESS), process.pid))

    def _late(self, positions: list[Position], done: bool, now: float) -> list[Position]:
        """Return the ranks that can be the cause of a missed deadline, the most likely first; empty without one."""
        if done:
            self.done_at = self.done_at or now
            if now < self.done_at + EXIT_S:
                return []
            ended = find_ended(positions)
            left = [position for position in positions if position.rank not in ended] or positions
            return [replace(each, case_index=self.count, arm="", phase="exit", timeout_s=EXIT_S) for each in left]
        overdue = find_overdue(positions, now)
        # The ranks of a node start together, after all nodes have met.
        if positions and self.first_position_at is None:
            self.first_position_at = now
        start_s = max(self.timeout_s, LEAST_START_S)
        waiting_s = start_s + (self._meeting_s() if self.first_position_at is None else 0.0)
        if overdue or now > (self.first_position_at or self.started) + waiting_s:
            return [*self._without_position(waiting_s), *overdue]
        return []

    def _without_position(self, waiting_s: float) -> list[Position]:
        """Return a position for each local rank that has never written one. The other ranks wait for these ranks."""
        first_rank, host = self.launch.node_rank * self.launch.nproc, socket.gethostname()
        return [
            Position(rank=first_rank + local_rank, local_rank=local_rank, host=host, pid=0, timeout_s=waiting_s)
            for local_rank in range(self.launch.nproc)
            if local_rank not in self.seen
        ]

    def _meeting_s(self) -> float:
        """Return how long the nodes may take to meet, before the ranks start."""
        return 0.0 if self.launch.nnodes == 1 else MEETING_S if self.attempt else FIRST_MEETING_S


def make_hang(late: Position, timeout_s: float, case: Case | None = None) -> Hang:
    """Return the record of a rank that missed its deadline. ``timeout_s`` is used if the position has no timeout."""
    return Hang(
        case=case,
        case_index=late.case_index,
        arm=late.arm,
        rank=late.rank,
        host=late.host,
        phase=late.phase,
        timeout_s=timeout_s if late.timeout_s is None else late.timeout_s,
    )


def _setup_message(end: Hang | Crash, scratch: Path, launch: LaunchConfig) -> str:
    if isinstance(end, Crash):
        return f"the ranks did not finish their set-up: {end.message}"
    # The ranks are numbered node by node, and every node has `nproc` ranks.
    output = stderr_tail(scratch, end.rank % launch.nproc) or tail(scratch / LAUNCH_LOG)
    state = f", {end.state.description}," if end.state else ""
    return (
        f"rank {end.rank} on {end.host}{state} did not finish its set-up ({end.phase}) within {end.timeout_s:g} s"
        + (f":\n{output}" if output else "")
    )
