"""Count how often the stream-free arm is called faster or slower than itself.

    python -m tests.experiments.false_alarms --runs 6 --sizes 8:128M:x8 --timings gated,graph
    python -m tests.experiments.false_alarms --device cpu --runs 40

The figures are in ``results/README.md``. The first command takes 2 minutes on two H200, the second 5 minutes
on two cores.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import Counter
from pathlib import Path

from nccl_bench.analysis.statistics import Verdict
from nccl_bench.launch.hardware import gpu_count
from tests.experiments.measured import measure
from tests.experiments.slowed_arms import AGAIN, ORIGINAL


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--sizes")
    parser.add_argument("--timings", default="gated")
    parser.add_argument("--max-rounds", type=int, default=60)
    parser.add_argument("--launches", type=int, default=1, help="Launches of each run.")
    parser.add_argument("--max-seconds", type=float, help="For all launches of a run together.")
    parser.add_argument("--placement", default="in-place", help="A single rank needs out-of-place.")
    parser.add_argument("--out", type=Path, help="Directory that keeps the runs.")
    arguments = parser.parse_args()
    nproc = 2 if arguments.device == "cpu" else gpu_count(os.environ)
    sizes = arguments.sizes or ("8,64K" if arguments.device == "cpu" else "8:128M:x8")
    alarmed, verdicts = 0, Counter[str]()
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(1, arguments.runs + 1):
            compared = measure(
                (arguments.out or Path(scratch)) / f"itself-{number}",
                arguments.device,
                nproc,
                {
                    "arms": f"{ORIGINAL},{AGAIN}",
                    "baseline": ORIGINAL,
                    "sizes": sizes,
                    "placements": arguments.placement,
                    "timings": arguments.timings,
                    "max_rounds": arguments.max_rounds,
                    "launches": arguments.launches,
                    "max_seconds": arguments.max_seconds,
                },
            )
            verdicts.update(str(cell.verdict) for cell in compared)
            alarms = [cell for cell in compared if cell.verdict in (Verdict.FASTER, Verdict.SLOWER)]
            alarmed += bool(alarms)
            for cell in alarms:
                print(f"run {number}: {cell.timing} {cell.case.size_bytes} B {cell.verdict}, {cell.ratio:.3f}")
            print(f"run {number}: {len(compared)} cells, {len(alarms)} alarms", flush=True)
    total = verdicts.total()
    decided = 1 - verdicts[Verdict.INCONCLUSIVE] / max(1, total)
    print(f"{alarmed} of {arguments.runs} runs with an alarm; {decided:.0%} of {total} cells decided: {verdicts}")


if __name__ == "__main__":
    main()
