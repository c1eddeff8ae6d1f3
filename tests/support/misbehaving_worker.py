"""A rank program without torch that walks through the cases and misbehaves in some of them.

The file ``ACTS`` in the run directory is JSON. It maps the index of a case to rank 1's act in it: ``raise``, ``kill``,
``hang``, ``stop`` (a hang in which rank 1 has stopped itself and is ahead), ``stubborn`` (a hang with a far deadline
that ignores SIGTERM), or ``kill beside a stopped rank`` (rank 0 has stopped itself before). Only the first try of a
case has its act: no later case is done yet.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import psutil

from nccl_bench.ranks.failure import Failure
from nccl_bench.ranks.progress import Progress, read_positions
from nccl_bench.ranks.spec import WorkerSpec

# The deadline that a hang misses. No other act comes near its own.
HANG_S = 0.5
DEADLINE_S = 60
ACTS = "acts.json"
BESIDE_STOPPED = "kill beside a stopped rank"


def misbehave(act: str) -> None:
    if act == "raise":
        raise ValueError("planted")
    if act == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if act.startswith("kill"):
        sys.stderr.write("last words\n")
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    if act == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def wait_until_stopped(scratch: Path, rank: int) -> None:
    while all(
        psutil.Process(position.pid).status() != psutil.STATUS_STOPPED
        for position in read_positions(scratch)
        if position.rank == rank
    ):
        time.sleep(0.01)


def done_cases(done: Path) -> list[int]:
    """Return the indices of the cases that are done."""
    return [int(line) for line in done.read_text(encoding="ascii").split()] if done.exists() else []


def main(spec_file: str) -> None:
    spec = WorkerSpec.read(Path(spec_file))
    assert spec.scratch is not None
    assert spec.run_dir is not None
    scratch, done = Path(spec.scratch), Path(spec.run_dir) / "done"
    acts = json.loads((Path(spec.run_dir) / ACTS).read_text(encoding="utf-8"))
    rank = int(os.environ["RANK"])
    progress = Progress(scratch, rank, int(os.environ["LOCAL_RANK"]))
    progress.update(case_index=-1, arm="", phase="set-up", deadline_s=DEADLINE_S)
    try:
        for index in (*([-1] if "-1" in acts else []), *(spec.cases or ())):
            act = None if any(other > index for other in done_cases(done)) else acts.get(str(index))
            waiting, hangs = Path(spec.run_dir) / f"waiting-{index}", rank == 1 and act == "hang"
            # On a busy machine too, rank 1 is the one that is behind when its deadline passes.
            while hangs and not waiting.exists():
                time.sleep(0.01)
            deadline_s = HANG_S if hangs or act == "stop" else DEADLINE_S
            progress.update(case_index=index, arm="torch", phase="timed", deadline_s=deadline_s)
            if rank == 1 and act == "stop":
                for _ in range(5):
                    progress.update(case_index=index, arm="torch", phase="ahead", deadline_s=None)
            if act == BESIDE_STOPPED:
                if rank == 0:
                    os.kill(os.getpid(), signal.SIGSTOP)
                wait_until_stopped(scratch, rank=0)
            if rank == 1 and act is not None:
                misbehave(act)
            progress.update(case_index=index, arm="torch", phase="waiting", deadline_s=None)
            if act is not None:
                waiting.touch()
                time.sleep(600)
            if rank == 0:
                with done.open("a", encoding="ascii") as file:
                    file.write(f"{index}\n")
            # Collectives keep real ranks in step; these wait for rank 0.
            while index not in done_cases(done):
                time.sleep(0.01)
    except ValueError as error:
        Failure.of(error, progress.position).write(scratch)
        os._exit(3)
    progress.finish()
