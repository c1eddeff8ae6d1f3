"""A rank's process from its first word to its last, whatever it was started to do."""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist

from nccl_bench.ranks.failure import Failure
from nccl_bench.ranks.progress import ASK_FOR_STACKS, Progress, stacks_file

# Loading CUDA and connecting the first communicator can take this long on a cold node, whatever a case may take.
SETUP_TIMEOUT_S = 300.0
# Deadlines are kept by whoever watches the ranks; torch's own timeouts must not come first, whatever --timeout is.
NEVER = timedelta(days=366)
# The index of what comes before the first case.
SETUP = -1


def world_group() -> dist.ProcessGroup:
    """The group of all ranks, which ``init_process_group`` made."""
    group = dist.group.WORLD
    assert group is not None
    return group


def run_rank(scratch: Path, body: Callable[[Progress], None]) -> None:
    """Run ``body`` as the rank that torchrun's RANK and LOCAL_RANK name; its position is kept in ``scratch``.

    Where ``body`` raises, a ``Failure`` is left in ``scratch`` and the process ends with the error's exit code.
    """
    progress = Progress(scratch, int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"]))
    # Open for as long as the process lives: the handler writes to its number.
    stacks = stacks_file(scratch, progress.position.rank).open("w", encoding="utf-8")
    faulthandler.register(ASK_FOR_STACKS, file=stacks, all_threads=True)
    try:
        body(progress)
    except BaseException as error:  # noqa: BLE001 - whatever ended it is what the launcher has to tell
        failure = Failure.of(error, progress.position)
        failure.write(scratch)
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        # Not a return: destructors of a library that failed may wait for ranks that wait for this one.
        os._exit(failure.exit_code)
