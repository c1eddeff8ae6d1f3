"""The process of one rank of an audit, started as ``python -m nccl_bench.audit.worker SPEC_FILE``."""

import os
import sys
import time
from functools import partial
from pathlib import Path

from nccl_bench.audit.activity import Activity
from nccl_bench.audit.program import forget_exit_functions
from nccl_bench.audit.rank import WRITE_EVERY_S, WatchedRank
from nccl_bench.audit.spec import AuditSpec
from nccl_bench.ranks.process import run_rank
from nccl_bench.ranks.progress import Progress

# The program is the only item of the work.
_PROGRAM_INDEX = 0


def run_program(spec: AuditSpec, progress: Progress) -> None:
    """Run the program of ``spec`` under watch, and end this process with an error if the program does."""
    activity = Activity(Path(spec.findings), spec.timeout_s)

    def set_deadline(actions: int) -> None:
        activity.note(actions)
        progress.update(case_index=_PROGRAM_INDEX, arm="", phase="the program", deadline_s=activity.left_s())

    set_deadline(0)
    forget_exit_functions()
    watched = WatchedRank(progress.position.rank, Path(spec.findings), Path(spec.directory), spec.every, set_deadline)
    end = watched.run(spec.program).end
    sys.stdout.flush()
    sys.stderr.flush()
    if end is not None and end.exit_code:
        # The launcher ends the other ranks at once. Let them write what they have found.
        time.sleep(2 * WRITE_EVERY_S)
        # Do not return: the destructor of a library may wait for another rank that waits for this rank.
        os._exit(end.exit_code)
    progress.finish()


def main(spec_file: str) -> None:
    """Run one rank as the specification in ``spec_file`` says."""
    spec = AuditSpec.read(Path(spec_file))
    assert spec.scratch is not None
    run_rank(Path(spec.scratch), partial(run_program, spec))


if __name__ == "__main__":
    main(sys.argv[1])
