"""The process of one rank from start to end, for a run or a verification."""

import faulthandler
import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from nccl_bench.ranks.failure import Failure, reserve_failure
from nccl_bench.ranks.progress import STACKS_SIGNAL, Progress, stacks_path
from nccl_bench.safety.secrets import masked

# The time limit for set-up, independent of --timeout. A cold node can need this long to load CUDA and to connect.
SETUP_TIMEOUT_S = 300.0
# The launcher watches the deadlines, so torch's own timeouts must never end a rank first.
NO_TIMEOUT = timedelta(days=366)
# The time from an exception to the end of its rank. torch's launcher looks at the ranks every 0.05 s.
_RAISED_S = 0.3
# The case index of a rank that has not begun its first case.
SETUP_INDEX = -1
_ended_groups: list[dist.ProcessGroup] = []


def default_group() -> dist.ProcessGroup:
    """Return torch.distributed's default group, which ``init_process_group`` made."""
    group = dist.group.WORLD
    assert group is not None
    return group


def destroy_group(group: dist.ProcessGroup) -> None:
    """Destroy ``group``, whose collectives must have ended."""
    # torch before 2.8 waits for the threads of Gloo while it holds the GIL, which they may need (pytorch #154976). So
    # keep the group until the interpreter ends. By then no thread of the group is at work.
    if torch.__version__ < "2.8" and dist.get_backend(group) == "gloo":
        _ended_groups.append(group)
    dist.destroy_process_group(group)


def run_rank(scratch: Path, body: Callable[[Progress], None]) -> None:
    """Run ``body`` as the rank that RANK and LOCAL_RANK give, and write its position into ``scratch``.

    If ``body`` raises, write a ``Failure`` into ``scratch`` and end the process with the exit code of the error.
    """
    progress = Progress(scratch, int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"]))
    reserve_failure(scratch, progress.position.rank)
    path = stacks_path(scratch, progress.position.rank)
    part = path.with_name(f".{path.name}")
    # Do not close this file: faulthandler keeps its descriptor.
    faulthandler.register(STACKS_SIGNAL, file=part.open("w", encoding="utf-8"), all_threads=True)
    # The launcher sends the signal only if `path` exists, so create `path` after the handler.
    part.replace(path)
    try:
        body(progress)
    except BaseException as error:  # noqa: BLE001 - the launcher reports whatever ended the rank
        failure = Failure.of(error, progress.position)
        failure.write(scratch)
        # The rank's log can be on a full disk.
        with suppress(OSError):
            sys.stderr.write(masked("".join(traceback.format_exception(error))))
            sys.stderr.flush()
        # If the error is due to the end of another rank, let torch's launcher see that end first.
        time.sleep(_RAISED_S)
        # Do not return: the destructor of a library may wait for another rank that waits for this rank.
        os._exit(failure.exit_code)
