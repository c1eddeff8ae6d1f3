"""Whether a candidate slowed by 5 % is called slower, and one slowed by 1 % neither slower nor faster."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import Counter
from pathlib import Path

from nccl_bench.launch.hardware import gpu_count
from tests.experiments.measured import measure
from tests.experiments.planted import ORIGINAL, SLOWED


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--sizes", default="8:128M:x4")
    parser.add_argument("--placement", default="in-place", help="One rank alone does nothing in place.")
    parser.add_argument("--out", type=Path, help="Keep the runs here.")
    asked = parser.parse_args()
    nproc = 2 if asked.device == "cpu" else gpu_count(os.environ)
    verdicts = {name: Counter[str]() for name in SLOWED}
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(1, asked.runs + 1):
            compared = measure(
                (asked.out or Path(scratch)) / f"slowed-{number}",
                asked.device,
                nproc,
                {
                    "arms": ",".join((ORIGINAL, *SLOWED)),
                    "baseline": ORIGINAL,
                    "sizes": asked.sizes,
                    "placements": asked.placement,
                    "timings": "gated",
                },
            )
            for one in compared:
                verdicts[one.candidate][str(one.verdict)] += 1
                interval = one.comparison.interval
                bounds = f"{interval.low:.4f} to {interval.high:.4f}" if interval else "no interval"
                floor = f"{one.floor:.4f}" if one.floor is not None else "-"
                print(
                    f"{one.candidate} {one.case.size_bytes} B: {one.verdict}, {one.comparison.ratio:.4f} ({bounds}), "
                    f"floor {floor}, {one.comparison.pairs} pairs"
                )
    for name, found in verdicts.items():
        print(f"{name}: {dict(found)}")


if __name__ == "__main__":
    main()
