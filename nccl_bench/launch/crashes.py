"""Why a worker died: one rank, and a few lines, out of what torchrun and all workers left behind. No torch."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from nccl_bench.ranks.failure import Failure, read_failures
from nccl_bench.ranks.progress import Position, furthest_behind

_TAIL_LINES = 5
_TAIL_BYTES = 8192
# torch.distributed.elastic's ChildFailedError: one such block for each rank, the first observed failure last.
_EXIT = re.compile(
    r"time\s*: (\S+)\s+host\s*: .*\s+rank\s*: (\d+) \(local_rank: (\d+)\)\s+exitcode\s*: (-?\d+) \(pid: \d+\)"
)
# Ranks that torchrun found dead in one look. Those that it killed itself followed later than that: it waits first.
_TOGETHER = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """The end of the worker that took the others with it; ``message`` is complete, with rank, host and reason."""

    rank: int
    host: str
    case_index: int
    arm: str
    message: str


def find_death(scratch: Path, positions: Sequence[Position], exit_code: int) -> Death:
    """The first death in ``scratch``, after torchrun ended with ``exit_code``.

    The first exception is the reason, and later ones are its echo on other ranks; unless the first rank to end was
    killed by a signal, which leaves no exception and makes everybody else raise one. torchrun looks at the ranks a few
    times a second, so a rank that was killed and one that raised because of it may be found together.
    """
    failures = read_failures(scratch)
    log = scratch / "torchrun.log"
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    exits = [
        (datetime.strptime(moment, "%Y-%m-%d_%H:%M:%S"), int(rank), int(local_rank), int(code))
        for moment, rank, local_rank, code in _EXIT.findall(text)
    ]
    by_rank = {position.rank: position for position in positions}
    if exits:
        first = exits[-1]
        raised = {failure.rank for failure in failures}
        silent = [
            (rank, local_rank, code)
            for moment, rank, local_rank, code in reversed(exits)
            if moment <= first[0] + _TOGETHER and code < 0 and code != -signal.SIGTERM and rank not in raised
        ]
        if silent or not failures:
            rank, local_rank, code = silent[0] if silent else first[1:]
            return _death(by_rank.get(rank), rank, _ended(code), tail(_stderr(scratch, local_rank)))
    if failures:
        return _of_failure(failures[0])
    behind = furthest_behind(position for position in positions if not position.done)
    if exit_code == 0 and behind is not None:
        return _death(behind, behind.rank, "ended before its last case, with exit code 0", "")
    rank = behind.rank if behind is not None else 0
    return _death(behind, rank, f"did not get to its end: torchrun {_ended(exit_code)}", tail(log))


def tail(path: Path | None) -> str:
    """The last few lines that say something; empty for a file that is missing."""
    if path is None or not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join([line for line in lines if line.strip()][-_TAIL_LINES:])


def tail_of(scratch: Path, local_rank: int) -> str:
    """The last lines that this worker wrote to stderr."""
    return tail(_stderr(scratch, local_rank))


def _of_failure(failure: Failure) -> Death:
    return Death(
        rank=failure.rank,
        host=failure.host,
        case_index=failure.case_index,
        arm=failure.arm,
        message=failure.description,
    )


def _death(position: Position | None, rank: int, what: str, output: str) -> Death:
    host = position.host if position is not None else socket.gethostname()
    return Death(
        rank=rank,
        host=host,
        case_index=position.case_index if position is not None else -1,
        arm=position.arm if position is not None else "",
        message=f"rank {rank} on {host} {what}" + (f":\n{output}" if output else ""),
    )


def _ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    hint = ", as the kernel does when memory runs out" if code == -signal.SIGKILL else ""
    return f"was killed by {name}{hint}"


def _stderr(scratch: Path, local_rank: int) -> Path | None:
    """torchrun's layout is LOG_DIR/RUN_ID_RANDOM/attempt_0/LOCAL_RANK/stderr.log."""
    return next(scratch.glob(f"logs/*/attempt_0/{local_rank}/stderr.log"), None)
