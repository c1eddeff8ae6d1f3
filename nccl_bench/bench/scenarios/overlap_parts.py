"""The times of the parts of an overlap, in rounds of their own.

Each round measures every part of every arm, so that the compared times come from the same moment.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from nccl_bench.bench.context import CaseContext
from nccl_bench.bench.measure import LONGEST_GATE
from nccl_bench.bench.scenarios.overlap_calls import OverlapCalls, Part, Spans
from nccl_bench.bench.schedule import Schedule, gate_length_s
from nccl_bench.bench.stopping import ATTEMPTS_PER_ROUND
from nccl_bench.bench.timing import no_garbage_collection
from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.communicators.protocol import Operation
from nccl_bench.plan.batches import LAUNCH_QUEUE_ENTRIES, launch_entries
from nccl_bench.plan.shuffling import shuffled
from nccl_bench.records.scenario_times import PartTimes
from nccl_bench.streams.base import Graph

# The number of events around the product and around the collective.
_EVENTS = 4
# The host rarely needs more time for the replay of a graph. If it does, the next gates are longer.
_REPLAY_US = 30.0


class _Key(NamedTuple):
    """A batch of a round: a part of an arm. With spans, the product and the collective have events of their own."""

    arm: str
    part: Part
    with_spans: bool


class _Times(NamedTuple):
    """The times of a batch, in microseconds per call; 0 for a time that was not measured."""

    first_us: float  # the time of the whole call; with spans, of the product
    second_us: float  # with spans, the time of the collective
    early: float  # 1.0 if the gate opened early, otherwise 0.0


_NOT_MEASURED = _Times(0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class _Bound:
    """The calls of a batch of this process."""

    calls: Sequence[Operation]  # empty if a graph has the calls
    graph: Graph | None  # None if the timing captures no graphs
    spans: tuple[Spans, Spans]  # the events around the product and around the collective; empty without spans


def measure_parts(
    context: CaseContext, overlap: OverlapCalls, names: Sequence[str], timing: Timing, schedule: Schedule
) -> dict[str, PartTimes]:
    """Return the times of the parts of each arm, on the slowest rank. Collective.

    An arm without a complete round is absent. In a timing of the CPU, all arms are absent.
    """
    if not TIMINGS[timing].moves_bytes:
        return {}
    return _Measurement(context=context, overlap=overlap, timing=timing, schedule=schedule).measure(names)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measurement:
    """The measurement of the parts of a case in one timing."""

    context: CaseContext  # the case, its arms and its clock
    overlap: OverlapCalls  # the calls of the parts
    timing: Timing  # the timing, which times the device
    schedule: Schedule  # the lengths of the batches and the gates of the case

    def measure(self, names: Sequence[str]) -> dict[str, PartTimes]:
        kinds = [(part, False) for part in Part]
        if TIMINGS[self.timing].per_iteration:
            kinds += [(Part.SEQUENCE, True), (Part.TOGETHER, True)]
        keys = {name: [_Key(name, *kind) for kind in kinds] for name in names}
        config = self.context.config
        entries = _EVENTS + max(launch_entries(config, name, self.context.uneven_ranks) for name in names)
        operations = max(1, min(self.schedule.ops[self.timing], LAUNCH_QUEUE_ENTRIES // entries))
        with self._bound(keys, operations) as bound:
            return self._rounds(keys, operations, bound)

    @contextmanager
    def _bound(self, keys: Mapping[str, Sequence[_Key]], operations: int) -> Iterator[Mapping[_Key, _Bound]]:
        """Yield the calls of each batch of this process. Reset their graphs after the ``with`` block."""
        arms = self.context.arms
        bound = {}
        for name in arms.present(keys):
            for key in keys[name]:
                spans = Spans(self.context.streams), Spans(self.context.streams)
                if TIMINGS[self.timing].captured:
                    arms.report(name, f"graph capture, {key.part}")
                    graph = arms[name].capture(partial(self._call_each, key, operations, spans))
                    bound[key] = _Bound((), graph, spans)
                else:
                    bound[key] = _Bound(self._calls(key, operations, spans), None, spans)
        yield bound
        self.context.streams.synchronize()
        for each in bound.values():
            if each.graph is not None:
                each.graph.reset()

    def _calls(self, key: _Key, operations: int, spans: tuple[Spans, Spans]) -> list[Operation]:
        context, arm = self.context, self.context.arms[key.arm]
        case = context.case_of(key.arm)
        pairs = [context.buffers.pair(slot, case.placement) for slot in range(operations)]
        if key.with_spans:
            return [self.overlap.bind_timed(key.part, arm, case, *pair, *spans) for pair in pairs]
        return [self.overlap.bind(key.part, arm, case, *pair) for pair in pairs]

    def _call_each(self, key: _Key, operations: int, spans: tuple[Spans, Spans]) -> None:
        for call in self._calls(key, operations, spans):
            _result = call()

    def _rounds(
        self, keys: Mapping[str, Sequence[_Key]], operations: int, bound: Mapping[_Key, _Bound]
    ) -> dict[str, PartTimes]:
        context, config, label = self.context, self.context.config, self.context.case.label
        kept: dict[str, list[Mapping[_Key, _Times]]] = {name: [] for name in keys}
        first_gates_s = {name: self._first_gate_s(name) for name in keys}
        gates_s = dict(first_gates_s)
        for number in range(ATTEMPTS_PER_ROUND * config.rounds):
            measured: dict[_Key, _Times] = {}
            order = shuffled(list(keys), config.seed, label, self.timing, "parts", number)
            for name in context.arms.visit(order, f"{self.timing} parts"):
                for key in shuffled(keys[name], config.seed, label, self.timing, name, number):
                    # If this batch hangs, the report names the part.
                    context.arms.report(name, f"{self.timing}, {key.part}")
                    measured[key] = self._batch(bound[key], operations, gates_s[name])
            slowest = self._slowest([key for of_arm in keys.values() for key in of_arm], measured)
            for name, of_arm in keys.items():
                if any(slowest[key].early or not slowest[key].first_us for key in of_arm):
                    gates_s[name] = min(2 * gates_s[name], LONGEST_GATE * first_gates_s[name])
                else:
                    kept[name].append(slowest)
            complete = min(map(len, kept.values()))
            # Rank 0 decides for all ranks, because the clocks of the ranks differ.
            if complete >= config.rounds or (
                complete >= config.min_rounds and context.control.broadcast(context.budget.used_up())
            ):
                break
        return {name: self._part_times(name, rounds) for name, rounds in kept.items() if rounds}

    def _slowest(self, keys: Sequence[_Key], measured: Mapping[_Key, _Times]) -> dict[_Key, _Times]:
        """Return the times of each batch, as maxima over the ranks. Some batches were measured in other processes."""
        numbers = [number for key in keys for number in measured.get(key, _NOT_MEASURED)]
        slowest = iter(self.context.control.maximum(numbers))
        return {key: _Times(next(slowest), next(slowest), next(slowest)) for key in keys}

    def _first_gate_s(self, name: str) -> float:
        if not TIMINGS[self.timing].gated:
            return 0.0
        if TIMINGS[self.timing].captured:
            return gate_length_s(_REPLAY_US * self.schedule.replays)
        # The events around the product take time too.
        return 2 * self.schedule.gates_s[name, self.timing]

    def _batch(self, bound: _Bound, operations: int, gate_s: float) -> _Times:
        self.context.restore(operations)
        with no_garbage_collection():
            batch = self.context.clock.batch(
                self.timing,
                bound.calls,
                bound.graph,
                operations=operations,
                replays=self.schedule.replays,
                untimed=0,
                gate_s=gate_s,
            )
        product, collective = bound.spans
        early = 0.0 if batch.valid else 1.0
        if product.pairs:
            return _Times(product.mean_us(), collective.mean_us(), early)
        return _Times(batch.time_us, 0.0, early)

    def _part_times(self, name: str, rounds: Sequence[Mapping[_Key, _Times]]) -> PartTimes:
        def times(part: Part, *, spans: bool = False, which: str = "first_us") -> tuple[float, ...]:
            of_rounds = [getattr(each.get(_Key(name, part, spans), _NOT_MEASURED), which) for each in rounds]
            return tuple(of_rounds) if all(of_rounds) else ()

        return PartTimes(
            product=self.overlap.name,
            product_us=times(Part.PRODUCT),
            collective_us=times(Part.COLLECTIVE),
            sequence_us=times(Part.SEQUENCE),
            together_us=times(Part.TOGETHER),
            product_in_sequence_us=times(Part.SEQUENCE, spans=True),
            collective_in_sequence_us=times(Part.SEQUENCE, spans=True, which="second_us"),
            product_together_us=times(Part.TOGETHER, spans=True),
            collective_together_us=times(Part.TOGETHER, spans=True, which="second_us"),
        )
