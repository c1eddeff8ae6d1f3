"""The plan of a run: its cases, the arms of each case, and its timings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from nccl_bench.catalog.arms import twin_of
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import COLLECTIVES, Placement, RedOp
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.catalog.scenarios import SCENARIOS
from nccl_bench.catalog.support import unsupported
from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.config.run import RunConfig
from nccl_bench.errors import UsageError
from nccl_bench.plan.batches import most_ops_per_batch
from nccl_bench.plan.left_out import LeftOut, absent_timings, possible_of
from nccl_bench.plan.placements import choose_placements
from nccl_bench.plan.scenarios import NO_WORK, Point, WorkPlan, points_of, unfit_for, work_of
from nccl_bench.plan.workload import own_messages, to_measure

# A collective, a data type, a reduction and a placement. Without a placement, each arm is called in a placement of its
# own.
_Combination = tuple[str, str, RedOp | None, Placement | None]
_TimedPoint = tuple[Point, tuple[Timing, ...]]
# The most cases of a run, over all launches. A record from another person can ask for any number.
MOST_CASES = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCase:
    """A case and the arms that support it."""

    case: Case  # the case to measure
    timings: tuple[Timing, ...]  # the timings to measure, in their order
    arms: tuple[str, ...]  # the arms that support the case, and the twin if an arm is compared with the baseline
    able: Mapping[str, tuple[Placement, ...]]  # arm -> the placements that it may be called in, the preferred one first
    work: WorkPlan = NO_WORK  # the work around the collective

    @property
    def placements(self) -> Mapping[str, Placement]:
        """The placement in which each arm is called."""
        return choose_placements(self.case.row, self.able)

    def candidates(self, baseline: str) -> tuple[str, ...]:
        """Return the arms that are compared with ``baseline``; none if the baseline does not support the case."""
        candidates = tuple(name for name in self.arms if name not in (baseline, twin_of(baseline)))
        return candidates if baseline in self.arms else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The cases of a run."""

    cases: tuple[PlannedCase, ...]  # the cases in the order of their measurement
    left_out: tuple[str, ...]  # one text for each reason why a part of the configuration cannot be measured

    @property
    def timings(self) -> tuple[Timing, ...]:
        """The timings of all cases together."""
        return tuple(timing for timing in Timing if any(timing in planned.timings for planned in self.cases))

    def smallest_and_largest(self) -> tuple[PlannedCase, ...]:
        """Return the cases with the smallest and with the largest size of each kind, in the order of the plan."""
        by_kind: dict[Case, list[PlannedCase]] = {}
        for planned in self.cases:
            by_kind.setdefault(planned.case.kind, []).append(planned)
        chosen = {
            choose(of_kind, key=lambda planned: planned.case.size_bytes).case
            for of_kind in by_kind.values()
            for choose in (min, max)
        }
        return tuple(planned for planned in self.cases if planned.case in chosen)

    def only(self, baseline: str, able: Mapping[str, Sequence[Sequence[str]]]) -> Plan:
        """Return a plan with only the arms and placements in ``able``.

        ``able`` has for each arm the placements of each case, the preferred one first. The plan leaves an arm out of a
        case for which the arm has no placements. A case without arms stays in the plan.
        """
        cases = []
        for index, planned in enumerate(self.cases):
            of_case = {name: tuple(map(Placement, able[name][index])) for name in planned.arms if name in able}
            arms = [name for name, placements in of_case.items() if placements]
            # The twin is useful only if an arm is compared with the baseline.
            if twin_of(baseline) in arms and not {*arms} - {baseline, twin_of(baseline)}:
                arms.remove(twin_of(baseline))
            cases.append(replace(planned, arms=tuple(arms), able={name: of_case[name] for name in arms}))
        return replace(self, cases=tuple(cases))

    def comparisons(self, baseline: str) -> int:
        """Return the number of ratios to ``baseline``: one for each case, timing and candidate."""
        return sum(len(planned.timings) * len(planned.candidates(baseline)) for planned in self.cases)


