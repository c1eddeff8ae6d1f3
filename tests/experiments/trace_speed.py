"""Measures how long ``nccl-bench trace`` reads a large trace of torch.profiler, and the memory that it needs.

    python -m tests.experiments.trace_speed --megabytes 1000

The trace is made up of events as torch 2.11 writes them: operators, kernels, calls of torch.distributed, and replays of
graphs. The goal for 1,000 MB is at most 60 s and 500 MB. On a busy machine, look at the time of the CPU.
"""

from __future__ import annotations

import argparse
import gzip
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support import recordings

# How many operators and other kernels there are for each collective. In a real decode step there are about as many.
_OTHERS = 20
# How many calls of a step are eager and how many its graph has.
_EAGER, _CAPTURED = 4, 64
# Runs the command line, and reports the largest memory of its own process.
_COMMAND = """
import resource, sys
from nccl_bench.__main__ import main
sys.argv = sys.argv[1:]
try:
    main()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def other_events(number: int) -> Iterator[dict[str, Any]]:
    """Yield an operator, the launch of its kernel, the kernel, and the arrow between them."""
    operator = {
        "External id": number,
        "Record function id": 0,
        "Concrete Inputs": ["", ""],
        "Ev Idx": number,
        "Input type": ["c10::BFloat16", "c10::BFloat16"],
        "Input Strides": [[4096, 1], [6144, 1]],
        "Input Dims": [[512, 4096], [4096, 6144]],
    }
    kernel = {
        "External id": number,
        "queued": 0,
        "device": 0,
        "context": 1,
        "stream": 7,
        "correlation": number,
        "registers per thread": 168,
        "shared memory": 225652,
        "blocks per SM": 0.954545,
        "warps per SM": 11.454545,
        "grid": [2, 63, 1],
        "block": [384, 1, 1],
        "est. achieved occupancy %": 0,
    }
    at = {"pid": 961, "tid": 961, "ts": 5026986428282.149 + number, "dur": 3063.735}
    yield {"ph": "X", "cat": "cpu_op", "name": "aten::matmul", **at, "args": operator}
    yield {"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", **at, "args": {"correlation": number}}
    yield {"ph": "X", "cat": "kernel", "name": "nvjet_sm90_tst_128x8_64x12_2x1_v_bz_NNT", **at, "args": kernel}
    yield {"ph": "f", "id": number, "pid": 0, "tid": 7, "ts": at["ts"], "cat": "ac2g", "name": "ac2g", "bp": "e"}


def events_of_step(step: int) -> Iterator[dict[str, Any]]:
    """Yield the events of one step of a model: eager calls, then the replay of a graph."""
    first = step * 10_000
    for number in range(first, first + _EAGER):
        yield recordings.call(number, number)
        sized = {"External id": number, "Collective name": "allreduce"}
        yield recordings.kernel("AllReduce_Sum_bf16", number, number, **sized)
    launch = first + _EAGER
    yield {"ph": "X", "cat": "cuda_runtime", "name": "cudaGraphLaunch", "args": {"correlation": launch}}
    for number in range(_CAPTURED):
        yield recordings.kernel("AllReduce_Sum_bf16", launch + number / 100, launch)
    for number in range(first + 100, first + 100 + _OTHERS * (_EAGER + _CAPTURED)):
        yield from other_events(number)


def write_trace(file: Path, size: int) -> int:
    """Write a trace of about ``size`` bytes, and return the number of its steps."""
    head, tail = recordings.kineto(events=[]).split(b"[]}")[0] + b"[", b"]}"
    steps = written = 0
    with file.open("wb") as opened:
        opened.write(head)
        while written < size:
            text = ", ".join(map(json.dumps, events_of_step(steps))).encode()
            written += opened.write((b", " if steps else b"") + text)
            steps += 1
        opened.write(tail)
    return steps


def measured(file: Path, steps: int) -> str:
    """Read ``file`` in a new process, check the counts, and return what it took."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    command = [sys.executable, "-c", _COMMAND, "nccl-bench", "trace", str(file), "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = time.monotonic() - started
    cpu = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before.ru_utime
    counts = {row["mode"]: row["calls"] for row in json.loads(done.stdout)["ranks"][0]["messages"]}
    assert counts == {"eager": steps * _EAGER, "graph": steps * _CAPTURED}, counts
    megabytes = file.stat().st_size / 1e6
    peak = int(done.stderr.split()[-1]) * 1024 / 1e6
    took = f"{seconds:.1f} s ({cpu:.1f} s of the CPU)"
    return f"{file.name}: {megabytes:,.0f} MB in {took}, at most {peak:,.0f} MB of memory"


def main() -> None:
    """Write the trace, and read it plain and compressed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000, help="the size of the trace")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        plain, packed = Path(scratch, "trace.json"), Path(scratch, "trace.json.gz")
        steps = write_trace(plain, arguments.megabytes * 1_000_000)
        print(measured(plain, steps), flush=True)
        with plain.open("rb") as opened, gzip.open(packed, "wb", compresslevel=1) as compressed:
            while content := opened.read(2**20):
                compressed.write(content)
        print(measured(packed, steps))


if __name__ == "__main__":
    main()
