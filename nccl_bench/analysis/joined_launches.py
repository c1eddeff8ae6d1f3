"""Joins the launches of a run: each cell of a joined run has one record, which holds the rounds of all launches."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from itertools import chain
from statistics import median
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from nccl_bench.analysis.indexes import starts_of
from nccl_bench.analysis.kernels import joined_kernels
from nccl_bench.records.columns import Codes, Indexes, ListColumn, SampleColumns, Value, ValueColumn
from nccl_bench.records.cost_split import CostSplit
from nccl_bench.records.lines import Lines, without_gaps
from nccl_bench.records.run import Run
from nccl_bench.records.scenario_times import PartTimes, Skew
from nccl_bench.records.schema import BuffersRegistered, GpuState, PerIteration, Status

_Number = TypeVar("_Number", int, float)
# The statuses by priority: a joined cell gets the first of these that one of its launches has.
_WORST_FIRST = (Status.WRONG, Status.DECLINED, Status.OK)


def join_launches(run: Run) -> Run:
    """Return ``run`` with one record of samples for each cell; its rounds are numbered through all launches."""
    samples = run.samples
    if not len(samples) or ((samples.launch == 1).all() and all(line.launch == 1 for line in run.others)):
        return run
    # Put the lines of each cell together, in the order in which the cells were first measured. `starts` has the index
    # of each cell's first line.
    _, first, cell = np.unique(samples.cell, return_index=True, return_inverse=True)
    order = np.argsort(first[cell], kind="stable")
    starts = starts_of(first[cell][order])
    positions, others = without_gaps(run.lines.positions[np.sort(first)], run.lines.others)
    return replace(run, lines=Lines(_join(samples, order, starts), positions, others))


def _join(samples: SampleColumns, order: Indexes, starts: Indexes) -> SampleColumns:
    """Return the lines ``order`` joined by cell; ``starts`` has the index in ``order`` of each cell's first line."""
    counts = np.diff(starts, append=len(order))
    cell, is_joined = np.repeat(np.arange(len(starts)), counts), counts > 1
    severity = samples.status.map(_WORST_FIRST.index, np.intp)[order]
    # For each cell, the first of its lines with the worst status.
    worst = samples.take(order[np.lexsort((severity, cell))[starts]])
    ordered = samples.take(order)
    samples_us = ordered.samples_us.joined(starts)
    # The times of ranks are joined only if every launch has them.
    lacks_ranks = np.logical_or.reduceat(ordered.slowest_rank.lengths != ordered.samples_us.lengths, starts)
    fastest_rank_us, slowest_rank = (
        column.joined(starts).without(lacks_ranks) for column in (ordered.fastest_rank_us, ordered.slowest_rank)
    )
    return replace(
        worst,
        ops_per_batch=np.maximum.reduceat(ordered.ops_per_batch, starts),
        rounds=_numbered(worst.rounds, samples_us, is_joined),
        samples_us=samples_us,
        fastest_rank_us=fastest_rank_us,
        slowest_rank=slowest_rank,
        arms_before=worst.arms_before.without(is_joined),
        began_s=worst.began_s.without(is_joined),
        discarded=np.add.reduceat(ordered.discarded, starts),
        wrong=_total(ordered.wrong, starts),
        late=_total(ordered.late, starts),
        per_iteration=_joined(ordered.per_iteration, starts, _join_percentiles),
        gpus=_joined(ordered.gpus, starts, _join_states),
        launch=np.where(is_joined, 1, worst.launch),
        registered=_joined(ordered.registered, starts, _join_registered),
        cost=_joined(ordered.cost, starts, _join_costs),
        kernels=_joined(ordered.kernels, starts, joined_kernels),
        skew=_joined(ordered.skew, starts, _join_skews),
        parts=_joined(ordered.parts, starts, _join_parts),
    )


def _numbered(
    rounds: ValueColumn[tuple[int, ...]], samples_us: ListColumn, chosen: NDArray[np.bool_]
) -> ValueColumn[tuple[int, ...]]:
    """Return ``rounds``, but number the rounds of each of the ``chosen`` lines from 0."""
    counts, codes = np.unique(samples_us.lengths, return_inverse=True)
    values = (*rounds.values, *(tuple(range(count)) for count in counts.tolist()))
    return ValueColumn(values, np.where(chosen, codes + len(rounds.values), rounds.codes).astype(np.int32))


