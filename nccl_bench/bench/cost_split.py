"""Measures the parts of a call alone: the fetch of its stream, the fork, the call of the library, and the join.

Each part is timed in the way in which ``enqueue`` times a whole call: by the host's clock, behind a gate, in rounds
over all arms. So the sum of the parts can be compared with the time of ``enqueue``. The sum does not contain the arm's
own Python code, or parts that cannot be called alone.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from nccl_bench.bench.context import CaseContext
from nccl_bench.bench.schedule import Schedule
from nccl_bench.bench.timing import Batch, no_garbage_collection, no_operation
from nccl_bench.catalog.cost_parts import CostPart
from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.communicators.protocol import Operation
from nccl_bench.plan.shuffling import shuffled
from nccl_bench.records.cost_split import CostSplit

# The number of rounds; the times are medians over them.
ROUNDS = 5
# The gates are this many times as long as the first gates of the rounds. Longer gates are not needed, even if a round
# needed them, because these batches have only parts of the calls.
_GATE_FACTOR = 2
_LOOP_KEY = ("loop", 0)  # the key of a batch whose calls do nothing


@dataclass(slots=True)
class _Parts:
    """The batches of one arm of this process. A part can have several functions, each with a batch of its own."""

    # (part, index) -> the calls of the batch.
    batches: dict[tuple[str, int], list[Operation]] = field(default_factory=dict)
    holds: list[Operation] = field(default_factory=list)  # calls that make the private stream wait for the gate too


def measure_cost_split(
    context: CaseContext, names: Sequence[str], timing: Timing, schedule: Schedule
) -> dict[str, CostSplit]:
    """Return the parts of a call of each arm: times for ``enqueue``, nodes for ``graph``. Collective.

    In other timings, and without ``--cost-split``, the result is empty.
    """
    if not context.config.cost_split:
        return {}
    if TIMINGS[timing].captured:
        return _count_nodes(context, names)
    return _measure_times(context, names, timing, schedule) if timing is Timing.ENQUEUE else {}


def _count_nodes(context: CaseContext, names: Sequence[str]) -> dict[str, CostSplit]:
    nodes: dict[str, int | None] = {}
    for name in context.arms.visit(names, "graph nodes"):

        def capture_call(name: str = name) -> None:
            context.call_each(name, 1)
            nodes[name] = context.streams.captured_nodes()

        context.arms[name].capture(capture_call).reset()
    merged = context.arms.merge(nodes)
    return {name: CostSplit(graph_nodes=count) for name, count in merged.items() if count is not None}


def _measure_times(
    context: CaseContext, names: Sequence[str], timing: Timing, schedule: Schedule
) -> dict[str, CostSplit]:
    calls, untimed = schedule.calls(timing), schedule.untimed[timing]
    kept: list[object] = []  # results of calls; the library's calls write into their memory
    own = {name: _parts(context, name, calls, kept) for name in context.arms.visit(names, "parts of a call")}
    known: Mapping[str, list[list[object]]] = context.arms.merge(
        {name: [list(key) for key in parts.batches] for name, parts in own.items()}
    )
    keys = {name: [(str(part), int(str(index))) for part, index in known[name]] for name in names}
    measured: dict[tuple[int, str, tuple[str, int]], Batch] = {}
    with no_garbage_collection():
        for number in range(ROUNDS):
            order = shuffled(names, context.config.seed, context.case.label, "parts", number)
            for name in context.arms.visit(order, "parts of a call"):
                for key, of_part in own[name].batches.items():
                    if key[0] == CostPart.CALL:
                        context.restore(calls)
                    holds = own[name].holds
                    measured[number, name, key] = context.clock.enqueue(
                        [*holds, *of_part], _GATE_FACTOR * schedule.gates_s[name, timing], len(holds) + untimed
                    )
                    context.streams.synchronize()
    context.restore(calls)
    visits = [(number, name, key) for number in range(ROUNDS) for name in names for key in keys[name]]
    batches = [measured.get(visit) for visit in visits]
    reduced = context.control.reduce_batches(
        [None if batch is None else batch.time_us for batch in batches],
        [batch is None or batch.valid for batch in batches],
        [None] * len(batches),
    )
    times_us: dict[str, dict[tuple[str, int], list[float]]] = defaultdict(lambda: defaultdict(list))
    for (_, name, key), batch in zip(visits, reduced, strict=True):
        if batch.valid:
            times_us[name][key].append(batch.slowest_us)
    return {name: _split(keys[name], times_us[name]) for name in names}


def _parts(context: CaseContext, name: str, calls: int, kept: list[object]) -> _Parts:
    """Return the batches of an arm: each has ``calls`` calls, which rotate through the slots as whole calls do."""
    arm, case, buffers = context.arms[name], context.case_of(name), context.buffers
    slots = range(min(calls, buffers.slots))
    of_slots = [arm.cost_parts(case, *buffers.pair(slot, case.placement), kept.append) for slot in slots]
    parts = _Parts(batches={_LOOP_KEY: [no_operation] * calls})
    for part, operations in of_slots[0].items():
        for index in range(len(operations)):
            parts.batches[part, index] = [of_slots[call % len(of_slots)][part][index] for call in range(calls)]
    parts.holds += of_slots[0].get(CostPart.FORK, ())
    return parts


def _split(keys: Sequence[tuple[str, int]], times_us: Mapping[tuple[str, int], Sequence[float]]) -> CostSplit:
    """Return the time of each part, minus the time of the loop. A part whose gates all opened early is absent."""
    medians = {key: median(times_us[key]) for key in keys if times_us.get(key)}
    parts: dict[CostPart, float | None] = dict.fromkeys(CostPart)
    for part in CostPart:
        of_part = [key for key in keys if key[0] == part]
        if of_part and all(key in medians for key in (*of_part, _LOOP_KEY)):
            parts[part] = sum(max(0.0, medians[key] - medians[_LOOP_KEY]) for key in of_part)
    return CostSplit(
        stream_us=parts[CostPart.STREAM],
        fork_us=parts[CostPart.FORK],
        call_us=parts[CostPart.CALL],
        join_us=parts[CostPart.JOIN],
    )
