"""Measure the time and the CPU time of ``nccl-bench compare`` for runs of 100,000 samples each. Takes about 3 minutes.

python -m tests.experiments.compare_speed
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

from nccl_bench.catalog.arms import twin_of
from nccl_bench.catalog.collectives import COLLECTIVES
from nccl_bench.catalog.timings import Timing
from nccl_bench.records.store import RunStatus, RunStore
from tests.support.synthetic_runs import SIZES, case, meta, samples

BASE, NEW = "dedicated-stream", "stream-free"
_US = {BASE: 10.0, twin_of(BASE): 10.0, NEW: 8.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The shape of a synthetic run. Each case has ``BASE``, its twin and ``NEW`` in every timing."""

    collectives: Sequence[str]
    sizes: Sequence[int]  # bytes
    timings: Sequence[Timing]
    rounds: int  # samples of each arm in each case and timing


_THREE = (Timing.EAGER, Timing.GATED, Timing.GRAPH)
SHAPES = {
    "12 cells of 8,400 rounds": Shape(
        collectives=("all_reduce",), sizes=SIZES[:4], timings=(Timing.GATED,), rounds=8_400
    ),
    "1,764 cells of 60 rounds": Shape(collectives=tuple(COLLECTIVES), sizes=SIZES, timings=_THREE, rounds=60),
    "12,348 cells of 9 rounds": Shape(
        collectives=tuple(COLLECTIVES), sizes=range(8, 8 + 8 * 196, 8), timings=_THREE, rounds=9
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        commands: dict[str, list[str]] = {}
        for name, shape in SHAPES.items():
            runs = [_write(Path(scratch) / f"{shape.rounds}-{number}", shape, number) for number in range(6)]
            commands |= {f"{name}: {sides}": command for sides, command in _commands(runs).items()}
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        # The commands alternate, so that a machine that becomes slower does so for all of them.
        for _ in range(arguments.repeats):
            for name, command in commands.items():
                seconds[name].append(_timed(command))
    for name, times in seconds.items():
        whole, cpu = (median(column) for column in zip(*times, strict=True))
        slowest = max(elapsed for elapsed, _ in times)
        print(f"{name}: {whole:.2f} s (at most {slowest:.2f} s), {cpu:.2f} s of CPU time")


def _commands(runs: Sequence[str]) -> dict[str, list[str]]:
    return {
        "one run a side": [runs[0], runs[1]],
        "two arms of one run": [runs[0], "--arms", f"{BASE},{NEW}"],
        "two runs a side": [",".join(runs[:2]), ",".join(runs[2:4])],
        "three runs a side": [",".join(runs[:3]), ",".join(runs[3:])],
    }


def _write(path: Path, shape: Shape, seed: int) -> str:
    """Write a run whose arms differ, whose cases all take the same time, and whose rounds vary by 1 %."""
    noise = random.Random(seed)
    fields = meta(arms=[BASE, NEW], baseline=BASE)
    store = RunStore.create(path, **{key: fields[key] for key in _FIELDS})
    for collective in shape.collectives:
        for size_bytes in shape.sizes:
            for timing in shape.timings:
                for arm, us in _US.items():
                    times = tuple(us * noise.lognormvariate(0, 0.01) for _ in range(shape.rounds))
                    store.append(samples(arm, timing, case=case(size_bytes, collective), samples_us=times))
    store.finish(RunStatus.COMPLETE)
    return str(path)


_FIELDS = ("name", "command", "config", "launch", "left_out", "environment")


def _timed(command: Sequence[str]) -> tuple[float, float]:
    """Run the command; return the seconds it took and the seconds of CPU time."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), perf_counter()
    subprocess.run([sys.executable, "-m", "nccl_bench", "compare", *command], check=True, stdout=subprocess.DEVNULL)
    whole, after = perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return whole, sum(getattr(after, name) - getattr(before, name) for name in ("ru_utime", "ru_stime"))


if __name__ == "__main__":
    main()