def _joined(
    column: ValueColumn[Value], starts: Indexes, join: Callable[[Sequence[Value]], Value]
) -> ValueColumn[Value]:
    """Return the values of each cell joined. A cell keeps a single value. A cell without values has ``None``."""
    codes = column.codes.tolist()
    ends = [*starts[1:].tolist(), len(codes)]
    new = Codes()
    # The arms of a case and timing have the same values.
    known: dict[tuple[int, ...], int] = {}
    joined = []
    for start, end in zip(starts.tolist(), ends, strict=True):
        of_cell = tuple(codes[start:end])
        if of_cell not in known:
            values = [column.values[code] for code in of_cell if code >= 0]
            known[of_cell] = new[join(values) if len(values) > 1 else next(iter(values), None)]
        joined.append(known[of_cell])
    return ValueColumn(tuple(new.in_order), np.array(joined, dtype=np.int32))


def _total(values: NDArray[np.int64], starts: Indexes) -> NDArray[np.int64]:
    """Return the sum of the known values of each cell; -1 stands for an unknown value."""
    known = np.add.reduceat(np.maximum(values, 0), starts)
    return np.where(np.maximum.reduceat(values, starts) < 0, -1, known)


def _join_registered(answers: Sequence[BuffersRegistered]) -> BuffersRegistered:
    return BuffersRegistered.PARTLY if len({*answers}) > 1 else answers[0]


def _join_costs(of_launches: Sequence[CostSplit]) -> CostSplit:
    """Return the median over the launches of each part, and the most nodes."""
    times = [each.name for each in fields(CostSplit) if each.name != "graph_nodes"]
    return CostSplit(
        **{name: _median(getattr(split, name) for split in of_launches) for name in times},
        graph_nodes=_most(split.graph_nodes for split in of_launches),
    )


def _join_skews(launches: Sequence[Skew]) -> Skew:
    return Skew(
        late_rank=launches[0].late_rank,
        delay_us=tuple(chain.from_iterable(each.delay_us for each in launches)),
        late_rank_us=tuple(chain.from_iterable(each.late_rank_us for each in launches)),
    )


def _join_percentiles(launches: Sequence[PerIteration]) -> PerIteration:
    """Return the extremes of all operations. Percentiles and the cost are medians over the launches."""
    return PerIteration(
        operations=sum(each.operations for each in launches),
        min_us=min(each.min_us for each in launches),
        max_us=max(each.max_us for each in launches),
        **{
            name: _median(getattr(each, name) for each in launches)
            for name in ("p50_us", "p90_us", "p99_us", "cost_us")
        },
    )


def _join_parts(launches: Sequence[PartTimes]) -> PartTimes:
    """Return the rounds of all launches, one launch after the other. Omit a kind of time that a launch lacks."""
    products = dict.fromkeys(each.product for each in launches)
    names = [each.name for each in fields(PartTimes) if each.name != "product"]
    of_launches = {name: [getattr(each, name) for each in launches] for name in names}
    joined = {name: tuple(chain.from_iterable(times)) if all(times) else () for name, times in of_launches.items()}
    return PartTimes(product=" or ".join(products), **joined)


def _join_states(states: Sequence[GpuState]) -> GpuState:
    """Return the worst state. Take values that belong together, such as a throttled rank and share, from one launch."""
    throttled = max(states, key=lambda state: (state.throttled_rank is not None, state.throttled_share or 0.0))
    shared = next((state for state in states if state.other_process is not None), states[0])
    return GpuState(
        sm_clock_mhz=_least(state.sm_clock_mhz for state in states),
        memory_clock_mhz=_least(state.memory_clock_mhz for state in states),
        temperature_c=_most(state.temperature_c for state in states),
        power_w=_most(state.power_w for state in states),
        throttle_reasons=tuple(dict.fromkeys(reason for state in states for reason in state.throttle_reasons)),
        throttled_share=throttled.throttled_share,
        throttled_rank=throttled.throttled_rank,
        other_process=shared.other_process,
        other_process_rank=shared.other_process_rank,
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _least(values: Iterable[_Number | None]) -> _Number | None:
    return min((value for value in values if value is not None), default=None)


def _most(values: Iterable[_Number | None]) -> _Number | None:
    return max((value for value in values if value is not None), default=None)
