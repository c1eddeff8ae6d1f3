"""A rank program that runs the benchmark's loop with changed arms, a scripted clock or little memory."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, cast
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
from nccl_bench.records.store import RunStore
from nccl_bench.streams.cpu_device import CpuStreams
from nccl_bench.transports.device import open_device
from tests.support.one_rank_run import MemoryStore, in_one_process_set
from tests.support.rank_processes import run_as_rank

MIB = 1024**2
ARMS = ("stream-free", "dedicated-stream", "torch")
MEASURED = (*ARMS, twin_of("dedicated-stream"))
# Calls that pass the check before timing. The spoiled arm is wrong from the next call on.
RIGHT_CALLS = 6
SLOW_CALL_S = 0.002
BARRIER_SKEW_S = 0.2
# The check of a result on the CPU takes far less time.
LATE_S = 0.05
SKEW_US = 20_000


class RecordedProgress(Progress):
    """A progress that keeps every position it was given."""

    def __init__(self, rank: int) -> None:
        super().__init__(None, rank, rank)
        self.visits: list[tuple[int, str, str]] = []

    def update(self, *, case_index: int, arm: str, phase: str, deadline_s: float | None) -> None:
        self.visits.append((case_index, arm, phase))
        super().update(case_index=case_index, arm=arm, phase=phase, deadline_s=deadline_s)


class ChangedArm(Arm):
    """An arm whose operations are replaced: ``change`` gets the operation and its output and returns the new one."""

    def __init__(self, arm: Arm, change: Callable[[Operation, Tensor], Operation]) -> None:
        self.name, self.spec, self.communicator = arm.name, arm.spec, arm.communicator
        self._arm, self._change = arm, change

    def bind(self, case: Case, x: Tensor, y: Tensor | None, keep: Any = None) -> Operation:
        assert y is not None
        return self._change(self._arm.bind(case, x, y), y)

    def paths(self, case: Case, x: Tensor, y: Tensor | None) -> dict[Mode, str]:
        return self._arm.paths(case, x, y)


class LittleMemory(CpuStreams):
    """CPU streams that report ``free`` bytes of free memory."""

    def __init__(self, free: int) -> None:
        super().__init__()
        self._free = free

    def memory(self) -> tuple[int, int]:
        return self._free, 2 * self._free


class Bench:
    """This rank's part of the set-up that all runs share."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group, self.control = group, Control(group)
        self.rank = self.control.rank
        self.device = device = open_device("cpu", 0)
        self.streams = device.streams
        aligner = StreamFreeCommunicator(group, device)
        tiny = torch.zeros(1)
        self.align = lambda: aligner.all_reduce(tiny)
        names = (*MEASURED, twin_of("stream-free"), "torch-async")
        self.arms = {name: Arm(name, group, device) for name in names}
        self._progress = RecordedProgress(self.rank)

    @property
    def phase(self) -> str:
        """The phase of the current run."""
        return self._progress.position.phase

    def run(
        self,
        *,
        changed: Mapping[str, Callable[[Operation, Tensor], Operation]] | None = None,
        streams: Any = None,
        first_case: int = 0,
        ranks_per_memory: int = 1,
        late: bool = False,
        **layer: object,
    ) -> dict[str, Any]:
        """Run a few small cases; return their lines and the positions of this rank.

        ``late`` uses up the run's time before it starts, on this rank only.
        """
        base = {"sizes": "1K", "rounds": 3, "ops_per_batch": 8, "warmup": 1, "timings": "eager,gated,enqueue"}
        rounds = layer.get("rounds", base["rounds"])
        config = resolve("cpu", {**base, "arms": ",".join(ARMS), "max_rounds": rounds, **layer})
        arms = {
            name: ChangedArm(arm, changed[name]) if changed and name in changed else arm
            for name, arm in self.arms.items()
            if name in config.measured_arms
        }
        store = MemoryStore()
        plan = make_plan(config, self.control.world_size)
        progress = self._progress = RecordedProgress(self.rank)
        Runner(
            config=config,
            plan=plan,
            device=replace(self.device, streams=streams or self.streams),
            arms=in_one_process_set(arms, self.group, progress),
            align=self.align,
            progress=progress,
            record=Record(cast(RunStore, store), {}, {}),
            budget=Budget(1e-9 if late else 1e9, time.monotonic()),
            launch_memory=LaunchMemory(streams or self.streams),
            ranks_per_memory=ranks_per_memory,
        ).run(range(first_case, len(plan.cases)))
        return {"lines": [line.to_json() for line in store.lines], "visits": progress.visits}

    def unchanged(self) -> object:
        """Run unchanged arms, with few single operations so that their percentiles take little time."""
        with mock.patch.object(per_iteration, "PER_ITERATION_OPERATIONS", 20):
            return self.run(sizes="8,1K", rounds=5, per_iteration=True)

    def wrong_from_the_start(self) -> object:
        """Run with an arm that does nothing."""
        return self.run(changed={"torch": lambda operation, y: lambda: None})

    def wrong_later(self) -> object:
        """Run with an arm that spoils its output on rank 1 after ``RIGHT_CALLS`` calls."""
        calls = 0

        def change(operation: Operation, y: Tensor) -> Operation:
            def call() -> None:
                nonlocal calls
                calls += 1
                operation()
                if self.rank == 1 and calls > RIGHT_CALLS:
                    self.streams.submit(y[:3].fill_, 0)

            return call

        return self.run(changed={"torch": change}, timings="eager,gated")

    def dropped_wait(self) -> object:
        """Run with an arm that starts its collective and drops the handle. Rank 1 starts late, so rank 0 must wait."""
        group = dist.new_group()

        def change(_operation: Operation, y: Tensor) -> Operation:
            def start() -> None:
                time.sleep(SLOW_CALL_S if self.rank == 1 else 0)
                dist.all_reduce(y, group=group, async_op=True)

            return lambda: self.streams.submit(start)

        return self.run(changed={"dedicated-stream": change})

    def late_writer(self) -> object:
        """Run with an arm whose results are right, and which later writes into the buffers of its calls on rank 1.

        It writes whenever a later arm begins a call, to the end of the run. Also return which of the later arm's timed
        calls had a buffer of the late writer.
        """
        written: dict[int, Tensor] = {}
        reached: list[str] = []

        def writes_later(operation: Operation, y: Tensor) -> Operation:
            written[y.data_ptr()] = y
            return operation

        def is_disturbed(operation: Operation, y: Tensor) -> Operation:
            def disturb() -> None:
                if self.phase in ("eager", "gated") and y.data_ptr() in written:
                    reached.append(self.phase)
                for tensor in written.values() if self.rank == 1 else ():
                    tensor[5:7].fill_(3)

            def call() -> None:
                self.streams.submit(disturb)
                operation()

            return call

        changed = {"stream-free": writes_later, "torch": is_disturbed}
        return {**self.run(changed=changed, timings="eager,gated"), "reached": reached}

    def writes_late_alone(self) -> object:
        """Run with an arm that writes into its outputs on a stream of its own, which its caller does not wait for.

        The stream is busy before it writes. So every result is right when the caller's stream has passed the call.
        """
        side = self.streams.new_stream()

        def change(operation: Operation, y: Tensor) -> Operation:
            def call() -> None:
                operation()
                with self.streams.stream(side):
                    self.streams.submit(time.sleep, LATE_S)
                    self.streams.submit(y.fill_, 3)

            return call

        return self.run(changed={"torch": change}, timings="eager")

    def wrong_once(self) -> object:
        """Run with an arm that is wrong in the first check only, and writes into nothing later."""

        def change(operation: Operation, y: Tensor) -> Operation:
            return (lambda: None) if self.phase == "check before timing" else operation

        return self.run(changed={"torch": change}, timings="eager")

    def inputs(self) -> object:
        """Count the different inputs of one arm while it is timed; another arm sums into the same slots before it."""
        seen: set[tuple[float, ...]] = set()

        def change(operation: Operation, y: Tensor) -> Operation:
            def call() -> None:
                if self.phase in ("eager", "gated", "enqueue"):
                    self.streams.submit(lambda: seen.add(tuple(y[:8].tolist())))
                operation()

            return call

        result = self.run(changed={"torch": change}, arms="stream-free,torch")
        return {**result, "inputs": len(seen)}

    def chain(self) -> object:
        """Run a chain of layers, with an arm that spoils one element of each first result on rank 1."""

        def change(operation: Operation, y: Tensor) -> Operation:
            spoiled: list[Tensor] = [y] if self.rank == 1 and not self._spoiled else []
            self._spoiled += spoiled

            def call() -> None:
                operation()
                for tensor in spoiled:
                    self.streams.submit(tensor[-1:].fill_, 0)

            return call

        self._spoiled: list[Tensor] = []
        small = {"hidden": 64, "tokens": 3, "layers": 5, "sizes": None, "ops_per_batch": None}
        return self.run(scenario="chain", changed={"torch": change}, timings="eager,gated", rounds=1, **small)

    def late_rank(self) -> object:
        """Run a collective to which the last rank comes late."""
        delays = f"0,{SKEW_US}"
        return self.run(scenario="skew", delays=delays, arms="stream-free,torch", ops_per_batch=None, timings=None)

    def little_memory(self) -> object:
        """Run where rank 1 has memory for three slots of 4 MiB and for none of 64 MiB. Two ranks share a memory."""
        free = (WORKSPACE_BYTES + 22 * MIB) * 2 if self.rank == 1 else 10**12
        streams = LittleMemory(round(free / 0.85) + 16)
        return self.run(streams=streams, ranks_per_memory=2, sizes="1K,4M,64M,8K", timings="eager", rounds=1)

    def tiny_gate(self) -> object:
        """Run with gates of 1 ms and an arm whose calls take 16 ms a batch on rank 1's host."""

        def slow(operation: Operation, y: Tensor) -> Operation:
            def call() -> None:
                time.sleep(SLOW_CALL_S if self.rank == 1 else 0)
                operation()

            return call

        def tiny(*arguments: Any, **options: Any) -> Schedule:
            schedule = make_schedule(*arguments, **options)
            return replace(schedule, gates_s=dict.fromkeys(schedule.gates_s, 1e-3))

        with mock.patch.object(case_run, "make_schedule", tiny):
            return self.run(changed={"torch": slow}, timings="gated", arms="stream-free,torch")

    def _scripted(self, valid: Callable[[int], bool], gates: list[float]) -> AbstractContextManager[object]:
        """Replace measured gated batches with batches of known time and validity; note their gates in ``gates``."""

        def gated(clock: Clock, calls: object, gate_s: float) -> Batch:
            number = len(gates)
            gates.append(gate_s)
            return Batch(10.0 + number + 5.0 * ((number + self.rank) % 2), valid(number), number + self.rank / 4)

        return mock.patch.object(Clock, "gated", gated)

    def scripted(self) -> object:
        """Run with a gate that opens too early twice, on rank 1 only."""
        gates: list[float] = []
        with self._scripted(lambda number: not (self.rank == 1 and number in (1, 2)), gates):
            result = self.run(arms="torch", timings="gated", rounds=4)
        return {**result, "gates": gates}

    def never_valid(self) -> object:
        """Run with a gate that always opens too early on rank 1."""
        gates: list[float] = []
        with self._scripted(lambda number: self.rank == 0, gates):
            result = self.run(arms="torch", timings="gated", rounds=24)
        return {**result, "gates": gates}

    def adaptive(self, late_rank: int | None = None) -> object:
        """Run with equal times of eager batches and noisy times of gated ones; ``late_rank`` has no time left."""
        noise = random.Random(self.rank)
        with (
            mock.patch.object(Clock, "eager", return_value=Batch(10.0, True, 0.0)),
            mock.patch.object(Clock, "gated", side_effect=lambda *_: Batch(noise.uniform(5, 15), True, 0.0)),
        ):
            return self.run(
                arms="stream-free,dedicated-stream",
                timings="eager,gated",
                max_rounds=20,
                late=self.rank == late_rank,
            )

    def agreement(self) -> object:
        """Return the results of the control group's operations on values that differ between the ranks."""
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
                [batch.slowest_us, batch.fastest_us, batch.slowest_rank, batch.valid, batch.began_s]
                for batch in control.reduce_batches(
                    [[1.5, 7.25, 120e6, 2.0, 0.0], [2.5, 0.001, 3.0, 2.0, 0.0]][rank],
                    [True, True, True, rank == 0, rank == 1],
                    [[0.0, 1.25, 3e6, 1e-9, 7.0], [None] * 5][rank],
                )
            ],
        }

    def meeting(self) -> object:
        """Return when this rank entered a barrier and when it left, by the clock that both ranks share."""
        time.sleep(BARRIER_SKEW_S * self.rank)
        entered = time.monotonic()
        self.control.barrier()
        return {"entered": entered, "left": time.monotonic()}


