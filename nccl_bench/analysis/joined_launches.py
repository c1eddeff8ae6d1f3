"""Joins the launches of a run: each cell of a joined run has one record, which holds the rounds of all launches."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from statistics import median
from typing import TypeVar

from nccl_bench.analysis.comparable import Cell
from nccl_bench.records.run import Run
from nccl_bench.records.schema import BuffersRegistered, GpuState, Line, PerIteration, Samples, Status

_Number = TypeVar("_Number", int, float)
# The statuses, the one that counts first.
_WORST_FIRST = (Status.WRONG, Status.DECLINED, Status.OK)


def join_launches(run: Run) -> Run:
    """Return ``run`` with one record of samples for each cell; the rounds of all launches are numbered in a row."""
    if all(line.launch == 1 for line in run.lines):
        return run
    launches: dict[Cell, list[Samples]] = {}
    for line in run.lines:
        if isinstance(line, Samples):
            launches.setdefault((line.case, line.timing, line.arm), []).append(line)
    lines: list[Line] = []
    for line in run.lines:
        if not isinstance(line, Samples):
            lines.append(line)
        elif of_cell := launches.pop((line.case, line.timing, line.arm), None):
            lines.append(of_cell[0] if len(of_cell) == 1 else _join(of_cell))
    return replace(run, lines=tuple(lines))


def _join(lines: Sequence[Samples]) -> Samples:
    worst = min(lines, key=lambda line: _WORST_FIRST.index(line.status))
    samples_us = tuple(time_us for line in lines for time_us in line.samples_us)
    return replace(
        worst,
        ops_per_batch=max(line.ops_per_batch for line in lines),
        rounds=tuple(range(len(samples_us))),
        samples_us=samples_us,
        fastest_rank_us=tuple(time_us for line in lines for time_us in line.fastest_rank_us),
        slowest_rank=tuple(rank for line in lines for rank in line.slowest_rank),
        arms_before=(),
        discarded=sum(line.discarded for line in lines),
        wrong=_total(line.wrong for line in lines),
        late=_total(line.late for line in lines),
        per_iteration=_join_percentiles([line.per_iteration for line in lines if line.per_iteration]),
        gpus=_join_states([line.gpus for line in lines if line.gpus]),
        launch=1,
        registered=_join_registered({line.registered for line in lines if line.registered}),
    )


def _join_registered(answers: Collection[BuffersRegistered]) -> BuffersRegistered | None:
    return BuffersRegistered.PARTLY if len(answers) > 1 else next(iter(answers), None)


def _join_percentiles(launches: Sequence[PerIteration]) -> PerIteration | None:
    """Return the extremes of all operations, and the median over the launches of each percentile and of the cost."""
    if not launches:
        return None
    columns = {
        name: [value for each in launches if (value := getattr(each, name)) is not None]
        for name in ("p50_us", "p90_us", "p99_us", "cost_us")
    }
    return PerIteration(
        operations=sum(each.operations for each in launches),
        min_us=min(each.min_us for each in launches),
        max_us=max(each.max_us for each in launches),
        **{name: median(values) if values else None for name, values in columns.items()},
    )


def _join_states(states: Sequence[GpuState]) -> GpuState | None:
    """Return the worst state; what belongs together, such as a throttled rank and its share, is of one launch."""
    if not states:
        return None
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


def _total(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _least(values: Iterable[_Number | None]) -> _Number | None:
    return min((value for value in values if value is not None), default=None)


def _most(values: Iterable[_Number | None]) -> _Number | None:
    return max((value for value in values if value is not None), default=None)
