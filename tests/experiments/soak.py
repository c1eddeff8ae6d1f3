"""Measure whether a long run keeps its memory, its handles and its pace. Takes some minutes on the CPU.

    python -m tests.experiments.soak

The run has 5,000 cases. The output compares the first tenth of the run with the last tenth: for the command, its agent
and each rank, the resident memory, the memory that the process shares with no other process, the open files, the
threads, and the processor time per case; and for the whole run the time per case.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import linear_regression, mean

import psutil

from tests.support.command import Sandbox
from tests.support.launched_processes import LaunchedProcesses

# A process is looked at this often. Reading its private memory stops it for some milliseconds.
POLL_S = 1.0
# The first cases fill caches.
WARM_CASES = 50
FIRST_SIZE_BYTES = 4096
STEP_BYTES = 4
# With one buffer, the memory of a case hardly depends on its size.
OPTIONS = ("--timing", "eager", "--rounds", "1", "--max-rounds", "1", "-w", "1", "-n", "2", "--same-buffer")
MIB = 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """The state of a process at a moment of the run."""

    case: int  # the index of the case at work
    resident_mib: float  # the memory that is in use, with what other processes share
    private_mib: float  # the memory that only this process uses
    files: int  # the open files
    threads: int  # the threads
    cpu_s: float  # the processor time since the start of the process


QUANTITIES = ("resident_mib", "private_mib", "files", "threads")


def observe(process: psutil.Process, case: int) -> Observation:
    """Return what ``process`` uses while the run is at ``case``."""
    memory = process.memory_full_info()
    return Observation(
        case=case,
        resident_mib=memory.rss / MIB,
        private_mib=memory.uss / MIB,
        files=process.num_fds(),
        threads=process.num_threads(),
        cpu_s=sum(process.cpu_times()[:2]),
    )


def watch(
    command: subprocess.Popen[str], launched: LaunchedProcesses, cases: int
) -> tuple[dict[str, list[Observation]], list[tuple[int, float]]]:
    """Return the observations of each process by its name, and the time at which each of some cases began."""
    observations: dict[str, list[Observation]] = defaultdict(list)
    times: list[tuple[int, float]] = []
    while command.poll() is None:
        positions = launched.positions()
        if positions and positions[0].case_index >= cases:
            break
        if len(positions) == 2 and positions[0].case_index >= WARM_CASES:
            times.append((positions[0].case_index, time.monotonic()))
            for name, pid in launched.by_name().items():
                observations[name].append(observe(psutil.Process(pid), positions[0].case_index))
        time.sleep(POLL_S)
    return observations, times


def row(name: str, quantity: str, cases: Sequence[int], values: Sequence[float]) -> str:
    """Return a line with the mean of the first tenth of ``values``, that of the last tenth, and the slope."""
    tenth = max(1, len(values) // 10)
    slope = linear_regression(cases, values).slope * 1000
    return f"{name:16} {quantity:15} {mean(values[:tenth]):11.1f} {mean(values[-tenth:]):11.1f} {slope:+15.3f}"


def pace(name: str, quantity: str, clock: Sequence[tuple[int, float]]) -> str:
    """Return the line of the milliseconds per case. ``clock`` has cases, each with the seconds at its start."""
    steps = [(before, after) for before, after in pairwise(clock) if after[0] > before[0]]
    values = [(after[1] - before[1]) / (after[0] - before[0]) * 1e3 for before, after in steps]
    return row(name, quantity, [before[0] for before, _ in steps], values)


def table(observations: dict[str, list[Observation]], times: list[tuple[int, float]]) -> str:
    """Return the table."""
    lines = [f"{'process':16} {'quantity':15} {'first tenth':>11} {'last tenth':>11} {'per 1000 cases':>15}"]
    for name, of_process in observations.items():
        cases = [each.case for each in of_process]
        for quantity in QUANTITIES:
            lines.append(row(name, quantity, cases, [float(getattr(each, quantity)) for each in of_process]))
        lines.append(pace(name, "CPU ms per case", [(each.case, each.cpu_s) for each in of_process]))
    return "\n".join([*lines, pace("run", "ms per case", times)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--arms", default="stream-free,torch")
    arguments = parser.parse_args()
    last_bytes = FIRST_SIZE_BYTES + (arguments.cases - 1) * STEP_BYTES
    sizes = f"{FIRST_SIZE_BYTES}:{last_bytes}:+{STEP_BYTES}"
    with tempfile.TemporaryDirectory() as directory:
        sandbox = Sandbox(Path(directory))
        start = time.monotonic()
        command = sandbox.start_quietly(
            "run", "--device", "cpu", "--nproc", "2", "--sizes", sizes, "--arms", arguments.arms, *OPTIONS
        )
        observations, times = watch(command, LaunchedProcesses(command.pid, sandbox.temporary), arguments.cases)
        code = command.wait()
        seconds = time.monotonic() - start
        sandbox.assert_nothing_is_left()
    print(table(observations, times))
    print(f"{arguments.cases} cases in {seconds:.0f} s, exit code {code}")


if __name__ == "__main__":
    main()
