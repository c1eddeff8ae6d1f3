"""Compare the step time of a recorded run with a replay of the whole step: do single messages add up to a step?

    nccl-bench run workload.toml --out results/step
    python -m tests.experiments.workload_replay results/step

All messages that the workload sends in graphs are captured into one graph for each arm, mixed as in a model. The graph
has the fewest calls in which the messages have their proportions, and may hold several steps and a part of one. Its
replay is timed in rounds, beside a graph of each message alone. Four columns come out for each arm: the sum from the
record, the sum of the messages measured here, the whole step, and how far the two of here differ. Fewer than 32 calls
are captured several times into the graph, because the graphs of single messages have 32 calls too: the gap before a
graph then weighs the same. Without graphs, as on the CPU, a batch behind a gate stands for a graph.

Messages that the workload sends eagerly are left out on both sides, because their times contain the launch cost.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.step_messages import StepMessage
from nccl_bench.arms.arm import Arm
from nccl_bench.bench.buffers import CaseBuffers
from nccl_bench.bench.launch_memory import LaunchMemory
from nccl_bench.bench.schedule import gate_length_s
from nccl_bench.bench.timing import Clock
from nccl_bench.catalog.collectives import Placement
from nccl_bench.catalog.timings import TIMINGS
from nccl_bench.communicators.protocol import Operation
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.config.run import RunConfig, resolve
from nccl_bench.plan.batches import BATCH_S, OPS_PER_GRAPH
from nccl_bench.plan.cases import PlannedCase, make_plan
from nccl_bench.plan.memory import plan_arena
from nccl_bench.plan.shuffling import shuffled
from nccl_bench.ranks.control import Control
from nccl_bench.ranks.joining import join
from nccl_bench.ranks.process import default_group, destroy_group
from nccl_bench.records.run import Run
from nccl_bench.streams.base import Graph
from nccl_bench.transports.device import Device, open_device

MOST_REPLAYS = 50
# The name of the whole step beside those of single messages.
STEP = "step"
# A gate that opens too early doubles; after so many of these a batch counts anyway, as on a busy CPU.
MOST_TRIES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Something that is timed: the whole step, or one message alone."""

    calls: Sequence[tuple[int, int]]  # for each call the message, an index, and the slot
    parts: float  # the time of a batch is that of so many steps or calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="The directory of a run of a workload.")
    parser.add_argument("--rounds", type=int, default=21)
    arguments = parser.parse_args()
    run = Run.load(arguments.record)
    if "LOCAL_RANK" in os.environ:
        measure(run, arguments.rounds)
        return
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(run.world_size)]
    module = ["-m", "tests.experiments.workload_replay", str(arguments.record), "--rounds", str(arguments.rounds)]
    sys.exit(subprocess.run([sys.executable, *torchrun, *module], check=False).returncode)


def measure(run: Run, rounds: int) -> None:
    """Measure as one rank; rank 0 prints the table."""
    config = resolve(run.device, run.meta["config"])
    control = join(1).all_ranks
    device = open_device(config.device, int(os.environ["LOCAL_RANK"]), config.nccl_library)
    device, _ = device.with_binding(config.transport, control)
    aligner = StreamFreeCommunicator(default_group(), device)
    tiny = torch.zeros(1, device=device.streams.device)
    arms = {name: Arm(name, default_group(), device, config.routing, config.user_arms) for name in config.arms}
    analysis = Analysis.of(run)
    assert analysis.step is not None, "the run measured no workload"
    chosen = [each for each in analysis.step.messages if TIMINGS[each.message.timing].captured]
    assert chosen, "the workload has no messages in graphs"
    memory = LaunchMemory(device.streams)
    caller = memory.callers_stream()
    memory.settle(arms.values(), caller)
    with ExitStack() as held, device.streams.stream(caller):
        replay = Replay(
            config,
            chosen,
            arms,
            device,
            control,
            Clock(device.streams, caller, partial(aligner.all_reduce, tiny)),
            memory,
        )
        times_us = replay.measure(rounds, held)
        if control.rank == 0:
            print_table(analysis, chosen, times_us, replay.batches[STEP])
        device.streams.synchronize()
    for arm in arms.values():
        arm.close()
    aligner.close()
    destroy_group(default_group())


