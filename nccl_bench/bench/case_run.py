"""One case on one rank: check, pilot, rounds of batches over the arms, check again, lines for the record."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from nccl_bench.arms.arm import Arm
from nccl_bench.bench.budget import Budget
from nccl_bench.bench.buffers import CaseBuffers
from nccl_bench.bench.launch_memory import LaunchMemory
from nccl_bench.bench.schedule import FEWEST_OPS, Pilot, Schedule, gate_length_s, make_schedule, visiting_order
from nccl_bench.bench.stopping import ATTEMPTS_PER_ROUND, Stopping
from nccl_bench.bench.timing import Batch, Clock, Operation
from nccl_bench.bench.turns import Turns
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.routes import Mode
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.run import RunConfig
from nccl_bench.plan.batches import LAUNCH_QUEUE_ENTRIES
from nccl_bench.plan.memory import Arena
from nccl_bench.ranks.control import Control, Reduced
from nccl_bench.ranks.joining import Ranks
from nccl_bench.ranks.progress import Progress
from nccl_bench.records.schema import Line, PerIteration, Samples, Status
from nccl_bench.streams.base import Graph, Streams

# Times its first length. Calls that wait for the gate themselves outlast any, and the case would look like a hang.
LONGEST_GATE = 32
# By collective and arm.
Paths = dict[tuple[str, str], dict[Mode, str]]
CHECKED_SLOTS = 4
# Where a graph lies makes 0.3 us of an operation: a percent of this.
_PAGES_SHOW_US = 30.0
# Enough for a 99th percentile to be more than the maximum.
PER_ITERATION_OPERATIONS = 300


@dataclass(slots=True)
class _Tally:
    """What was kept of one arm in one timing, by round."""

    kept: dict[int, Reduced] = field(default_factory=dict)
    discarded: int = 0

    def times_us(self) -> dict[int, float]:
        """The samples by round."""
        return {number: batch.slowest_us for number, batch in self.kept.items()}


@dataclass(kw_only=True)
class CaseRun:
    """Everything one case needs; ``run`` is called with the caller's stream current. Every step is collective.

    ``names`` are the arms of the case, ``arms`` those of them that are of this process. The others are measured by
    other processes of the same ranks, and this one has nothing to add to what is reduced over all.
    """

    config: RunConfig
    case: Case
    case_index: int
    timings: Sequence[Timing]
    arena: Arena
    buffers: CaseBuffers
    names: Sequence[str]
    arms: Mapping[str, Arm]
    turns: Turns
    ranks: Ranks
    streams: Streams
    clock: Clock
    stopping: Stopping
    budget: Budget
    launch_memory: LaunchMemory
    progress: Progress
    append: Callable[[Sequence[Line]], None]
    paths: Paths

    def run(self) -> None:
        """Check, measure every timing, check after each, and append its lines."""
        wrong = self._check(self.names, "check before timing", min(CHECKED_SLOTS, self.buffers.slots))
        right = [name for name in self.names if not wrong[name]]
        self.append(
            [self._line(name, timing, wrong[name]) for name in self.names if wrong[name] for timing in self.timings]
        )
        if not right:
            return
        self._trace(right)
        pilots = self._pilot(right)
        schedule = self.control.broadcast(make_schedule(self.config, pilots, self.buffers.slots))
        for timing in self.timings:
            self.budget.begin_timing()
            with self._graphs(right, timing, schedule) as graphs:
                gates = self._gates(right, timing, schedule, graphs)
                tallies = self._rounds(right, timing, schedule, graphs, gates)
                details = self._per_iteration(right, timing, schedule, tallies)
                wrong = self._check_after(right, timing, schedule, graphs)
            self.append(
                [self._line(name, timing, wrong[name], schedule, tallies[name], details.get(name)) for name in right]
            )

    @property
    def control(self) -> Control:
        """Every process's: what is decided is decided for all."""
        return self.ranks.all_ranks

    # -- calls ---------------------------------------------------------------------------------------------------

    def _at(self, arm: str, phase: str) -> None:
        self.progress.update(case_index=self.case_index, arm=arm, phase=phase, deadline_s=None)

    def _turn(self, arm: str, phase: str) -> bool:
        """Whether ``arm`` is of this process; its turn has come, here or elsewhere."""
        self._at(arm, phase)
        if self.turns.take(arm):
            return True
        # A step more than the ranks that are at work, one of which then is the one that a hang is put down to.
        self._at(arm, f"{phase}, by other processes")
        return False

    def _in_turn(self, names: Iterable[str], phase: str) -> Iterator[str]:
        """Those of ``names`` that are of this process, each when its turn comes."""
        return (name for name in names if self._turn(name, phase))

    def _calls(self, arm: str, operations: int) -> list[Operation]:
        """``operations`` calls over rotating slots, for the stream that is current."""
        slots = min(operations, self.buffers.slots)
        bound = [self.arms[arm].bind(self.case, *self.buffers.pair(slot)) for slot in range(slots)]
        return [bound[index % slots] for index in range(operations)]

    def _restore(self, operations: int) -> None:
        """In-place sums grow from call to call; what changes no input needs no restoring."""
        if self.buffers.in_place and self.case.row.reduces:
            self.buffers.restore(operations)

    # -- checking ------------------------------------------------------------------------------------------------

    def _check(
        self, names: Sequence[str], phase: str, operations: int, graphs: Mapping[str, Graph] | None = None
    ) -> dict[str, int]:
        """Wrong elements by arm, summed over ranks, after ``operations`` operations on poisoned outputs."""
        if not self.config.check:
            return dict.fromkeys(names, 0)
        counts = dict.fromkeys(names, 0)
        for name in self._in_turn(names, phase):
            self.buffers.poison(operations)
            if graphs is not None:
                graphs[name].replay()
            else:
                self._call_each(name, operations)
            # A step more than a rank that did not get here, which is then the one that a hang is put down to.
            self._at(name, f"{phase}, waiting")
            # Only the caller's stream is waited for: work that was not joined to it counts as not done.
            self.streams.current_stream().synchronize()
            counts[name] = self.buffers.wrong(operations)
            self.streams.synchronize()
        return dict(zip(names, self.control.sum(list(counts.values())), strict=True))

    def _check_after(
        self, names: Sequence[str], timing: Timing, schedule: Schedule, graphs: Mapping[str, Graph]
    ) -> dict[str, int]:
        phase = f"check after {timing}"
        if timing is not Timing.GRAPH:
            return self._check(names, phase, min(CHECKED_SLOTS, self.buffers.slots))
        operations = schedule.ops[timing]
        if operations <= self.buffers.slots:
            return self._check(names, phase, operations, graphs)
        # Several visits to one slot have no exact result in place: check a graph of one visit instead.
        with self._captured(names, self.buffers.slots) as single:
            return self._check(names, phase, self.buffers.slots, single)

    def _trace(self, names: Sequence[str]) -> None:
        """What the arms run, once for each collective."""
        unknown = [name for name in names if (self.case.collective, name) not in self.paths]
        if not unknown:
            return
        seen: Paths = {}
        for name in self._in_turn(unknown, "trace"):
            seen[self.case.collective, name] = self.arms[name].paths(self.case, *self.buffers.pair(0))
            self.streams.synchronize()
        self._restore(1)
        for of_process_set in self.ranks.gather_from_sets(seen):
            self.paths |= of_process_set

    # -- measuring -----------------------------------------------------------------------------------------------

    def _pilot(self, names: Sequence[str]) -> dict[str, Pilot]:
        """Warm up, then a first measurement of each arm, the maximum over ranks."""
        measured = dict.fromkeys(names, (0.0, 0.0))
        for name in self._in_turn(names, "pilot"):
            calls = self._calls(name, FEWEST_OPS)
            for index in range(self.config.warmup):
                calls[index % len(calls)]()
            self.streams.synchronize()
            self._restore(FEWEST_OPS)
            device = min(self.clock.eager(calls).time_us for _ in range(2))
            enqueue = min(self.clock.call_cost_us(calls) for _ in range(2))
            measured[name] = (device, enqueue)
        reduced = self.control.maximum([time_us for pair in measured.values() for time_us in pair])
        return {
            name: Pilot(device_us=max(device, 1e-3), enqueue_us=enqueue)
            for name, device, enqueue in zip(names, reduced[::2], reduced[1::2], strict=True)
        }

    @contextmanager
    def _graphs(self, names: Sequence[str], timing: Timing, schedule: Schedule) -> Iterator[Mapping[str, Graph]]:
        if timing is not Timing.GRAPH:
            yield {}
            return
        operations = schedule.ops[timing]
        if schedule.fastest_us > _PAGES_SHOW_US:
            with self._captured(names, operations) as graphs:
                yield graphs
            return
        # A fork and a join show it most.
        in_order = sorted(self._here(names), key=lambda name: not self.arms[name].can_move)
        best: Mapping[str, Graph] = {}
        for mine in self.ranks.take_turns():
            if mine and in_order:
                best = self.launch_memory.best_graphs(
                    in_order,
                    partial(self._capture, operations=operations),
                    operations,
                    self.clock,
                    self.ranks.own_set,
                    partial(self._at, in_order[0], "choice of graphs"),
                )
        yield best
        self._reset(best)

    def _gates(
        self, names: Sequence[str], timing: Timing, schedule: Schedule, graphs: Mapping[str, Graph]
    ) -> dict[str, float]:
        """Each arm's gate in seconds; 0 where there is none. Graphs are warmed up, and their launches timed, here."""
        if timing is Timing.EAGER:
            return dict.fromkeys(names, 0.0)
        if timing is not Timing.GRAPH:
            return {name: schedule.gates_s[name, timing] for name in names}
        launches_us = dict.fromkeys(names, 0.0)
        for name in self._in_turn(names, "graph warm-up"):
            self._restore(self.buffers.slots)
            replays = [graphs[name].replay] * schedule.replays
            launches_us[name] = min(self.clock.call_cost_us(replays) for _ in range(2)) * schedule.replays
        slowest = self.control.maximum(list(launches_us.values()))
        return {name: gate_length_s(launch_us) for name, launch_us in zip(names, slowest, strict=True)}

    @contextmanager
    def _captured(self, names: Sequence[str], operations: int) -> Iterator[Mapping[str, Graph]]:
        """A graph of ``operations`` calls for each arm, reset on the way out.

        After an exception they are left alone: a failed capture can leave the process unusable, and it is ending.
        """
        graphs = {name: self._capture(name, operations) for name in self._here(names)}
        yield graphs
        self._reset(graphs)

    def _capture(self, name: str, operations: int) -> Graph:
        self._at(name, "graph capture")
        return self.arms[name].capture(partial(self._call_each, name, operations))

    def _here(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if name in self.arms]

    def _reset(self, graphs: Mapping[str, Graph]) -> None:
        self.streams.synchronize()
        for graph in graphs.values():
            graph.reset()

    def _call_each(self, name: str, operations: int) -> None:
        # Bound here, where the capturing stream is the current one.
        for call in self._calls(name, operations):
            call()

    def _rounds(
        self,
        names: Sequence[str],
        timing: Timing,
        schedule: Schedule,
        graphs: Mapping[str, Graph],
        first_gates: Mapping[str, float],
    ) -> dict[str, _Tally]:
        """Batches of every arm, interleaved in shuffled order, until rank 0 finds that there are enough."""
        operations = schedule.ops[timing]
        calls = {} if graphs else {name: self._calls(name, operations) for name in self._here(names)}
        gates = dict(first_gates)
        tallies = {name: _Tally() for name in names}
        matters = self.config.thresholds.threshold(self.case.collective, timing, self.case.size_bytes)
        stopping = replace(self.stopping, threshold=matters)
        attempts = 0
        while block := self._next_block(stopping, tallies, attempts):
            visits: list[tuple[int, str]] = []
            batches: list[Batch | None] = []
            with _no_garbage_collection():
                for number in range(attempts, attempts + block):
                    for name in visiting_order(names, self.config.seed, self.case.label, timing, number):
                        visits.append((number, name))
                        if not self._turn(name, timing):
                            batches.append(None)
                            continue
                        self._restore(operations)
                        batches.append(
                            self._batch(timing, calls.get(name, []), graphs.get(name), gates[name], schedule)
                        )
            attempts += block
            reduced = self.control.reduce_batches(
                [None if batch is None else batch.time_us for batch in batches],
                [batch is None or batch.valid for batch in batches],
            )
            for (number, name), batch in zip(visits, reduced, strict=True):
                if batch.valid:
                    tallies[name].kept[number] = batch
                else:
                    tallies[name].discarded += 1
            # Once for all of a block, whose batches had the same gate.
            for name in {name for (_, name), batch in zip(visits, reduced, strict=True) if not batch.valid}:
                gates[name] = min(2 * gates[name], LONGEST_GATE * first_gates[name])
        return tallies

    def _next_block(self, stopping: Stopping, tallies: Mapping[str, _Tally], attempts: int) -> int:
        """How many rounds follow, as rank 0 decides: the ranks' clocks differ."""
        kept = {name: tally.times_us() for name, tally in tallies.items()}
        return self.control.broadcast(stopping.block(kept, attempts, in_time=not self.budget.used_up()))

    def _batch(
        self, timing: Timing, calls: Sequence[Operation], graph: Graph | None, gate_s: float, schedule: Schedule
    ) -> Batch:
        if timing is Timing.GRAPH:
            assert graph is not None
            return self.clock.graph(graph, schedule.replays, schedule.ops[timing], gate_s)
        if timing is Timing.EAGER:
            return self.clock.eager(calls)
        if timing is Timing.GATED:
            return self.clock.gated(calls, gate_s)
        return self.clock.enqueue(calls, gate_s)

    def _per_iteration(
        self, names: Sequence[str], timing: Timing, schedule: Schedule, tallies: Mapping[str, _Tally]
    ) -> dict[str, PerIteration]:
        """Percentiles of single operations, each the maximum over ranks; the events' cost is against the batches."""
        if not self.config.per_iteration or timing not in (Timing.EAGER, Timing.GATED):
            return {}
        result = {}
        for name in names:
            # The events take entries of the launch queue too.
            most = LAUNCH_QUEUE_ENTRIES // (self.arms[name].spec.launch_entries + 1)
            operations = min(schedule.ops[timing], most)
            calls = self._calls(name, operations) if name in self.arms else []
            gate_s = schedule.gates_s[name, Timing.GATED] * 2 if timing is Timing.GATED else None
            kept: list[float] = []
            for _ in range(ATTEMPTS_PER_ROUND * -(-PER_ITERATION_OPERATIONS // operations)):
                times, held = [0.0] * operations, True
                if self._turn(name, f"{timing} per iteration"):
                    self._restore(operations)
                    with _no_garbage_collection():
                        times, held = self.clock.per_iteration(calls, gate_s)
                *slowest, opened = self.control.maximum([*times, 0.0 if held else 1.0])
                if not opened:
                    kept += slowest
                elif gate_s is not None:
                    gate_s = min(2 * gate_s, LONGEST_GATE * schedule.gates_s[name, Timing.GATED])
                if len(kept) >= PER_ITERATION_OPERATIONS:
                    break
            batches = tallies[name].times_us().values()
            if kept and batches:
                low, p50, p90, p99, high = (float(x) for x in np.percentile(kept, [0, 50, 90, 99, 100]))
                result[name] = PerIteration(
                    operations=len(kept),
                    min_us=low,
                    p50_us=p50,
                    p90_us=p90,
                    p99_us=p99,
                    max_us=high,
                    # The machine's noise can exceed it; a cost is above 0 or was not seen.
                    cost_us=cost_us if (cost_us := p50 - statistics.median(batches)) > 0 else None,
                )
        return result

    # -- recording -----------------------------------------------------------------------------------------------

    def _line(
        self,
        name: str,
        timing: Timing,
        wrong: int,
        schedule: Schedule | None = None,
        tally: _Tally | None = None,
        per_iteration: PerIteration | None = None,
    ) -> Samples:
        tally = tally or _Tally()
        batches = tally.kept.values()
        return Samples(
            case=self.case,
            arm=name,
            timing=timing,
            status=Status.WRONG if wrong else Status.OK,
            world_size=self.ranks.own_set.world_size,
            ops_per_batch=schedule.operations(timing) if schedule else 0,
            rounds=tuple(tally.kept),
            samples_us=tuple(batch.slowest_us for batch in batches),
            fastest_rank_us=tuple(batch.fastest_us for batch in batches),
            slowest_rank=tuple(batch.slowest_rank for batch in batches),
            discarded=tally.discarded,
            wrong=wrong if self.config.check else None,
            tolerance_ulp=self.buffers.tolerance_ulp,
            arena=self.arena,
            per_iteration=per_iteration,
        )


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
