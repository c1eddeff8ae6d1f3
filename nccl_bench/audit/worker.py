"""The process of one rank of an audit, started as ``python -m nccl_bench.audit.worker SPEC_FILE``."""

import os
import sys
import time
from functools import partial
from pathlib import Path

from nccl_bench.audit.program import forget_exit_functions
from nccl_bench.audit.rank import WRITE_EVERY_S, WatchedRank
from nccl_bench.audit.spec import AuditSpec
from nccl_bench.ranks.process import run_rank
from nccl_bench.ranks.progress import Progress

# The file in the directory of findings whose time is that of the latest action of any rank.
_ALIVE = ".alive"
# The program is the only item of the work.
_PROGRAM_INDEX = 0


class _Activity:
    """The deadline of this rank, which moves while any rank does something."""

    def __init__(self, spec: AuditSpec, progress: Progress) -> None:
        self._alive = Path(spec.findings) / _ALIVE
        self._timeout_s = spec.timeout_s
        self._progress = progress
        self._actions = 0
        self._alive.touch()
        self._set_deadline()

    def note(self, actions: int) -> None:
        """Note how many actions this rank has done, and move the deadline."""
        if actions != self._actions:
            self._actions = actions
            self._alive.touch()
        self._set_deadline()

    def _set_deadline(self) -> None:
        idle_s = time.time() - self._alive.stat().st_mtime
        self._progress.update(
            case_index=_PROGRAM_INDEX, arm="", phase="the program", deadline_s=self._timeout_s - idle_s
        )


def run_program(spec: AuditSpec, progress: Progress) -> None:
    """Run the program of ``spec`` under watch, and end this process with an error if the program does."""
    activity = _Activity(spec, progress)
    forget_exit_functions()
    watched = WatchedRank(progress.position.rank, Path(spec.findings), Path(spec.directory), activity.note)
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
