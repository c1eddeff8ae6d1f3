"""Count the sizes at which the stream-free arm, slowed by 1 % and by 5 %, is called slower. Takes a minute on H200.

    python -m tests.experiments.power

The figures are in ``results/README.md``.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import Counter
from pathlib import Path

from nccl_bench.launch.hardware import gpu_count
from tests.experiments.measured import measure
from tests.experiments.slowed_arms import ORIGINAL, SLOWED


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--sizes", default="8:128M:x4")
    parser.add_argument("--launches", type=int, default=1, help="Launches of each run.")
    parser.add_argument("--max-seconds", type=float, help="For all launches of a run together.")
    parser.add_argument("--placement", default="in-place", help="A single rank needs out-of-place.")
    parser.add_argument("--out", type=Path, help="Directory that keeps the runs.")
    arguments = parser.parse_args()
    nproc = 2 if arguments.device == "cpu" else gpu_count(os.environ)
    verdicts = {name: Counter[str]() for name in SLOWED}
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(1, arguments.runs + 1):
            compared = measure(
                (arguments.out or Path(scratch)) / f"slowed-{number}",
                arguments.device,
                nproc,
                {
                    "arms": ",".join((ORIGINAL, *SLOWED)),
                    "baseline": ORIGINAL,
                    "sizes": arguments.sizes,
                    "placements": arguments.placement,
                    "timings": "gated",
                    "launches": arguments.launches,
                    "max_seconds": arguments.max_seconds,
                },
            )
            for cell in compared:
                verdicts[cell.candidate][str(cell.verdict)] += 1
                ratio, interval = cell.ratio, cell.interval
                bounds = f"{interval.low:.4f} to {interval.high:.4f}" if interval else "no interval"
                noise = "communicator variance unknown"
                if cell.noise_floor is not None:
                    noise = f"noise floor {cell.noise_floor:.4f}"
                if cell.communicator_variance is not None:
                    noise = f"differs by {cell.communicator_variance:.4f} from launch to launch"
                print(f"{cell.candidate} {cell.case.size_bytes} B: {cell.verdict}, {ratio:.4f} ({bounds}), {noise}")
    for name, counts in verdicts.items():
        print(f"{name}: {dict(counts)}")


if __name__ == "__main__":
    main()
