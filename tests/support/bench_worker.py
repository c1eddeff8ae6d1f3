"""A rank program that runs the benchmark's loop with changed arms, a scripted clock or little memory."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any
from unittest import mock

import torch.distributed as dist
from torch import Tensor

from nccl_bench.arms.arm import Operation
from nccl_bench.bench import case_run, per_iteration
from nccl_bench.bench.schedule import Schedule, make_schedule
from nccl_bench.bench.timing import Batch, Clock
from nccl_bench.plan.memory import WORKSPACE_BYTES
from nccl_bench.streams.cpu_device import CpuStreams
from tests.support.bench_defects import (
    chain,
    dropped_wait,
    inputs,
    late_writer,
    writes_late_alone,
    wrong_from_the_start,
    wrong_later,
    wrong_once,
)
from tests.support.bench_runs import MEASURED, SLOW_CALL_S, Bench
from tests.support.rank_processes import run_as_rank

MIB = 1024**2
BARRIER_SKEW_S = 0.2
SKEW_US = 20_000


class LittleMemory(CpuStreams):
    """CPU streams that report ``free`` bytes of free memory."""

    def __init__(self, free: int) -> None:
        super().__init__()
        self._free = free

    def memory(self) -> tuple[int, int]:
        return self._free, 2 * self._free


def unchanged(bench: Bench) -> object:
    """Run unchanged arms, with few single operations so that their percentiles take little time."""
    with mock.patch.object(per_iteration, "PER_ITERATION_OPERATIONS", 20):
        return bench.run(sizes="8,1K", rounds=5, per_iteration=True)


def late_rank(bench: Bench) -> object:
    """Run a collective to which the last rank comes late."""
    delays = f"0,{SKEW_US}"
    return bench.run(scenario="skew", delays=delays, arms="stream-free,torch", ops_per_batch=None, timings=None)


def little_memory(bench: Bench) -> object:
    """Run where rank 1 has memory for three slots of 4 MiB and for none of 64 MiB. Two ranks share a memory."""
    free = (WORKSPACE_BYTES + 22 * MIB) * 2 if bench.rank == 1 else 10**12
    streams = LittleMemory(round(free / 0.85) + 16)
    return bench.run(streams=streams, ranks_per_memory=2, sizes="1K,4M,64M,8K", timings="eager", rounds=1)


def tiny_gate(bench: Bench) -> object:
    """Run with gates of 1 ms and an arm whose calls take 16 ms a batch on rank 1's host."""

    def slow(operation: Operation, y: Tensor) -> Operation:
        def call() -> None:
            time.sleep(SLOW_CALL_S if bench.rank == 1 else 0)
            operation()

        return call

    def tiny(*arguments: Any, **options: Any) -> Schedule:
        schedule = make_schedule(*arguments, **options)
        return replace(schedule, gates_s=dict.fromkeys(schedule.gates_s, 1e-3))

    with mock.patch.object(case_run, "make_schedule", tiny):
        return bench.run(changed={"torch": slow}, timings="gated", arms="stream-free,torch")


def _scripted(bench: Bench, valid: Callable[[int], bool], gates: list[float]) -> AbstractContextManager[object]:
    """Replace measured gated batches with batches of known time and validity; note their gates in ``gates``."""

    def gated(clock: Clock, calls: object, gate_s: float) -> Batch:
        number = len(gates)
        gates.append(gate_s)
        return Batch(10.0 + number + 5.0 * ((number + bench.rank) % 2), valid(number), number + bench.rank / 4)

    return mock.patch.object(Clock, "gated", gated)


def scripted(bench: Bench) -> object:
    """Run with a gate that opens too early twice, on rank 1 only."""
    gates: list[float] = []
    with _scripted(bench, lambda number: not (bench.rank == 1 and number in (1, 2)), gates):
        result = bench.run(arms="torch", timings="gated", rounds=4)
    return {**result, "gates": gates}


