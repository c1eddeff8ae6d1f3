"""From a configuration to the cases of a run: what is measured, what is left out and why, and what it takes. No torch.

Every rank and the command line compute the same plan from the same configuration, so ``--dry-run`` shows what a worker
will do.
"""

from __future__ import annotations

from dataclasses import dataclass

from nccl_bench.capabilities import ARMS, unsupported
from nccl_bench.collectives import COLLECTIVES, DTYPES, Case, Placement, Scenario, Timing
from nccl_bench.config import CallerStream, RunConfig
from nccl_bench.errors import UsageError
from nccl_bench.units import format_size

# Calls rotate through an arena larger than any last-level cache of today's devices (H200: 60 MB, B200: 126 MB).
ARENA_BYTES = 256 * 1024**2
# A graph of one very large operation would be timed with its launch gap; a few hide it.
FEWEST_SLOTS = 4
# Half of a CUDA launch queue of about 1,000 entries: beyond that the host would block inside a timed batch.
LAUNCH_QUEUE_ENTRIES = 500
OPS_PER_GRAPH = 32
# Long against the resolution of events (about half a microsecond) and against what is left of the ranks' skew.
BATCH_S = 1e-3
# Buffers start on the boundary torch's and CUDA's allocators give, so a slot is as aligned as a tensor of its own.
SLOT_ALIGNMENT_BYTES = 512
# The comparison's temporaries and the aligning collective's buffer.
WORKSPACE_BYTES = 128 * 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """The buffers of one case on one rank: ``slots`` copies, ``slot_bytes`` each, in ``regions`` equal parts.

    In place there is one region; out of place the input has one and the output another.
    """

    slots: int
    slot_bytes: int
    regions: int

    @property
    def total_bytes(self) -> int:
        """Bytes taken on one rank: the slots, one copy each of the input and of the expected output, the workspace."""
        return (self.slots * self.regions + 2) * self.slot_bytes + WORKSPACE_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCase:
    """A case and the arms that can do it."""

    case: Case
    arms: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything a run will do.

    ``left_out`` says, once each, what was asked for and cannot be done; ``timings`` are those the device has.
    """

    cases: tuple[PlannedCase, ...]
    timings: tuple[Timing, ...]
    left_out: tuple[str, ...]


def make_plan(config: RunConfig, world_size: int) -> Plan:
    """The cases of ``config`` on ``world_size`` ranks; raises ``UsageError`` where nothing is left to measure."""
    left_out: dict[str, None] = {}
    if config.root >= world_size:
        raise UsageError(f"the root is rank {config.root}, and there are ranks 0 to {world_size - 1}")
    most = most_ops_per_batch(config.arms)
    if config.ops_per_batch is not None and config.ops_per_batch > most:
        raise UsageError(
            f"ops_per_batch (-n) is {config.ops_per_batch}: it is {most} at the most with these arms, so that a batch "
            "stays below half of the device's launch queue; take more --rounds instead"
        )
    timings = _timings(config, left_out)
    cases: dict[Case, tuple[str, ...]] = {}
    for collective in config.collectives:
        row = COLLECTIVES[collective]
        for dtype in config.dtypes:
            for redop in config.redops if row.reduces else (None,):
                for placement in _placements(config, collective, left_out):
                    arms = []
                    for name in config.arms:
                        reason = unsupported(ARMS[name], config.device_spec, collective, dtype, redop, placement)
                        if reason is None:
                            arms.append(name)
                        else:
                            what = " ".join(filter(None, (collective, dtype, redop, placement)))
                            left_out[f"{name} does not run {what}: {reason}"] = None
                    for size in config.sizes if arms else ():
                        count = row.block_count(size, DTYPES[dtype].itemsize, world_size)
                        if count == 0:
                            what = f"{collective} {dtype} of {format_size(size)}"
                            left_out[f"{what} is empty on {world_size} ranks, as nccl-tests rounds it"] = None
                            continue
                        case = Case(
                            scenario=Scenario.ISOLATED,
                            collective=collective,
                            dtype=dtype,
                            redop=redop,
                            placement=placement,
                            root=config.root if row.rooted else None,
                            size_bytes=row.size_bytes(count, DTYPES[dtype].itemsize, world_size),
                            count=count,
                        )
                        cases[case] = tuple(arms)
    if not cases:
        raise UsageError("nothing is left to measure: " + "; ".join(left_out))
    return Plan(
        cases=tuple(PlannedCase(case=case, arms=arms) for case, arms in cases.items()),
        timings=timings,
        left_out=tuple(left_out),
    )


def _placements(config: RunConfig, collective: str, left_out: dict[str, None]) -> tuple[Placement, ...]:
    """The placements asked for that ``collective`` has; the one it has where that is none of them."""
    has = COLLECTIVES[collective].placements
    for placement in config.placements:
        if placement not in has:
            left_out[f"{collective} has no {placement} form: it is measured {has[0]}"] = None
    return tuple(placement for placement in config.placements if placement in has) or has


def _timings(config: RunConfig, left_out: dict[str, None]) -> tuple[Timing, ...]:
    missing = dict(config.device_spec.missing_timings)
    if config.caller_stream is CallerStream.DEFAULT and config.device == "cpu":
        inline = "the CPU's default stream runs inline, so nothing can be held back on it"
        missing |= {Timing.GATED: inline, Timing.ENQUEUE: inline}
    for timing in config.timings:
        if timing in missing:
            left_out[f"{timing} timing is absent: {missing[timing]}"] = None
    timings = tuple(timing for timing in config.timings if timing not in missing)
    if not timings:
        raise UsageError("no timing is left to measure: " + "; ".join(left_out))
    if config.per_iteration and not {Timing.EAGER, Timing.GATED} & set(timings):
        raise UsageError("--per-iteration puts events between operations: it needs eager or gated among the timings")
    return timings


def plan_arena(config: RunConfig, case: Case, world_size: int, budget_bytes: int) -> Arena | None:
    """The arena of ``case`` within ``budget_bytes``, with fewer slots if that makes it fit; ``None`` if none does."""
    itemsize = DTYPES[case.dtype].itemsize
    row = case.row
    elements = max(row.send_count(case.count, world_size), row.receive_count(case.count, world_size))
    slot_bytes = -(-elements * itemsize // SLOT_ALIGNMENT_BYTES) * SLOT_ALIGNMENT_BYTES
    regions = 1 if case.placement is Placement.IN_PLACE else 2
    most = ((budget_bytes - WORKSPACE_BYTES) // slot_bytes - 2) // regions
    if most < 1:
        return None
    wanted = 1 if config.same_buffer else max(FEWEST_SLOTS, min(-(-ARENA_BYTES // slot_bytes), LAUNCH_QUEUE_ENTRIES))
    return Arena(slots=min(wanted, most), slot_bytes=slot_bytes, regions=regions)


def estimate_s(config: RunConfig, plan: Plan) -> float:
    """About how long a run takes, seconds, from nominal speeds of the device: an order of magnitude, not a promise."""
    spec = config.device_spec
    total = spec.setup_s + len(config.arms) * spec.communicator_s
    for planned in plan.cases:
        operation_s = spec.operation_s + planned.case.size_bytes / spec.bytes_per_s
        batch_s = max(BATCH_S, FEWEST_SLOTS * operation_s) + spec.batch_overhead_s
        total += len(planned.arms) * (len(plan.timings) * config.rounds * batch_s + 2 * FEWEST_SLOTS * operation_s)
    return total


def most_ops_per_batch(arms: tuple[str, ...]) -> int:
    """The most operations a batch of these arms may hold with every entry below half the launch queue."""
    return LAUNCH_QUEUE_ENTRIES // max(ARMS[name].launch_entries for name in arms)
