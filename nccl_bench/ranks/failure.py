"""The exception that ended a rank. The rank writes it into a file, and the launcher reads it. No torch."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from nccl_bench.errors import ExitCode, NcclBenchError, UserArmError
from nccl_bench.ranks.progress import Position
from nccl_bench.records.reserve import reserve, write_into_reserve
from nccl_bench.safety.secrets import masked

_MESSAGE_LINES = 5
_RESERVE_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The exception that ended a rank."""

    rank: int  # the rank that ended
    host: str  # the name of the rank's host
    case_index: int  # the index of the case at which the rank was; -1 during set-up
    arm: str  # the arm at work; empty if none was
    kind: str  # the class of the exception
    message: str  # the last lines of the exception's text
    exit_code: int  # the exit code of the rank
    time: float  # the time of the failure, as time.monotonic() of the rank's host

    @classmethod
    def of(cls, error: BaseException, position: Position) -> Failure:
        """Return the failure of a rank that is at ``position`` and raised ``error``."""
        # Python's own MemoryError has no text.
        text = masked(str(error).strip()) or ("no memory is left" if isinstance(error, MemoryError) else "")
        return cls(
            rank=position.rank,
            host=position.host,
            case_index=position.case_index,
            arm=position.arm,
            kind=type(error).__name__,
            message="\n".join(text.splitlines()[-_MESSAGE_LINES:]),
            exit_code=int(error.exit_code if isinstance(error, NcclBenchError) else ExitCode.SETUP),
            time=time.monotonic(),
        )

    @property
    def description(self) -> str:
        """A message about the rank, its host and its error. The message of a user arm's error needs no prefix."""
        how = "" if self.kind == UserArmError.__name__ else f" ended with exit code {self.exit_code}: {self.kind}"
        return f"rank {self.rank} on {self.host}{how}: {self.message}"

    def write(self, scratch: Path) -> None:
        """Write the failure into a file in ``scratch``, completely or not at all."""
        path = _path(scratch, self.rank)
        # If even the reserve cannot be written, the rank's log may have the error.
        with suppress(OSError):
            write_into_reserve(path.with_name(f".{path.name}"), path, json.dumps(asdict(self)).encode())


def reserve_failure(scratch: Path, rank: int) -> None:
    """Reserve space on the disk for the failure of ``rank``, because a full disk may be the reason for the failure."""
    path = _path(scratch, rank)
    reserve(path.with_name(f".{path.name}"), _RESERVE_BYTES)


def _path(scratch: Path, rank: int) -> Path:
    return scratch / f"failure-{rank}"


def read_failures(scratch: Path) -> list[Failure]:
    """Return every failure in ``scratch``, the earliest first."""
    failures = [Failure(**json.loads(path.read_text(encoding="utf-8"))) for path in scratch.glob("failure-*")]
    return sorted(failures, key=lambda failure: failure.time)
