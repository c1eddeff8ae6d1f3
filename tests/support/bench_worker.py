"""One rank of the benchmark's own loop, with its arms, its clock and its memory tampered with."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor

from nccl_bench.arms.arm import Arm, Operation
from nccl_bench.bench import case_run, per_iteration
from nccl_bench.bench.budget import Budget
from nccl_bench.bench.launch_memory import LaunchMemory
from nccl_bench.bench.record import Record
from nccl_bench.bench.runner import Runner
from nccl_bench.bench.schedule import Schedule, make_schedule
from nccl_bench.bench.timing import Batch, Clock
from nccl_bench.catalog.arms import twin_of
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.routes import Mode
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.config.run import resolve
from nccl_bench.plan.cases import make_plan
from nccl_bench.plan.memory import WORKSPACE_BYTES
from nccl_bench.ranks.control import Control
from nccl_bench.ranks.progress import Progress
from nccl_bench.streams.cpu_device import CpuStreams
from nccl_bench.transports.device import open_device
from tests.support.one_rank_run import MemoryStore, in_one_process_set
from tests.support.rank_processes import run_as_rank

MIB = 1024**2
ARMS = ("stream-free", "dedicated-stream", "torch")
MEASURED = (*ARMS, twin_of("dedicated-stream"))
# Right for the check before timing and not for long after it.
RIGHT_CALLS = 6
SLOW_CALL_S = 0.002
BARRIER_SKEW_S = 0.2


class Notes(Progress):
    """A progress that remembers where it has been."""

    def __init__(self, rank: int) -> None:
        super().__init__(None, rank, rank)
        self.visits: list[tuple[int, str, str]] = []

    def update(self, *, case_index: int, arm: str, phase: str, deadline_s: float | None) -> None:
        self.visits.append((case_index, arm, phase))
        super().update(case_index=case_index, arm=arm, phase=phase, deadline_s=deadline_s)


class Tampered(Arm):
    """An arm whose operations go through ``change`` with their output."""

    def __init__(self, arm: Arm, change: Callable[[Operation, Tensor], Operation]) -> None:
        self.name, self.spec, self.communicator = arm.name, arm.spec, arm.communicator
        self._arm, self._change = arm, change

    def bind(self, case: Case, x: Tensor, y: Tensor) -> Operation:
        return self._change(self._arm.bind(case, x, y), y)

    def paths(self, case: Case, x: Tensor, y: Tensor) -> dict[Mode, str]:
        return self._arm.paths(case, x, y)


class LittleMemory(CpuStreams):
    """A device with ``free`` bytes left."""

    def __init__(self, free: int) -> None:
        super().__init__()
        self._free = free

    def memory(self) -> tuple[int, int]:
        return self._free, 2 * self._free


class Bench:
    """This rank's part of a set-up that every scenario shares."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.control = Control(group)
        self.rank = self.control.rank
        self.device = device = open_device("cpu", 0)
        self.streams = device.streams
        aligner = StreamFreeCommunicator(group, device)
        tiny = torch.zeros(1)
        self.align = lambda: aligner.all_reduce(tiny)
        self.arms = {name: Arm(name, group, device) for name in (*MEASURED, twin_of("stream-free"))}
        self._notes = Notes(self.rank)

    @property
    def phase(self) -> str:
        """What the run is doing."""
        return self._notes.position.phase

    def run(
        self,
        *,
        tampered: Mapping[str, Callable[[Operation, Tensor], Operation]] | None = None,
        streams: Any = None,
        first_case: int = 0,
        ranks_per_memory: int = 1,
        late: bool = False,
        **layer: object,
    ) -> dict[str, Any]:
        """The lines of one small run, and where this rank has been; ``late`` if its time is up on this rank."""
        base = {"sizes": "1K", "rounds": 3, "ops_per_batch": 8, "warmup": 1, "timings": "eager,gated,enqueue"}
        rounds = layer.get("rounds", base["rounds"])
        config = resolve("cpu", {**base, "arms": ",".join(ARMS), "max_rounds": rounds, **layer})
        changes = tampered or {}
        arms = {
            name: Tampered(arm, changes[name]) if name in changes else arm
            for name, arm in self.arms.items()
            if name in config.measured_arms
        }
        store = MemoryStore()
        notes = self._notes = Notes(self.rank)
        Runner(
            config=config,
            plan=make_plan(config, self.control.world_size),
            device=replace(self.device, streams=streams or self.streams),
            arms=in_one_process_set(arms, self.control, notes),
            align=self.align,
            progress=notes,
            record=Record(store, {}, {}),
            budget=Budget(1e-9 if late else 1e9, time.monotonic()),
            launch_memory=LaunchMemory(streams or self.streams),
            ranks_per_memory=ranks_per_memory,
        ).run(first_case)
        return {"lines": [line.to_json() for line in store.lines], "visits": notes.visits}

    def plain(self) -> object:
        """Nothing is tampered with but the number of single operations, which is plenty for percentiles elsewhere."""
        with mock.patch.object(per_iteration, "PER_ITERATION_OPERATIONS", 20):
            return self.run(sizes="8,1K", rounds=5, per_iteration=True)

    def wrong_from_the_start(self) -> object:
        """One arm does nothing at all."""
        return self.run(tampered={"torch": lambda operation, y: lambda: None})

    def wrong_later(self) -> object:
        """One arm spoils its output on rank 1, once it has been checked and called for a while."""
        calls = 0

        def change(operation: Operation, y: Tensor) -> Operation:
            def call() -> None:
                nonlocal calls
                calls += 1
                operation()
                if self.rank == 1 and calls > RIGHT_CALLS:
                    self.streams.submit(y[:3].fill_, 0)

            return call

        return self.run(tampered={"torch": change}, timings="eager,gated")

    def inputs(self) -> object:
        """How many different inputs one arm meets while it is timed, after another that sums into the same slots."""
        met: set[tuple[float, ...]] = set()

        def change(operation: Operation, y: Tensor) -> Operation:
            def call() -> None:
                if self.phase in ("eager", "gated", "enqueue"):
                    self.streams.submit(lambda: met.add(tuple(y[:8].tolist())))
                operation()

            return call

        found = self.run(tampered={"torch": change}, arms="stream-free,torch")
        return {**found, "inputs": len(met)}

    def little_memory(self) -> object:
        """Rank 1 has room for three slots of 4 MiB, and for none of 64 MiB; the ranks share memory by two."""
        free = (WORKSPACE_BYTES + 22 * MIB) * 2 if self.rank == 1 else 10**12
        streams = LittleMemory(round(free / 0.85) + 16)
        return self.run(streams=streams, ranks_per_memory=2, sizes="1K,4M,64M,8K", timings="eager", rounds=1)

    def tiny_gate(self) -> object:
        """Gates of a millisecond, and calls of one arm that keep rank 1's host eight times as long."""

        def slow(operation: Operation, y: Tensor) -> Operation:
            def call() -> None:
                time.sleep(SLOW_CALL_S if self.rank == 1 else 0)
                operation()

            return call

        def tiny(*arguments: Any) -> Schedule:
            schedule = make_schedule(*arguments)
            return replace(schedule, gates_s=dict.fromkeys(schedule.gates_s, 1e-3))

        with mock.patch.object(case_run, "make_schedule", tiny):
            return self.run(tampered={"torch": slow}, timings="gated", arms="stream-free,torch")

    def _scripted(self, valid: Callable[[int], bool], gates: list[float]) -> AbstractContextManager[object]:
        """Gated batches of known times and validity instead of measured ones."""

        def gated(clock: Clock, calls: object, gate_s: float) -> Batch:
            number = len(gates)
            gates.append(gate_s)
            return Batch(10.0 + number + 5.0 * ((number + self.rank) % 2), valid(number))

        return mock.patch.object(Clock, "gated", gated)

    def scripted(self) -> object:
        """The gate opens early twice, on rank 1 alone."""
        gates: list[float] = []
        with self._scripted(lambda number: not (self.rank == 1 and number in (1, 2)), gates):
            found = self.run(arms="torch", timings="gated", rounds=4)
        return {**found, "gates": gates}

    def never_valid(self) -> object:
        """The gate never holds on rank 1."""
        gates: list[float] = []
        with self._scripted(lambda number: self.rank == 0, gates):
            found = self.run(arms="torch", timings="gated", rounds=24)
        return {**found, "gates": gates}

    def adaptive(self, late_rank: int | None = None) -> object:
        """Eager batches that all take the same time, and gated ones that do not; time is up on ``late_rank``."""
        noise = random.Random(self.rank)
        with (
            mock.patch.object(Clock, "eager", return_value=Batch(10.0, True)),
            mock.patch.object(Clock, "gated", side_effect=lambda *_: Batch(noise.uniform(5, 15), True)),
        ):
            return self.run(
                arms="stream-free,dedicated-stream",
                timings="eager,gated",
                max_rounds=20,
                late=self.rank == late_rank,
            )

    def agreement(self) -> object:
        """What the control group makes of different values on each rank."""
        rank, control = self.rank, self.control
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
                [batch.slowest_us, batch.fastest_us, batch.slowest_rank, batch.valid]
                for batch in control.reduce_batches(
                    [[1.5, 7.25, 120e6, 2.0, 0.0], [2.5, 0.001, 3.0, 2.0, 0.0]][rank],
                    [True, True, True, rank == 0, rank == 1],
                )
            ],
        }

    def meeting(self) -> object:
        """When this rank came to a barrier and when it left, on the clock that both share."""
        time.sleep(BARRIER_SKEW_S * self.rank)
        came = time.monotonic()
        self.control.barrier()
        return {"came": came, "left": time.monotonic()}


