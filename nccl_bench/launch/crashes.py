"""Finds which rank ended a launch, and why, in the files that torch's launcher and the ranks wrote."""

import signal
import socket
from collections.abc import Collection, Sequence
from pathlib import Path

from nccl_bench.errors import NodeLostError, RecordError
from nccl_bench.launch.memory_kills import KillCount, read_kill_count
from nccl_bench.launch.messages import AGENT_LOG, LAUNCH_LOG, LaunchEnd
from nccl_bench.ranks.failure import Failure, read_failures
from nccl_bench.ranks.progress import Position, furthest_behind
from nccl_bench.records.schema import Crash
from nccl_bench.safety.secrets import masked

_TAIL_LINES = 5
# After a fatal signal, Python writes the stacks of a rank's threads, up to 30 kB. torch's launcher makes Python do
# this.
_TAIL_BYTES = 64 * 1024
_STACKS_BEGIN = "Fatal Python error:"


def find_crash(
    scratch: Path,
    positions: Sequence[Position],
    exit_code: int | None,
    *,
    ended: Collection[int] = (),
    kills_before: KillCount | None = None,
) -> Crash:
    """Return the crash that made the launch end with ``exit_code``, which is ``None`` if the launch has not ended.

    The crash has no case yet.

    A rank that ended without an exception, for example by a signal, is the reason. Its end makes every other rank
    raise. A rank that raises waits before it ends, so torch's launcher sees the end without an exception first.

    Without such a rank, the earliest exception is the reason. This exception makes the other ranks raise.

    ``ended`` are the ranks that had ended when the first end was seen; empty if no end was seen before the launch
    ended. Ranks that ended later may have been ended by the launcher. ``kills_before`` is the kernel's count from the
    start of the launch. The message says that memory ran out only if this count has risen.

    Raises:
        RecordError: Rank 0 could not write the record: no rank failed, and no later case can be recorded.
        NodeLostError: Another node has ended, or did not join this launch.
    """
    failures, launch_end = read_failures(scratch), LaunchEnd.read(scratch)
    if launch_end is not None and launch_end.lost_node is not None:
        raise NodeLostError(launch_end.lost_node)
    exits = launch_end.exits if launch_end is not None else ()
    by_rank = {position.rank: position for position in positions}
    raised = {failure.rank for failure in failures}
    for end in exits:
        if end.rank not in raised and (not ended or end.rank in ended):
            output = stderr_tail(scratch, end.local_rank)
            how = _describe_exit(end.code, kills_before)
            return _crash(by_rank.get(end.rank), end.rank, how, output, end.code)
    if failures and failures[0].kind == RecordError.__name__:
        raise RecordError(failures[0].message)
    if failures:
        return crash_from_failure(failures[0])
    behind = furthest_behind(position for position in positions if position.rank in ended)
    if behind is not None and (exit_code is None or exits):
        output = stderr_tail(scratch, behind.local_rank)
        return _crash(behind, behind.rank, "ended before the other ranks; its exit code is unknown", output)
    behind = furthest_behind(position for position in positions if not position.done)
    if exit_code == 0 and behind is not None:
        return _crash(behind, behind.rank, "ended before its last case, with exit code 0", "")
    rank = behind.rank if behind is not None else 0
    if launch_end is not None and launch_end.error is not None:
        what = "did not start" if behind is None else "did not finish"
        return _crash(behind, rank, f"{what}: {launch_end.error}", "")
    assert exit_code is not None, "a launch that has not ended has a rank that ended or raised"
    output = tail(scratch / LAUNCH_LOG) or tail(scratch.parent / AGENT_LOG)
    what = f"did not finish: the process that started it {_describe_exit(exit_code, kills_before)}"
    return _crash(behind, rank, what, output, exit_code)


def crash_from_failure(failure: Failure) -> Crash:
    """Return the crash of a rank that raised an exception. The crash has no case yet."""
    return Crash(
        case=None,
        case_index=failure.case_index,
        arm=failure.arm,
        rank=failure.rank,
        host=failure.host,
        message=failure.description,
    )


def tail(path: Path | None) -> str:
    """Return the last few lines of a file that are not blank; an empty text if the file is missing.

    After a fatal signal, the stacks of all threads follow the reason. Return the lines before the stacks or, without
    such lines, the first lines of the stacks.
    """
    if path is None or not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        lines = masked(file.read().decode(errors="replace")).splitlines()
    lines = [line for line in lines if line.strip()]
    stacks = next((index for index, line in enumerate(lines) if line.startswith(_STACKS_BEGIN)), len(lines))
    return "\n".join(lines[:stacks][-_TAIL_LINES:] or lines[:_TAIL_LINES])


def stderr_tail(scratch: Path, local_rank: int) -> str:
    """Return the last lines that a rank wrote to stderr."""
    # The layout of torch's launcher is LOG_DIR/RUN_ID_RANDOM/attempt_0/LOCAL_RANK/stderr.log.
    return tail(next(scratch.glob(f"logs/*/attempt_0/{local_rank}/stderr.log"), None))


def _crash(position: Position | None, rank: int, what: str, output: str, exit_code: int = 0) -> Crash:
    host = position.host if position is not None else socket.gethostname()
    return Crash(
        case=None,
        case_index=position.case_index if position is not None else -1,
        arm=position.arm if position is not None else "",
        rank=rank,
        host=host,
        message=f"rank {rank} on {host} {what}" + (f":\n{output}" if output else ""),
        signal=_signal_name(exit_code) if exit_code < 0 else None,
    )


def _describe_exit(code: int, kills_before: KillCount | None) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    kills = read_kill_count() if code == -signal.SIGKILL else None
    reason = ""
    if kills is not None and kills.rose_from(kills_before):
        reason = f", because memory ran out (oom_kill in {kills.file} has risen to {kills.kills})"
    return f"was killed by {_signal_name(code)}{reason}"


def _signal_name(code: int) -> str:
    """Return the name of the signal whose negative number is ``code``."""
    return signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