def body(group: dist.ProcessGroup) -> object:
    """Do every run and return the results by name."""
    bench = Bench(group)
    results = {
        "unchanged": bench.unchanged(),
        "from the second case": bench.run(sizes="8,1K", timings="eager", first_case=1),
        "unchecked": bench.run(
            changed={"torch": lambda operation, y: lambda: None}, check=False, timings="eager", rounds=1
        ),
        "same buffer": bench.run(same_buffer=True, timings="eager", rounds=1),
        "default stream": bench.run(caller_stream="default", rounds=1),
        "wrong from the start": bench.wrong_from_the_start(),
        "all wrong": bench.run(changed=dict.fromkeys(MEASURED, lambda operation, y: lambda: None), timings="eager"),
        "wrong later": bench.wrong_later(),
        "dropped wait": bench.dropped_wait(),
        "late writer": bench.late_writer(),
        "writes late alone": bench.writes_late_alone(),
        "wrong once": bench.wrong_once(),
        "inputs": bench.inputs(),
        "chain": bench.chain(),
        "late rank": bench.late_rank(),
        "little memory": bench.little_memory(),
        "tiny gate": bench.tiny_gate(),
        "scripted": bench.scripted(),
        "never valid": bench.never_valid(),
        "overlap": bench.run(
            scenario="overlap", collectives="all_gather", arms="stream-free,dedicated-stream,torch-async", rounds=3
        ),
        "adaptive": bench.adaptive(),
        "rank 0 is late": bench.adaptive(late_rank=0),
        "rank 1 is late": bench.adaptive(late_rank=1),
        "agreement": bench.agreement(),
        "meeting": bench.meeting(),
    }
    for arm in bench.arms.values():
        arm.close()
    return results


def main(spec_file: str) -> None:
    run_as_rank(body, spec_file)