def body(group: dist.ProcessGroup) -> object:
    """Every scenario in turn."""
    bench = Bench(group)
    found = {
        "plain": bench.plain(),
        "from the second case": bench.run(sizes="8,1K", timings="eager", first_case=1),
        "unchecked": bench.run(
            tampered={"torch": lambda operation, y: lambda: None}, check=False, timings="eager", rounds=1
        ),
        "same buffer": bench.run(same_buffer=True, timings="eager", rounds=1),
        "default stream": bench.run(caller_stream="default", rounds=1),
        "wrong from the start": bench.wrong_from_the_start(),
        "all wrong": bench.run(tampered=dict.fromkeys(MEASURED, lambda operation, y: lambda: None), timings="eager"),
        "wrong later": bench.wrong_later(),
        "inputs": bench.inputs(),
        "little memory": bench.little_memory(),
        "tiny gate": bench.tiny_gate(),
        "scripted": bench.scripted(),
        "never valid": bench.never_valid(),
        "adaptive": bench.adaptive(),
        "rank 0 is late": bench.adaptive(late_rank=0),
        "rank 1 is late": bench.adaptive(late_rank=1),
        "agreement": bench.agreement(),
        "meeting": bench.meeting(),
    }
    for arm in bench.arms.values():
        arm.close()
    return found


if __name__ == "__main__":
    run_as_rank(body)
