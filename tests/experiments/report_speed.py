"""Measure how long ``nccl-bench report`` takes for a run of many sample lines, and its largest memory, by format.

python -m tests.experiments.report_speed --lines 100000

Each format is measured in a process of its own: loading, analysing and rendering one after the other. The whole command
takes a little longer, because Python starts and imports. Writing the record takes longer than reading it.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from time import perf_counter, process_time

from nccl_bench.catalog.arms import twin_of
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import COLLECTIVES
from nccl_bench.catalog.timings import Timing
from nccl_bench.plan.memory import Arena
from nccl_bench.records.schema import CaseEnd, Entry, Samples
from nccl_bench.records.store import RunStatus, RunStore
from nccl_bench.report import Format
from tests.support.synthetic_runs import ARMS, case, gpus, meta, samples

_BASELINE = "dedicated-stream"
_MEASURED = (*ARMS, twin_of(_BASELINE))
_DTYPES = ("bfloat16", "float16", "float32")
# Microseconds that an arm takes beyond the time for the bytes.
_LATENCY_US = {"stream-free": 8.0, _BASELINE: 12.0, "torch": 9.0, "torch-async": 12.1, twin_of(_BASELINE): 12.05}
_ROUNDS = 15
_PHASES = ("load", "analyse", "render")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=100_000, help="number of lines with samples")
    parser.add_argument("--launches", type=int, default=1, help="number of launches of the run")
    parser.add_argument("--formats", default=",".join(Format), help="formats, comma-separated")
    parser.add_argument("--keep", type=Path, help="directory for the record; one that exists is read again")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(_measure(arguments.keep, arguments.measure)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        directory = arguments.keep or Path(scratch) / "run"
        if not directory.exists():
            write(directory, arguments.lines, arguments.launches)
        size = (directory / "samples.jsonl").stat().st_size
        print(f"{arguments.lines} lines, {arguments.launches} launches, {size / 1e6:.0f} MB")
        for name in arguments.formats.split(","):
            command = [sys.executable, "-m", "tests.experiments.report_speed", "--measure", name, "--keep", directory]
            measured = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
            seconds = ", ".join(f"{phase} {measured[phase]:.2f} s" for phase in _PHASES)
            print(
                f"{name}: {seconds}; together {sum(measured[phase] for phase in _PHASES):.2f} s, CPU "
                f"{measured['cpu']:.2f} s with imports; {measured['characters'] / 1e6:.1f} MB of text; "
                f"peak memory {measured['peak_mb']:.0f} MB",
                flush=True,
            )


def write(directory: Path, lines: int, launches: int = 1) -> None:
    """Write a record of ``lines`` lines with samples, with the writer of the package."""
    fields = meta(launches=launches)
    fields = {name: fields[name] for name in ("name", "command", "config", "launch", "left_out", "environment")}
    cases = -(-lines // (launches * len(Timing) * len(_MEASURED)))
    store = RunStore.create(directory, cases=cases, **fields)
    block: list[Entry] = []
    for entry in _entries(cases, launches):
        block.append(entry)
        if len(block) == 1000:
            store.append(*block)
            block.clear()
    store.append(*block)
    store.finish(RunStatus.COMPLETE)


def _entries(cases: int, launches: int) -> Iterator[Entry]:
    noise = random.Random(1)
    order = list(range(len(_MEASURED)))
    for launch in range(1, launches + 1):
        for of_case in _cases(cases):
            for timing in Timing:
                arms_before = []
                for _ in range(_ROUNDS):
                    noise.shuffle(order)
                    arms_before.append(tuple(order))
                by_arm = list(zip(*arms_before, strict=True))
                for arm, before in zip(_MEASURED, by_arm, strict=True):
                    yield _samples(noise, of_case, timing, arm, before, launch)
            yield CaseEnd(case=of_case, launch=launch)


def _cases(number: int) -> list[Case]:
    kinds = [(collective, dtype) for dtype, collective in product(_DTYPES, COLLECTIVES)]
    sizes = -(-number // len(kinds))
    cases = [
        replace(case(64 * index, collective), dtype=dtype)
        for collective, dtype in kinds
        for index in range(1, sizes + 1)
    ]
    return cases[:number]


def _samples(
    noise: random.Random, of_case: Case, timing: Timing, arm: str, arms_before: tuple[int, ...], launch: int
) -> Samples:
    time_us = _LATENCY_US[arm] + of_case.size_bytes / 220_000
    times_us = tuple(round(time_us * noise.lognormvariate(0, 0.01), 6) for _ in range(_ROUNDS))
    return samples(
        arm,
        timing,
        case=of_case,
        samples_us=times_us,
        fastest_rank_us=tuple(round(each * 0.995, 6) for each in times_us),
        slowest_rank=tuple(noise.randrange(4) for _ in times_us),
        arms_before=arms_before,
        arena=Arena(slots=500, slot_bytes=512, regions=1),
        gpus=gpus(),
        launch=launch,
        late=0,
    )


def _measure(directory: Path, name: str) -> dict[str, float]:
    """Return the seconds of each phase of a report, the length of its text, and the largest memory of this process."""
    import io
    from contextlib import redirect_stdout

    from nccl_bench.analysis.analysis import Analysis
    from nccl_bench.cli.report import print_report
    from nccl_bench.records.run import Run

    times = [perf_counter()]
    run = Run.load(directory)
    times.append(perf_counter())
    analysis = Analysis.of(run)
    times.append(perf_counter())
    with redirect_stdout(io.StringIO()) as printed:
        print_report(analysis, Format(name), 160)
    times.append(perf_counter())
    phases = {phase: end - start for phase, start, end in zip(_PHASES, times, times[1:], strict=False)}
    return phases | {
        "cpu": process_time(),
        "characters": len(printed.getvalue()),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    main()
