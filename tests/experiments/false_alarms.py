"""How often the stream-free arm is called faster or slower than itself."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import Counter
from pathlib import Path

from nccl_bench.analysis.statistics import Verdict
from nccl_bench.launch.hardware import gpu_count
from tests.experiments.measured import measure
from tests.experiments.planted import AGAIN, ORIGINAL


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--sizes")
    parser.add_argument("--timings", default="gated")
    parser.add_argument("--max-rounds", type=int, default=60)
    parser.add_argument("--placement", default="in-place", help="One rank alone does nothing in place.")
    parser.add_argument("--out", type=Path, help="Keep the runs here.")
    asked = parser.parse_args()
    nproc = 2 if asked.device == "cpu" else gpu_count(os.environ)
    sizes = asked.sizes or ("8,64K" if asked.device == "cpu" else "8:128M:x8")
    alarmed, verdicts = 0, Counter[str]()
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(1, asked.runs + 1):
            compared = measure(
                (asked.out or Path(scratch)) / f"itself-{number}",
                asked.device,
                nproc,
                {
                    "arms": f"{ORIGINAL},{AGAIN}",
                    "baseline": ORIGINAL,
                    "sizes": sizes,
                    "placements": asked.placement,
                    "timings": asked.timings,
                    "max_rounds": asked.max_rounds,
                },
            )
            verdicts.update(str(one.verdict) for one in compared)
            alarms = [one for one in compared if one.verdict in (Verdict.FASTER, Verdict.SLOWER)]
            alarmed += bool(alarms)
            for one in alarms:
                print(f"run {number}: {one.timing} {one.case.size_bytes} B {one.verdict}, {one.comparison.ratio:.3f}")
            print(f"run {number}: {len(compared)} cells, {len(alarms)} alarms", flush=True)
    decided = 1 - verdicts[Verdict.INCONCLUSIVE] / max(1, verdicts.total())
    print(
        f"{alarmed} of {asked.runs} runs with an alarm; {decided:.0%} of {verdicts.total()} cells decided: {verdicts}"
    )


if __name__ == "__main__":
    main()
