"""An audit in which this process is one of the ranks that another launcher started."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Sequence
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

# After the program of another rank has failed, this rank has so long to end by itself.
_GRACE_S = 3.0
# A rank whose program has failed waits so long for the report, because its end makes the launcher end all ranks.
_REPORT_S = 20.0
_POLL_S = 0.1


def audit_attached(
    program: Program,
    attachment: Attachment,
    timeout_s: float,
    every: int,
    suppressions: Sequence[Suppression],
    output: OutputConfig,
) -> NoReturn:
    """Run ``program`` under watch as one rank of a launch. The first rank of each node reports for all of its node."""
    # These imports load torch, which a rank needs.
    from nccl_bench.audit.activity import Activity
    from nccl_bench.audit.rank import WatchedRank

    os.environ.update(attachment.torch_variables)
    directory = meeting_directory(attachment)
    activity = Activity(directory, timeout_s)
    world_size = attachment.local_world_size or attachment.world_size
    # The main thread reports if the program ends, and the thread that writes findings if it does not. The faster one
    # takes this lock and never releases it.
    leaving = threading.Lock()
    terminated = _note_termination()

    def report(hang: str = "", failure: str = "") -> NoReturn:
        leaving.acquire()
        sys.stdout.flush()
        ranks = read_findings(directory)
        failure = describe_failure(ranks) or failure
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
        elif terminated.is_set() or failed_s > _GRACE_S:
            watched.write()
            report(failure="The program was ended by a signal")

    watched = WatchedRank(attachment.rank, directory, Path.cwd(), every, look)
    end = watched.run(program).end
    assert end is not None
    if attachment.local_rank == 0:
        while not _all_ended(ranks := read_findings(directory), world_size):
            activity.note(0)
            if activity.left_s() < 0:
                report(hang=describe_hang(timeout_s))
            if terminated.is_set() or _failed_s(ranks) > _GRACE_S:
                break
            time.sleep(_POLL_S)
        report()
    give_up = time.monotonic() + _REPORT_S
    while end.exit_code and directory.exists() and time.monotonic() < give_up:
        time.sleep(_POLL_S)
    _leave(end.exit_code)


def _note_termination() -> threading.Event:
    """Return an event that is set when the launcher ends this rank with SIGTERM; the main thread then raises."""
    terminated = threading.Event()

    def end(number: int, _frame: FrameType | None) -> NoReturn:
        terminated.set()
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    return terminated


def _all_ended(ranks: Sequence[RankFindings], world_size: int) -> bool:
    return sum(each.end is not None for each in ranks) == world_size


def _failed_s(ranks: Sequence[RankFindings]) -> float:
    """Return for how many seconds a rank has been waiting whose program failed; 0 without one."""
    ends = [each.end.ended_at for each in ranks if each.end is not None and each.end.exit_code]
    return time.monotonic() - min(ends) if ends else 0.0


def _leave(code: int) -> NoReturn:
    """End the process immediately: the destructor of a library may wait for another rank."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