def make_plan(config: RunConfig, world_size: int) -> Plan:
    """Return the plan of ``config`` for ``world_size`` ranks. Raise ``UsageError`` if nothing can be measured."""
    if config.root >= world_size:
        raise UsageError(f"--root is rank {config.root}, but there are only ranks 0 to {world_size - 1}: choose one")
    left_out = LeftOut(config=config, world_size=world_size)
    requests = list(_requests(config, world_size))
    collectives = {COLLECTIVES[collective] for (collective, *_), _ in requests}
    # Use the highest limit of these collectives. An uneven form with a lower limit gets fewer operations in a batch.
    uneven_ranks = min((row.uneven_ranks(world_size) for row in collectives), default=0)
    most = most_ops_per_batch(config, config.arms, uneven_ranks)
    if config.ops_per_batch is not None and config.ops_per_batch > most:
        raise UsageError(
            f"ops_per_batch (-n) is {config.ops_per_batch}, but must be at most {most} with these arms, so that a "
            "batch fits into half of the device's launch queue: use a smaller -n and more --rounds"
        )
    timings = {timing for _, points in requests for _, of_point in points for timing in of_point}
    if not timings:
        raise UsageError("no timing is left to measure: " + "; ".join(left_out.texts()))
    if config.per_iteration and not any(TIMINGS[timing].per_iteration for timing in timings):
        fitting = " or ".join(timing for timing, spec in TIMINGS.items() if spec.per_iteration)
        raise UsageError(f"--per-iteration works only with some timings: add {fitting} to --timing")
    if config.cost_split and Timing.ENQUEUE not in timings:
        reason = left_out.missing_timings().get(Timing.ENQUEUE)
        advice = f"{reason}: " if reason else f"add {Timing.ENQUEUE} to --timing, or "
        raise UsageError(
            f"--cost-split measures the parts of {Timing.ENQUEUE}, which this run does not measure: {advice}leave "
            "--cost-split out"
        )
    number = sum(len(points) for _, points in requests) * config.launches
    if number > MOST_CASES:
        raise UsageError(
            f"the plan has {number:,} cases, each launch counted, and the most are {MOST_CASES:,}: give fewer sizes, "
            "data types or launches"
        )
    cases: dict[Case, PlannedCase] = {}
    for (collective, dtype, redop, placement), points in requests:
        row, itemsize = COLLECTIVES[collective], DTYPES[dtype].itemsize
        if reason := unfit_for(config.scenario, dtype, world_size):
            left_out.unsupported[reason][collective, dtype, redop, placement].extend(config.arms)
            continue
        allowed = row.placements if placement is None else (placement,)
        able: dict[str, tuple[Placement, ...]] = {}
        for name in config.arms:
            reasons = {
                each: unsupported(config.arm(name), config.device_spec, collective, dtype, redop, each)
                for each in allowed
            }
            if placements := tuple(each for each, reason in reasons.items() if reason is None):
                able[name] = placements
            elif reason := reasons[allowed[0]]:
                left_out.unsupported[reason][collective, dtype, redop, placement].append(name)
        if config.baseline in able and len(able) > 1:
            able[twin_of(config.baseline)] = able[config.baseline]
        for point, of_point in points if able else ():
            size = point.size_bytes
            count = row.block_count(size, itemsize, world_size)
            if count == 0:
                left_out.empty[collective, dtype].append(size)
                continue
            measured_bytes = row.size_bytes(count, itemsize, world_size)
            if measured_bytes != size:
                left_out.rounded[collective, dtype][size] = measured_bytes
            case = Case(
                scenario=config.scenario,
                collective=collective,
                dtype=dtype,
                redop=redop,
                placement=allowed[0],
                root=config.root if row.rooted else None,
                size_bytes=measured_bytes,
                count=count,
                **point.settings,
            )
            # Several sizes can round to the same case.
            known = cases[case].timings if case in cases else ()
            both = tuple(timing for timing in Timing if timing in (*known, *of_point))
            work = work_of(config, case, world_size)
            cases[case] = PlannedCase(case=case, timings=both, arms=tuple(able), able=able, work=work)
    if not cases:
        raise UsageError("nothing is left to measure: " + "; ".join(left_out.texts()))
    return Plan(cases=tuple(cases.values()), left_out=tuple(left_out.texts()))


def _requests(config: RunConfig, world_size: int) -> Iterator[tuple[_Combination, Sequence[_TimedPoint]]]:
    """Yield what to measure: each combination, with its points and the timings of each point."""
    absent, spec = absent_timings(config), SCENARIOS[config.scenario]
    kinds: Mapping[tuple[str, str], Sequence[_TimedPoint]]
    if config.workload is None:
        timings = tuple(timing for timing in config.timings if timing not in absent)
        points = {
            dtype: [(point, timings) for point in points_of(config, dtype, world_size)] for dtype in config.dtypes
        }
        collectives = possible_of(config.collectives, spec.collectives)
        kinds = {(collective, dtype): points[dtype] for collective, dtype in product(collectives, config.dtypes)}
    else:
        measured = to_measure(own_messages(config.workload, world_size), absent)
        kinds = {
            kind: [(Point(size_bytes=size), timings) for size, timings in sizes.items()]
            for kind, sizes in measured.items()
        }
    for (collective, dtype), points_of_kind in kinds.items():
        row = COLLECTIVES[collective]
        redops = possible_of(config.redops, spec.redops) if row.reduces else (None,)
        # A collective that has none of the configured placements is measured in its default placement.
        placements: Sequence[Placement | None] = (
            [None]
            if config.placements is None
            else [placement for placement in config.placements if placement in row.placements] or row.placements[:1]
        )
        for redop, placement in product(redops, placements):
            yield (collective, dtype, redop, placement), points_of_kind