class Replay:
    """The step and its messages, ready to be replayed by each arm."""

    def __init__(
        self,
        config: RunConfig,
        messages: Sequence[StepMessage],
        arms: dict[str, Arm],
        device: Device,
        control: Control,
        clock: Clock,
        memory: LaunchMemory,
    ) -> None:
        self._config, self._arms, self._device, self._control = config, arms, device, control
        self._clock, self._memory = clock, memory
        planned = {each.case: each for each in make_plan(config, control.world_size).cases}
        self._planned = [planned[each.point[0]] for each in messages if each.point is not None]
        self._placements = [self._placements_of(each) for each in self._planned]
        free_bytes = control.minimum(device.streams.memory()[0] // len(messages))
        if config.device_spec.shares_memory:
            free_bytes //= control.world_size
        self._buffers = [self._allocate(each, free_bytes) for each in self._planned]
        order = mixed([each.message.count for each in messages], config.workload.steps if config.workload else 1)
        repeats = max(1, -(-OPS_PER_GRAPH // len(order.messages)))
        self.batches = {STEP: self._batch(order.messages * repeats, repeats * order.steps)}
        for index in range(len(messages)):
            self.batches[str(index)] = self._batch([index] * OPS_PER_GRAPH, OPS_PER_GRAPH)

    def _placements_of(self, planned: PlannedCase) -> dict[str, Placement]:
        able = {
            name: self._arms[name].able(planned.case, planned.able[name]) for name in self._arms if name in planned.able
        }
        assert set(able) == set(self._arms), "an arm does not support a message"
        return {name: placements[0] for name, placements in able.items()}

    def _allocate(self, planned: PlannedCase, free_bytes: int) -> CaseBuffers:
        placements = {*self._placements[self._planned.index(planned)].values()}
        arena = plan_arena(self._config, planned.case, self._control.world_size, free_bytes, placements)
        assert arena is not None, "the buffers of a message do not fit into memory"
        rank, world_size = self._control.rank, self._control.world_size
        return CaseBuffers(planned.case, arena, rank, world_size, self._device.streams.device, None, placements)

    def _batch(self, messages: Sequence[int], parts: float) -> Batch:
        seen: dict[int, int] = {}
        calls = []
        for index in messages:
            calls.append((index, seen.get(index, 0) % self._buffers[index].slots))
            seen[index] = seen.get(index, 0) + 1
        return Batch(calls=calls, parts=parts)

    def _bound(self, name: str, batch: Batch) -> list[Operation]:
        calls = []
        for index, slot in batch.calls:
            case, placement = self._planned[index].case, self._placements[index][name]
            calls.append(self._arms[name].bind(case, *self._buffers[index].pair(slot, placement)))
        return calls

    def _enqueue(self, name: str, batch: Batch) -> None:
        for call in self._bound(name, batch):
            _result = call()

    def _restore(self) -> None:
        for buffers in self._buffers:
            buffers.restore(buffers.slots)

    def measure(self, rounds: int, held: ExitStack) -> dict[tuple[str, str], list[float]]:
        """Return the times of each arm and batch, in microseconds a step or a call; a list for each has the rounds."""
        timed: dict[tuple[str, str], Callable[[float], Any]] = {}
        gates_s: dict[tuple[str, str], float] = {}
        for what, batch in self.batches.items():
            self._report(f"graphs of {what if what == STEP else self._planned[int(what)].case.label}")
            graphs = self._graphs(batch)
            for name in self._arms:
                calls = self._bound(name, batch)
                graph = graphs.get(name)
                replays = [graph.replay] if graph is not None else calls
                self._restore()
                cost_us = min(self._clock.call_cost_us(replays) for _ in range(2)) * len(replays)
                pilot_us = self._control.maximum([self._clock.gated(replays, gate_length_s(cost_us)).time_us])[0]
                count = 1
                if graph is not None:
                    held.callback(graph.reset)
                    count = max(1, min(MOST_REPLAYS, math.ceil(BATCH_S * 1e6 / max(pilot_us, 1e-3))))
                timed[name, what] = partial(self._clock.gated, replays * count)
                gates_s[name, what] = gate_length_s(self._control.maximum([cost_us * count])[0])
        times_us: dict[tuple[str, str], list[float]] = {key: [] for key in timed}
        for number in range(rounds):
            self._report(f"round {number + 1} of {rounds}")
            for key in shuffled(list(timed), self._config.seed, number):
                self._restore()
                times_us[key].append(self._time(timed[key], gates_s, key))
        return times_us

    def _graphs(self, batch: Batch) -> dict[str, Graph]:
        """Return the graph of each arm, in the best launch memory; none if the device has no graphs."""
        if not self._config.device_spec.has_graphs:
            return {}
        if len(batch.calls) > OPS_PER_GRAPH:
            # The graph of a step fills several pages of launch memory, so no page is the best one for it.
            return {name: self._capture(batch, name) for name in self._arms}
        names = sorted(self._arms, key=lambda name: not self._arms[name].can_move)
        capture = partial(self._capture, batch)
        return self._memory.best_graphs(names, capture, len(batch.calls), self._clock, self._control, lambda: None)

    def _report(self, text: str) -> None:
        if self._control.rank == 0:
            print(text, file=sys.stderr, flush=True)

    def _capture(self, batch: Batch, name: str) -> Graph:
        return self._arms[name].capture(partial(self._enqueue, name, batch))

    def _time(
        self, measure: Callable[[float], Any], gates_s: dict[tuple[str, str], float], key: tuple[str, str]
    ) -> float:
        batch = self.batches[key[1]]
        has_graphs = self._config.device_spec.has_graphs
        for _ in range(MOST_TRIES):
            result = measure(gates_s[key])
            (reduced,) = self._control.reduce_batches([result.time_us], [result.valid], [None])
            if reduced.valid:
                break
            gates_s[key] *= 2
        # A gated time is that of a replay, or without graphs of a call.
        of_batch_us = reduced.slowest_us * (1 if has_graphs else len(batch.calls))
        return of_batch_us / batch.parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed:
    """The messages in the order of a model."""

    messages: list[int]  # the index of each message
    steps: float  # the number of steps that they are


def mixed(counts: Sequence[int], steps: int) -> Mixed:
    """Return the fewest calls that have the messages of ``steps`` steps in their proportions, each spread evenly."""
    divisor = math.gcd(*counts)
    placed = [
        ((position + 0.5) / (count // divisor), index)
        for index, count in enumerate(counts)
        for position in range(count // divisor)
    ]
    return Mixed(messages=[index for _, index in sorted(placed)], steps=steps / divisor)


def print_table(
    analysis: Analysis, messages: Sequence[StepMessage], times_us: dict[tuple[str, str], list[float]], step: Batch
) -> None:
    """Print the sums and the whole step of each arm."""
    assert analysis.step is not None
    chosen = {each.name for each in messages}
    left_out = [each.name for each in analysis.step.messages if each.name not in chosen]
    if left_out:
        print(f"left out, because the model sends them eagerly: {', '.join(left_out)}")
    print(f"the graph has {len(step.calls)} calls: {step.parts:.4g} steps")
    recorded: dict[str, float] = {}
    for comparison in analysis.step.comparisons:
        parts = [part for part in comparison.contributions if part.message.name in chosen]
        recorded[comparison.baseline.arm] = sum(part.baseline_us for part in parts)
        recorded[comparison.candidate.arm] = sum(part.candidate_us for part in parts)
    print(
        f"{'arm':<28} {'sum of the run':>15} {'sum here':>10} {'whole step':>11} {'sum / step':>11} {'run / step':>11}"
    )
    for name in dict.fromkeys(name for name, _ in times_us):
        whole_us = median(times_us[name, STEP])
        sum_us = sum(each.calls * median(times_us[name, str(index)]) for index, each in enumerate(messages))
        of_run = recorded.get(name)
        run_text, run_share = ("", "") if of_run is None else (f"{of_run:.1f}", f"{of_run / whole_us - 1:+.1%}")
        share = f"{sum_us / whole_us - 1:+.1%}"
        print(f"{name:<28} {run_text:>15} {sum_us:>10.1f} {whole_us:>11.1f} {share:>11} {run_share:>11}")


if __name__ == "__main__":
    main()
