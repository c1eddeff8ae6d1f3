"""An audit in which this process is one of the ranks that another launcher started."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from nccl_bench.audit.findings.audit import join_ranks
from nccl_bench.audit.findings.record import RankFindings, read_findings
from nccl_bench.audit.findings.suppressions import Suppression
from nccl_bench.audit.program import Program
from nccl_bench.cli.launched_audit import print_audit
from nccl_bench.cli.output import OutputConfig
from nccl_bench.launch.audit import describe_failure, describe_hang
from nccl_bench.launch.audit_directory import meeting_directory
from nccl_bench.launch.launchers import Attachment

# After the program of another rank has failed, this rank has this much time to end by itself.
_GRACE_S = 3.0
# If a rank ends, the launcher ends all ranks. So a rank whose program has failed waits this long for the report.
_REPORT_S = 20.0
_POLL_S = 0.1
_TERMINATED = "The launcher ended the program with SIGTERM, most likely because another rank had ended"


def audit_attached(
    program: Program,
    attachment: Attachment,
    timeout_s: float,
    every: int,
    suppressions: Sequence[Suppression],
    output: OutputConfig,
) -> NoReturn:
    """Run ``program`` under watch as one rank of a launch. The first rank of each node reports for all ranks there."""
    # Import here: these modules load torch, which only a rank needs.
    from nccl_bench.audit.activity import Activity
    from nccl_bench.audit.rank import WatchedRank

    os.environ.update(attachment.torch_variables)
    directory = meeting_directory(attachment)
    activity = Activity(directory, timeout_s)
    world_size = attachment.local_world_size or attachment.world_size
    # The main thread reports if the program ends. The thread that writes findings reports if the program hangs. The
    # faster thread takes this lock and never releases it.
    leaving = threading.Lock()
    termination = _Termination()

    def report(hang: str = "", failure: str = "") -> NoReturn:
        leaving.acquire()
        sys.stdout.flush()
        ranks = read_findings(directory)
        # If the launcher ended this rank, another rank had failed before. So look for the reason in the other ranks.
        suspects = [each for each in ranks if each.rank != attachment.rank] if failure else ranks
        failure = describe_failure(suspects) or failure
        audit = join_ranks(program.text, world_size, ranks, suppressions, hang=hang, failure=failure)
        print_audit(audit, output)
        shutil.rmtree(directory, ignore_errors=True)
        _leave(audit.exit_code)

    def look(actions: int) -> None:
        activity.note(actions)
        if attachment.local_rank != 0:
            return
        failed_s = _failed_s(read_findings(directory))
        if activity.left_s() < 0:
            watched.write()
            report(hang=describe_hang(timeout_s))
        elif termination.has_come() or failed_s > _GRACE_S:
            watched.write()
            report(failure=_TERMINATED)

    watched = WatchedRank(attachment.rank, directory, Path.cwd(), every, look)
    end = watched.run(program).end
    assert end is not None
    if attachment.local_rank == 0:
        while not _all_ended(ranks := read_findings(directory), world_size):
            if activity.left_s() < 0:
                report(hang=describe_hang(timeout_s))
            if termination.has_come() or _failed_s(ranks) > _GRACE_S:
                break
            time.sleep(_POLL_S)
        report(failure=_TERMINATED if termination.has_come() else "")
    give_up = time.monotonic() + _REPORT_S
    while end.exit_code and directory.exists() and time.monotonic() < give_up:
        time.sleep(_POLL_S)
    _leave(end.exit_code)


class _Termination:
    """The SIGTERM with which a launcher ends a rank. Then the main thread raises, unless a C function blocks it."""

    def __init__(self) -> None:
        self._has_come = False
        # Python writes the numbers of signals into this pipe at once, even while the main thread is in a C function.
        self._numbers, writer = os.pipe()
        os.set_blocking(self._numbers, False)
        os.set_blocking(writer, False)
        signal.signal(signal.SIGTERM, self._raise)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def has_come(self) -> bool:
        """Return True if the signal has come. Any thread may call this."""
        with suppress(BlockingIOError):
            self._has_come |= signal.SIGTERM in os.read(self._numbers, 4096)
        return self._has_come

    def _raise(self, number: int, _frame: FrameType | None) -> NoReturn:
        self._has_come = True
        raise SystemExit(128 + number)


def _all_ended(ranks: Sequence[RankFindings], world_size: int) -> bool:
    return sum(each.end is not None for each in ranks) == world_size


def _failed_s(ranks: Sequence[RankFindings]) -> float:
    """Return the seconds since the program of a rank failed, of the first such rank; 0 if no program failed."""
    ends = [each.end.ended_at for each in ranks if each.end is not None and each.end.exit_code]
    return time.monotonic() - min(ends) if ends else 0.0


def _leave(code: int) -> NoReturn:
    """End the process immediately: the destructor of a library may wait for another rank."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
