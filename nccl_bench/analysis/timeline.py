"""The timeline of a run: its cases, their rounds and their batches, with a lane for each rank that has times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from nccl_bench.analysis.machine import over_ranks_of
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.timings import Timing
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Samples

_BEGINS = "Each batch begins when its timed part began, on the clock of rank 0's host, in seconds since the run began."
_NO_BEGINS = "The record has no begin times, so the batches are laid end to end, and the time between them is missing."
_ORDER_UNKNOWN = "The order of the arms in a round is not recorded: they stand in the order of the record."
_ONE_CLOCK = "The clocks of ranks differ, so all ranks begin a batch at the same place."
_ONE_TIME = "The record has one time for all ranks"
_MANY_RANKS = "A record has the times of the slowest and the fastest rank of a batch, and not those of the other ranks."


class Batch(NamedTuple):
    """A measured batch on the timeline."""

    begin_ns: int  # the start of its timed part, nanoseconds since the run began
    end_ns: int  # its end on the slowest rank, nanoseconds since the run began
    case: Case  # the case
    timing: Timing  # the way of measuring
    launch: int  # the launch, counted from 1
    round: int  # the number of the round
    arm: str  # the arm
    operations: int  # the operations in the batch
    slowest_us: float  # time per operation on the slowest rank
    fastest_us: float | None  # time per operation on the fastest rank; None if it is not recorded
    slowest_rank: int | None  # the slowest rank; None if it is not recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A case, a timing of a case, or a round of a timing. A round lies in its timing, and a timing in its case."""

    name: str  # its name
    begin_ns: int  # the start of its first batch, nanoseconds
    end_ns: int  # the end of its last batch, nanoseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """The batches of a rank."""

    name: str  # the rank, or the rule that chooses a rank
    times_us: tuple[float | None, ...]  # time per operation in each batch of the timeline; None if it is not recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """The batches of a run, each with its begin and its end."""

    batches: tuple[Batch, ...]  # all batches, in order; none begins before the one before it has ended
    spans: tuple[Span, ...]  # the cases, timings and rounds; each is before the spans that lie in it
    lanes: tuple[Lane, ...]  # the ranks
    has_begins: bool  # False if the batches are laid end to end
    notes: tuple[str, ...]  # sentences on the contents and the limits of the timeline


def timeline_of(run: Run) -> Timeline:
    """Return the timeline of ``run``; its launches must be separate, not joined."""
    has_begins, has_order = (
        bool((column.lengths > 0)[run.samples.is_timed].all())
        for column in (run.samples.began_s, run.samples.arms_before)
    )
    batches = tuple(_following(_in_order(run, has_begins)))
    lanes, note = _lanes(run, batches)
    return Timeline(
        batches=batches,
        spans=tuple(_spans(batches)),
        lanes=lanes,
        has_begins=has_begins,
        notes=(_BEGINS if has_begins else _NO_BEGINS, *([] if has_begins or has_order else [_ORDER_UNKNOWN]), note),
    )


def _in_order(run: Run, has_begins: bool) -> list[Batch]:
    """Return the batches in the order of their measurement; without begin times, each begins at 0."""
    keyed: list[tuple[tuple[int, ...], Batch]] = []
    groups: dict[tuple[int, Case, Timing], int] = {}
    for line in run.lines:
        if not isinstance(line, Samples):
            continue
        group = groups.setdefault((line.launch, line.case, line.timing), len(groups))
        # An import can lack the number of operations.
        operations = max(1, line.ops_per_batch)
        for index, (number, slowest_us) in enumerate(zip(line.rounds, line.samples_us, strict=True)):
            begin_ns = round(line.began_s[index] * 1e9) if has_begins else 0
            before = line.arms_before[index] if line.arms_before else 0
            batch = Batch(
                begin_ns=begin_ns,
                end_ns=begin_ns + duration_ns(slowest_us, operations),
                case=line.case,
                timing=line.timing,
                launch=line.launch,
                round=number,
                arm=line.arm,
                operations=operations,
                slowest_us=slowest_us,
                fastest_us=line.fastest_rank_us[index] if line.fastest_rank_us else None,
                slowest_rank=line.slowest_rank[index] if line.slowest_rank else None,
            )
            keyed.append(((begin_ns, line.launch, group, number, before), batch))
    # Lines whose order is not known stay in the order of the record.
    return [batch for _, batch in sorted(keyed, key=lambda each: each[0])]


def _following(batches: Sequence[Batch]) -> Iterator[Batch]:
    """Yield ``batches``, each after the end of the one before: viewers drop a batch that overlaps another one.

    Begin times are those of rank 0. Another rank can be slower by more than the microseconds between two batches.
    """
    end_ns = 0
    for batch in batches:
        late_ns = max(0, end_ns - batch.begin_ns)
        end_ns = batch.end_ns + late_ns
        yield batch._replace(begin_ns=batch.begin_ns + late_ns, end_ns=end_ns)


def duration_ns(time_us: float, operations: int) -> int:
    """Return the duration of a batch of ``operations`` operations that take ``time_us`` each."""
    return round(time_us * operations * 1e3)


def _spans(batches: Sequence[Batch]) -> Iterator[Span]:
    several_launches = len({batch.launch for batch in batches}) > 1
    for of_case in _groups(batches, "launch", "case"):
        label, launch = of_case[0].case.label, of_case[0].launch
        yield _span(f"{label}, launch {launch}" if several_launches else label, of_case)
        for of_timing in _groups(of_case, "timing"):
            yield _span(of_timing[0].timing, of_timing)
            for of_round in _groups(of_timing, "round"):
                yield _span(f"round {of_round[0].round}", of_round)


def _groups(batches: Sequence[Batch], *names: str) -> Iterator[list[Batch]]:
    """Yield groups of neighbouring ``batches`` with equal values in the fields ``names``."""
    for _, group in groupby(batches, key=attrgetter(*names)):
        yield list(group)


def _span(name: str, batches: Sequence[Batch]) -> Span:
    return Span(name=name, begin_ns=batches[0].begin_ns, end_ns=batches[-1].end_ns)


def _lanes(run: Run, batches: Sequence[Batch]) -> tuple[tuple[Lane, ...], str]:
    """Return a lane for each rank whose times are known, and a sentence on the lanes."""
    slowest, fastest = (tuple(getattr(batch, name) for batch in batches) for name in ("slowest_us", "fastest_us"))
    ranks = {batch.slowest_rank for batch in batches}
    if ranks == {None}:
        rule = over_ranks_of(run.meta)
        return (Lane(name="time over ranks", times_us=slowest),), _ONE_TIME + (f": {rule}." if rule else ".")
    if run.world_size > 2 or not ranks <= {*range(run.world_size)}:
        lanes = (Lane(name="slowest rank", times_us=slowest), Lane(name="fastest rank", times_us=fastest))
        return lanes, f"{_MANY_RANKS} {_ONE_CLOCK}"
    # With two ranks, the rank that is not the slowest is the fastest.
    of_ranks = (
        tuple(batch.slowest_us if batch.slowest_rank == rank else batch.fastest_us for batch in batches)
        for rank in range(run.world_size)
    )
    return tuple(Lane(name=f"rank {rank}", times_us=times) for rank, times in enumerate(of_ranks)), _ONE_CLOCK
