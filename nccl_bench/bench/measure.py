"""The measurements of one case: the pilots, the lengths of the gates, and the rounds over all arms."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

from nccl_bench.bench.context import CaseContext
from nccl_bench.bench.schedule import FEWEST_OPS, Pilot, Schedule, gate_length_s
from nccl_bench.bench.stopping import Stopping
from nccl_bench.bench.timing import Batch, no_garbage_collection
from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.plan.shuffling import shuffled
from nccl_bench.ranks.control import Reduced
from nccl_bench.streams.base import Graph

# A gate grows to at most this many times its first length. If an arm's calls block the host until the gate opens, every
# gate opens too early. Without a limit, the gate would then grow until the case looks like a hang.
LONGEST_GATE = 32


@dataclass(slots=True)
class KeptBatches:
    """The batches of one arm in one timing."""

    by_round: dict[int, Reduced] = field(default_factory=dict)  # round -> the batch; absent if a gate opened early
    # For each kept round, the number of arms measured before this one.
    arms_before: list[int] = field(default_factory=list)
    skews: dict[int, tuple[float, float]] = field(default_factory=dict)  # round -> the delay, and the late rank's time
    discarded: int = 0  # the number of batches whose gate opened early

    def times_us(self) -> dict[int, float]:
        """Return the sample of each round: microseconds per operation on the slowest rank."""
        return {number: batch.slowest_us for number, batch in self.by_round.items()}


def run_pilots(context: CaseContext, names: Sequence[str]) -> dict[str, Pilot]:
    """Warm up each arm, then measure its pilot. Each returned time is the maximum over the ranks."""
    measured = dict.fromkeys(names, (0.0, 0.0))
    for name in context.arms.visit(names, "pilot"):
        calls = context.calls(name, FEWEST_OPS)
        for index in range(context.config.warmup):
            calls[index % len(calls)]()
        context.streams.synchronize()
        context.restore(FEWEST_OPS)
        device_us = min(context.clock.eager(calls).time_us for _ in range(2))
        enqueue_us = min(context.clock.call_cost_us(calls) for _ in range(2))
        measured[name] = (device_us, enqueue_us)
    slowest = context.control.maximum([time_us for pair in measured.values() for time_us in pair])
    return {
        name: Pilot(device_us=max(device_us, 1e-3), enqueue_us=enqueue_us)
        for name, device_us, enqueue_us in zip(names, slowest[::2], slowest[1::2], strict=True)
    }


def _first_gates_s(
    context: CaseContext, names: Sequence[str], timing: Timing, schedule: Schedule, graphs: Mapping[str, Graph]
) -> dict[str, float]:
    """Return the length of each arm's first gate in seconds; 0 if ``timing`` has no gate. Warm up the graphs."""
    if not TIMINGS[timing].gated:
        return dict.fromkeys(names, 0.0)
    if not TIMINGS[timing].captured:
        return {name: schedule.gates_s[name, timing] for name in names}
    launches_us = dict.fromkeys(names, 0.0)
    for name in context.arms.visit(names, "graph warm-up"):
        context.restore(context.buffers.slots)
        replays = [graphs[name].replay] * schedule.replays
        launches_us[name] = min(context.clock.call_cost_us(replays) for _ in range(2)) * schedule.replays
    slowest = context.control.maximum(list(launches_us.values()))
    return {name: gate_length_s(launch_us) for name, launch_us in zip(names, slowest, strict=True)}


def measure_rounds(
    context: CaseContext,
    names: Sequence[str],
    timing: Timing,
    schedule: Schedule,
    graphs: Mapping[str, Graph],
) -> dict[str, KeptBatches]:
    """Measure rounds until rank 0 decides that there are enough. Each round measures all arms, in shuffled order."""
    first_gates = _first_gates_s(context, names, timing, schedule, graphs)
    called = schedule.calls(timing)
    calls = {} if graphs else {name: context.calls(name, called) for name in context.arms.present(names)}
    gates_s = dict(first_gates)
    kept = {name: KeptBatches() for name in names}
    case, config = context.case, context.config
    marked = context.streams.marked if config.nvtx else nullcontext
    ranges = {name: f"{case.label} {timing} {name}" for name in names}
    stopping = Stopping(
        baseline=config.baseline,
        fewest=config.rounds,
        fewest_late=config.min_rounds,
        most=config.max_rounds,
        threshold=config.thresholds.threshold(case.collective, timing, case.size_bytes),
        error=context.error,
    )
    context.budget.begin_rounds()
    attempts = 0
    while True:
        times_us = {name: batches.times_us() for name, batches in kept.items()}
        # Rank 0 decides for all ranks, because the clocks of the ranks differ.
        block = context.control.broadcast(stopping.block(times_us, attempts, in_time=not context.budget.used_up()))
        if not block:
            return kept
        visits: list[tuple[int, int, str]] = []
        measured: dict[tuple[int, str], Batch] = {}
        with no_garbage_collection():
            for number in range(attempts, attempts + block):
                order = shuffled(names, config.seed, case.label, timing, number)
                visits += [(number, before, name) for before, name in enumerate(order)]
                for name in context.arms.visit(order, timing):
                    context.restore(called)
                    # The range costs a microsecond or more, but it begins before the timed part and ends after it.
                    with marked(ranges[name]):
                        measured[number, name] = context.clock.batch(
                            timing,
                            calls.get(name, ()),
                            graphs.get(name),
                            operations=schedule.ops[timing],
                            replays=schedule.replays,
                            untimed=schedule.untimed[timing],
                            gate_s=gates_s[name],
                        )
        attempts += block
        batches = [measured.get((number, name)) for number, _, name in visits]
        reduced = context.control.reduce_batches(
            [None if batch is None else batch.time_us for batch in batches],
            [batch is None or batch.valid for batch in batches],
            # Only the first rank of each process set gives the start of a batch: it is on the host of rank 0, and the
            # clocks of hosts differ.
            [None if batch is None or context.arms.ranks.own_set.rank else batch.began_s for batch in batches],
        )
        skews = _reduce_skews(context, batches)
        opened_early = set()
        for (number, before, name), batch, skew in zip(visits, reduced, skews, strict=True):
            if batch.valid:
                kept[name].by_round[number] = batch
                if skew is not None:
                    kept[name].skews[number] = skew
                kept[name].arms_before.append(before)
            else:
                kept[name].discarded += 1
                opened_early.add(name)
        # All batches of an arm in this block had the same gate, so double the gate only once.
        for name in opened_early:
            gates_s[name] = min(2 * gates_s[name], LONGEST_GATE * first_gates[name])


def _reduce_skews(context: CaseContext, batches: Sequence[Batch | None]) -> list[tuple[float, float] | None]:
    """Return the delay and the time of the late rank in each batch, in microseconds; ``None`` if no rank is late."""
    if context.work.late_rank is None:
        return [None] * len(batches)
    # Only the late rank has a delay, so the maximum over the ranks is the value of the late rank.
    of_late_rank = [
        (0.0, 0.0) if each is None or each.delay_us is None else (each.delay_us, each.time_us) for each in batches
    ]
    maxima = context.control.maximum([value for pair in of_late_rank for value in pair])
    return list(zip(maxima[::2], maxima[1::2], strict=True))
