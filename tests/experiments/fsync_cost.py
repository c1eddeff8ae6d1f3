"""Measure which share of a sweep rank 0 waits until its record is on the disk. Takes about a minute on the CPU.

    python -m tests.experiments.fsync_cost

The figure is in the guide's page about measuring. It depends on the disk: ``--out`` chooses the directory of the run.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

from nccl_bench.launch.hardware import gpu_count
from tests.experiments.measured import measure
from tests.experiments.timed_fsync import TIMES, WORKER


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cpu")
    parser.add_argument("--sizes", help="The sizes of the sweep. Default: those of the command.")
    parser.add_argument("--out", type=Path, help="A new directory that keeps the run. Default: one in this directory.")
    arguments = parser.parse_args()
    nproc = 2 if arguments.device == "cpu" else gpu_count(os.environ)
    options = {} if arguments.sizes is None else {"sizes": arguments.sizes}
    # A directory for temporary files can be in memory, where waiting costs nothing.
    with tempfile.TemporaryDirectory(dir=".") as scratch:
        run = arguments.out or Path(scratch) / "fsync"
        measure(run, arguments.device, nproc, options, worker=WORKER)
        times = json.loads((run / TIMES).read_text(encoding="utf-8"))
    waits_s = times["waits_s"]
    print(
        f"{times['cases']} cases in {times['sweep_s']:.1f} s; {len(waits_s)} waits for the disk of "
        f"{sum(waits_s) * 1e3:.1f} ms, the longest {max(waits_s) * 1e3:.1f} ms: "
        f"{sum(waits_s) / times['sweep_s']:.3%} of the sweep"
    )


if __name__ == "__main__":
    main()
