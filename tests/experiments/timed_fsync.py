"""A worker that adds up the time which rank 0 waits for the disk, and the time of the whole sweep."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from nccl_bench.bench import worker
from nccl_bench.bench.runner import Runner
from nccl_bench.ranks.spec import WorkerSpec

WORKER = "tests.experiments.timed_fsync"
# The file in the directory of the run.
TIMES = "fsync.json"


def main(spec_file: str) -> None:
    """Run one rank as ``nccl_bench.bench.worker`` does. Rank 0 writes the times into ``TIMES``."""
    run_dir = WorkerSpec.read(Path(spec_file)).run_dir
    fsync: Callable[[int], None] = os.fsync
    run: Callable[..., None] = Runner.run
    waits_s: list[float] = []

    def timed_fsync(descriptor: int) -> None:
        begin = perf_counter()
        fsync(descriptor)
        waits_s.append(perf_counter() - begin)

    def timed_run(runner: Runner, *arguments: Any) -> None:
        waits_s.clear()
        begin = perf_counter()
        run(runner, *arguments)
        times = {"sweep_s": perf_counter() - begin, "cases": len(runner.plan.cases), "waits_s": list(waits_s)}
        if os.environ["RANK"] == "0" and run_dir is not None:
            (Path(run_dir) / TIMES).write_text(json.dumps(times), encoding="utf-8")

    os.fsync = timed_fsync
    Runner.run = timed_run  # type: ignore[method-assign]
    worker.main(spec_file)


if __name__ == "__main__":
    main(sys.argv[1])
