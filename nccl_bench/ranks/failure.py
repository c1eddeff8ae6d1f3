"""What the launching process and its workers tell each other, through files in a scratch directory. No torch.

The launcher writes a ``WorkerSpec``; each worker keeps a ``Position`` up to date and leaves a ``Failure`` when it dies
of an exception. Deadlines are ``time.monotonic()`` values, which processes of one host share; a scratch directory never
spans hosts.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from nccl_bench.errors import ExitCode, NcclBenchError, UserArmError
from nccl_bench.ranks.progress import Position

_MESSAGE_LINES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The exception that ended a worker.

    ``kind`` is its class, ``message`` the last lines of its text and ``time`` the host's ``time.monotonic()``.
    """

    rank: int
    host: str
    case_index: int
    arm: str
    kind: str
    message: str
    exit_code: int
    time: float

    @classmethod
    def of(cls, error: BaseException, position: Position) -> Failure:
        """What ended the worker that is at ``position``."""
        return cls(
            rank=position.rank,
            host=position.host,
            case_index=position.case_index,
            arm=position.arm,
            kind=type(error).__name__,
            message="\n".join(str(error).strip().splitlines()[-_MESSAGE_LINES:]),
            exit_code=int(error.exit_code if isinstance(error, NcclBenchError) else ExitCode.SETUP),
            time=time.monotonic(),
        )

    @property
    def told(self) -> str:
        """The rank, its host and what was wrong; with a user's communicator that says all there is to say."""
        how = "" if self.kind == UserArmError.__name__ else f" ended with exit code {self.exit_code}: {self.kind}"
        return f"rank {self.rank} on {self.host}{how}: {self.message}"

    def write(self, scratch: Path) -> None:
        """Leave this for the launcher, whole or not at all."""
        path = scratch / f"failure-{self.rank}"
        part = path.with_name(f".{path.name}")
        try:
            part.write_text(json.dumps(asdict(self)), encoding="utf-8")
            part.replace(path)
        except OSError:
            # The worker is ending on the error held here. A full disk must not take its place: the error is in the
            # worker's log too, and the launcher reads that where this file is missing.
            return


def read_failures(scratch: Path) -> list[Failure]:
    """Every failure, the first to happen first."""
    failures = [Failure(**json.loads(path.read_text(encoding="utf-8"))) for path in scratch.glob("failure-*")]
    return sorted(failures, key=lambda failure: failure.time)
