"""The steps of one case on one rank: a check and pilots, then for each timing its rounds, a check and its record."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from nccl_bench.bench.check import check_after, check_before_timing
from nccl_bench.bench.context import CaseContext
from nccl_bench.bench.cost_split import measure_cost_split
from nccl_bench.bench.first_call import try_captures, try_first_calls
from nccl_bench.bench.graphs import graphs_of
from nccl_bench.bench.logged_calls import Logged, read_log
from nccl_bench.bench.measure import KeptBatches, measure_rounds, run_pilots
from nccl_bench.bench.per_iteration import measure_per_iteration
from nccl_bench.bench.record import Record
from nccl_bench.bench.schedule import Schedule, make_schedule
from nccl_bench.bench.second_look import Errors
from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.records.cost_split import CostSplit
from nccl_bench.records.scenario_times import PartTimes, Skew
from nccl_bench.records.schema import GpuState, PerIteration, Samples, Status

_NOTHING_LOGGED = Logged()


def run_case(context: CaseContext, names: Sequence[str], timings: Sequence[Timing], record: Record) -> None:
    """Check and measure the arms ``names``, and record their results. Collective.

    ``names`` includes the arms of other processes. An arm whose result is wrong in the first check is not timed.
    """
    declined = try_first_calls(context, names)
    _record_declined(context, declined, timings, record)
    names = [name for name in names if name not in declined]
    if not names:
        return
    errors = check_before_timing(context, names)
    right = [name for name in names if not errors[name].any]
    record.append(
        _line(context, name, timing, errors[name]) for name in names if errors[name].any for timing in timings
    )
    if not right:
        return
    if len(right) < len(names):
        # The work of a wrong arm can go on and write into the buffers. So measure the other arms in new buffers.
        context = context.with_new_buffers()
    _record_paths(context, right, record)
    context.work.prepare(context, right)
    logged = read_log(context, right, timings)
    pilots = run_pilots(context, right)
    # Every rank makes the same schedule, because the pilots are maxima over the ranks.
    buffers = context.buffers
    schedule = make_schedule(
        context.config,
        pilots,
        buffers.slots,
        context.work.plan,
        calls_write_inputs=buffers.written_by_calls,
        uneven_ranks=context.uneven_ranks,
    )
    for timing in timings:
        context.budget.begin_timing()
        declined = try_captures(context, right) if TIMINGS[timing].captured else {}
        _record_declined(context, declined, [timing], record)
        timed = [name for name in right if name not in declined]
        if not timed:
            continue
        with graphs_of(context, timed, timing, schedule) as graphs:
            context.watch.begin()
            kept = measure_rounds(context, timed, timing, schedule, graphs)
            percentiles = measure_per_iteration(context, timed, timing, schedule, kept)
            parts = context.work.measure_parts(context, timed, timing, schedule)
            gpus = context.watch.end()
            errors = check_after(context, timed, timing, schedule, graphs)
            costs = measure_cost_split(context, timed, timing, schedule)
        record.append(
            _line(
                context,
                name,
                timing,
                errors[name],
                schedule=schedule,
                kept=kept[name],
                per_iteration=percentiles.get(name),
                gpus=gpus,
                cost=costs.get(name),
                logged=logged.get((name, timing), _NOTHING_LOGGED),
                parts=parts.get(name),
            )
            for name in timed
        )


def _record_declined(
    context: CaseContext, declined: Mapping[str, str], timings: Sequence[Timing], record: Record
) -> None:
    record.append(
        replace(_line(context, name, timing, Errors()), status=Status.DECLINED, wrong=None, late=None, reason=reason)
        for name, reason in declined.items()
        for timing in timings
    )


def _record_paths(context: CaseContext, names: Sequence[str], record: Record) -> None:
    """Record, once for each collective, which calls each arm makes and on which stream."""
    collective = context.case.collective
    unknown = [name for name in names if (collective, name) not in record.paths]
    if not unknown:
        return
    paths: dict[str, dict[str, str]] = {}
    for name in context.arms.visit(unknown, "trace"):
        case = context.case_of(name)
        by_mode = context.arms[name].paths(case, *context.buffers.pair(0, case.placement))
        paths[name] = {mode.value: path for mode, path in by_mode.items()}
        context.streams.synchronize()
    context.restore(1)
    record.paths |= {(collective, name): by_mode for name, by_mode in context.arms.merge(paths).items()}


def _line(
    context: CaseContext,
    arm: str,
    timing: Timing,
    errors: Errors,
    *,
    schedule: Schedule | None = None,
    kept: KeptBatches | None = None,
    per_iteration: PerIteration | None = None,
    gpus: GpuState | None = None,
    cost: CostSplit | None = None,
    logged: Logged = _NOTHING_LOGGED,
    parts: PartTimes | None = None,
) -> Samples:
    """Return the line of the record for ``arm`` in ``timing``. Without a ``schedule``, the line has no times."""
    kept = kept or KeptBatches()
    batches = kept.by_round.values()
    return Samples(
        case=context.case,
        arm=arm,
        timing=timing,
        status=Status.WRONG if errors.any else Status.OK,
        world_size=context.arms.ranks.own_set.world_size,
        ops_per_batch=schedule.operations(timing) if schedule else 0,
        rounds=tuple(kept.by_round),
        samples_us=tuple(batch.slowest_us for batch in batches),
        fastest_rank_us=tuple(batch.fastest_us for batch in batches),
        slowest_rank=tuple(batch.slowest_rank for batch in batches),
        discarded=kept.discarded,
        wrong=errors.wrong if context.config.check else None,
        late=errors.late if context.config.check else None,
        tolerance_ulp=context.buffers.tolerance_ulp,
        arena=context.buffers.arena,
        arm_placement=context.placements[arm],
        per_iteration=per_iteration,
        gpus=gpus,
        registered=logged.registered,
        kernels=logged.kernels,
        cost=cost,
        arms_before=tuple(kept.arms_before),
        skew=_skew(context, kept),
        began_s=tuple(round(batch.began_s, 6) for batch in batches),
        parts=parts,
    )


def _skew(context: CaseContext, kept: KeptBatches) -> Skew | None:
    late_rank, skews = context.work.late_rank, kept.skews.values()
    if late_rank is None or not skews:
        return None
    return Skew(
        late_rank=late_rank,
        delay_us=tuple(delay_us for delay_us, _ in skews),
        late_rank_us=tuple(late_rank_us for _, late_rank_us in skews),
    )
