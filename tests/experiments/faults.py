"""Measure what each fault costs a run: what is lost, and how long no rank measures. Takes half an hour on the CPU.

    python -m tests.experiments.faults

Each row of the table is one fault. "cases lost" has the most cases that one fault cost besides the case in hand.
"seconds" is the time from the fault, or from the deadline that the fault let pass, until the next line was measured. If
the fault ends the command, it is the time until no process was left. A full disk needs the rights to mount one.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.support.fault_runs import Injection
from tests.support.fault_table import LAUNCH_FAULTS, RUNS, inject, table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--injections", type=int, default=20, help="How often each fault is injected. Default: 20.")
    parser.add_argument("--runs", nargs="*", choices=RUNS, default=RUNS, help="Default: all.")
    arguments = parser.parse_args()
    injections: list[Injection] = []
    with tempfile.TemporaryDirectory() as directory:
        for name in arguments.runs:
            # One run takes all faults of a launch. Every other fault needs a run of its own.
            runs = 1 if name == LAUNCH_FAULTS else arguments.injections
            for number in range(runs):
                place = Path(directory) / f"{name.replace(' ', '-')}-{number}"
                injections += inject(name, place, arguments.injections).injections
    print(table(injections))


if __name__ == "__main__":
    main()