def never_valid(bench: Bench) -> object:
    """Run with a gate that always opens too early on rank 1."""
    gates: list[float] = []
    with _scripted(bench, lambda number: bench.rank == 0, gates):
        result = bench.run(arms="torch", timings="gated", rounds=24)
    return {**result, "gates": gates}


def adaptive(bench: Bench, late_rank: int | None = None) -> object:
    """Run with equal times of eager batches and noisy times of gated ones; ``late_rank`` has no time left."""
    noise = random.Random(bench.rank)
    with (
        mock.patch.object(Clock, "eager", return_value=Batch(10.0, True, 0.0)),
        mock.patch.object(Clock, "gated", side_effect=lambda *_: Batch(noise.uniform(5, 15), True, 0.0)),
    ):
        return bench.run(
            arms="stream-free,dedicated-stream",
            timings="eager,gated",
            max_rounds=20,
            late=bench.rank == late_rank,
        )


def agreement(bench: Bench) -> object:
    """Return the results of the control group's operations on values that differ between the ranks."""
    rank, control = bench.rank, bench.control
    return {
        "maximum": control.maximum([1.5 + rank, -rank, 0.25]),
        "minimum": control.minimum(7 - rank),
        "sum": control.sum([rank, 2**40 + rank, 5]),
        "announce": control.broadcast({"from": rank, "values": (1, 2)}),
        "first": [
            control.first_message(message)
            for message in (f"from {rank}", "late" if rank == 1 else None, "" if rank == 1 else None, None)
        ],
        "batches": [
            [batch.slowest_us, batch.fastest_us, batch.slowest_rank, batch.valid, batch.began_s]
            for batch in control.reduce_batches(
                [[1.5, 7.25, 120e6, 2.0, 0.0], [2.5, 0.001, 3.0, 2.0, 0.0]][rank],
                [True, True, True, rank == 0, rank == 1],
                [[0.0, 1.25, 3e6, 1e-9, 7.0], [None] * 5][rank],
            )
        ],
    }


def meeting(bench: Bench) -> object:
    """Return when this rank entered a barrier and when it left, by the clock that both ranks share."""
    time.sleep(BARRIER_SKEW_S * bench.rank)
    entered = time.monotonic()
    bench.control.barrier()
    return {"entered": entered, "left": time.monotonic()}


def body(group: dist.ProcessGroup) -> object:
    """Do every run and return the results by name."""
    bench = Bench(group)
    results = {
        "unchanged": unchanged(bench),
        "from the second case": bench.run(sizes="8,1K", timings="eager", first_case=1),
        "unchecked": bench.run(
            changed={"torch": lambda operation, y: lambda: None}, check=False, timings="eager", rounds=1
        ),
        "same buffer": bench.run(same_buffer=True, timings="eager", rounds=1),
        "default stream": bench.run(caller_stream="default", rounds=1),
        "wrong from the start": wrong_from_the_start(bench),
        "all wrong": bench.run(changed=dict.fromkeys(MEASURED, lambda operation, y: lambda: None), timings="eager"),
        "wrong later": wrong_later(bench),
        "dropped wait": dropped_wait(bench),
        "late writer": late_writer(bench),
        "writes late alone": writes_late_alone(bench),
        "wrong once": wrong_once(bench),
        "inputs": inputs(bench),
        "chain": chain(bench),
        "late rank": late_rank(bench),
        "little memory": little_memory(bench),
        "tiny gate": tiny_gate(bench),
        "scripted": scripted(bench),
        "never valid": never_valid(bench),
        "overlap": bench.run(
            scenario="overlap", collectives="all_gather", arms="stream-free,dedicated-stream,torch-async", rounds=3
        ),
        "adaptive": adaptive(bench),
        "rank 0 is late": adaptive(bench, late_rank=0),
        "rank 1 is late": adaptive(bench, late_rank=1),
        "agreement": agreement(bench),
        "meeting": meeting(bench),
    }
    for arm in bench.arms.values():
        arm.close()
    return results


def main(spec_file: str) -> None:
    run_as_rank(body, spec_file)
