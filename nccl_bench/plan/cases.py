"""From a configuration to the cases of a run: what is measured, what is left out and why, and what it takes. No torch.

Every rank and the command line compute the same plan from the same configuration, so ``--dry-run`` shows what a worker
will do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from nccl_bench.catalog.arms import twin_of
from nccl_bench.catalog.cases import Case, Scenario
from nccl_bench.catalog.collectives import COLLECTIVES, Placement
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.catalog.support import unsupported
from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.config.run import CallerStream, RunConfig
from nccl_bench.config.sizes import format_size, unique
from nccl_bench.errors import UsageError
from nccl_bench.plan.batches import most_ops_per_batch

# Choices that belong together: a collective and data type, and maybe a reduction and a placement.
Combination = tuple[str | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCase:
    """A case and the arms that can do it, the baseline's twin among them where any is compared with the baseline."""

    case: Case
    arms: tuple[str, ...]

    def candidates(self, baseline: str) -> tuple[str, ...]:
        """The arms that are compared with ``baseline``: none where it cannot do the case."""
        others = tuple(name for name in self.arms if name not in (baseline, twin_of(baseline)))
        return others if baseline in self.arms else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything a run will do.

    ``left_out`` has one text for each reason why something that was asked for cannot be done; ``timings`` are those
    the device has.
    """

    cases: tuple[PlannedCase, ...]
    timings: tuple[Timing, ...]
    left_out: tuple[str, ...]

    def only(self, baseline: str, can: Callable[[str, Case], bool]) -> Plan:
        """The same cases with those arms alone that ``can`` do them, which may be none."""
        cases = []
        for planned in self.cases:
            arms = [name for name in planned.arms if can(name, planned.case)]
            # The twin is there for what is compared with the baseline.
            if twin_of(baseline) in arms and not {*arms} - {baseline, twin_of(baseline)}:
                arms.remove(twin_of(baseline))
            cases.append(replace(planned, arms=tuple(arms)))
        return replace(self, cases=tuple(cases))

    def comparisons(self, baseline: str) -> int:
        """How many ratios to ``baseline`` a whole run finds: one for each case, timing and candidate."""
        return len(self.timings) * sum(len(planned.candidates(baseline)) for planned in self.cases)


def make_plan(config: RunConfig, world_size: int) -> Plan:
    """The cases of ``config`` on ``world_size`` ranks; raises ``UsageError`` where nothing is left to measure."""
    if config.root >= world_size:
        raise UsageError(f"the root is rank {config.root}, and there are ranks 0 to {world_size - 1}")
    most = most_ops_per_batch(config, config.arms)
    if config.ops_per_batch is not None and config.ops_per_batch > most:
        raise UsageError(
            f"ops_per_batch (-n) is {config.ops_per_batch}: it is {most} at the most with these arms, so that a batch "
            "stays below half of the device's launch queue; take more --rounds instead"
        )
    timings, missing = _timings(config)
    unable: dict[str, dict[Combination, list[str]]] = {}
    empty: dict[tuple[str, str], list[int]] = {}
    cases: dict[Case, tuple[str, ...]] = {}
    for collective in config.collectives:
        row = COLLECTIVES[collective]
        for dtype in config.dtypes:
            for redop in config.redops if row.reduces else (None,):
                for placement in _placements(config, collective):
                    arms = []
                    for name in config.arms:
                        reason = unsupported(config.arm(name), config.device_spec, collective, dtype, redop, placement)
                        if reason is None:
                            arms.append(name)
                        else:
                            combination = (collective, dtype, redop, placement)
                            unable.setdefault(reason, {}).setdefault(combination, []).append(name)
                    if config.baseline in arms and len(arms) > 1:
                        arms.append(twin_of(config.baseline))
                    for size in config.sizes if arms else ():
                        count = row.block_count(size, DTYPES[dtype].itemsize, world_size)
                        if count == 0:
                            empty.setdefault((collective, dtype), []).append(size)
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
    left_out = (
        *missing,
        *_without_form(config),
        *_empty_texts(empty, world_size),
        *_unable_texts(config, unable),
    )
    if not cases:
        raise UsageError("nothing is left to measure: " + "; ".join(left_out))
    return Plan(
        cases=tuple(PlannedCase(case=case, arms=arms) for case, arms in cases.items()),
        timings=timings,
        left_out=left_out,
    )


def products(combinations: Iterable[Combination]) -> list[str]:
    """``combinations`` in few texts of comma-separated choices, each of which stands for all that can be formed."""
    blocks: list[tuple[Combination, ...]] = [tuple((choice,) for choice in combination) for combination in combinations]
    for axis in reversed(range(max(map(len, blocks), default=0))):
        merged: dict[tuple[Combination, ...], Combination] = {}
        for block in blocks:
            rest = block[:axis] + block[axis + 1 :]
            merged[rest] = merged.get(rest, ()) + block[axis]
        blocks = [(*rest[:axis], choices, *rest[axis:]) for rest, choices in merged.items()]
    return [" ".join(filter(None, map(_choices, block))) for block in blocks]


def _choices(choices: Combination) -> str:
    return "all dtypes" if set(choices) == set(DTYPES) else ",".join(filter(None, choices))


def _unable_texts(config: RunConfig, unable: Mapping[str, Mapping[Combination, list[str]]]) -> Iterator[str]:
    for reason, combinations in unable.items():
        by_arms: dict[tuple[str, ...], list[Combination]] = {}
        for combination, arms in combinations.items():
            by_arms.setdefault(tuple(arms), []).append(combination)
        whats = []
        for names, members in by_arms.items():
            who = f"{', '.join(names)} {'does' if len(names) == 1 else 'do'} not run"
            whats.append(f"{'no arm runs' if names == config.arms else who} {' and '.join(products(members))}")
        yield f"{', '.join(whats)}: {reason}"


def _empty_texts(empty: Mapping[tuple[str, str], list[int]], world_size: int) -> Iterator[str]:
    by_sizes: dict[tuple[int, ...], list[Combination]] = {}
    for combination, found in empty.items():
        by_sizes.setdefault(unique(found), []).append(combination)
    for sizes, members in by_sizes.items():
        few = ", ".join(map(format_size, sizes))
        # Whatever is below the smallest block is empty, so nothing between these two is left.
        text = few if len(sizes) <= 3 else f"{format_size(min(sizes))} to {format_size(max(sizes))}"
        what = " and ".join(products(members))
        yield f"{what} of {text}: empty on {world_size} ranks, as nccl-tests rounds it"


def _without_form(config: RunConfig) -> Iterator[str]:
    without: dict[tuple[Placement, Placement], list[str]] = {}
    for collective in config.collectives:
        has = COLLECTIVES[collective].placements
        for placement in config.placements:
            if placement not in has:
                without.setdefault((placement, has[0]), []).append(collective)
    for (placement, instead), names in without.items():
        have, are = ("has", "it is") if len(names) == 1 else ("have", "they are")
        yield f"{', '.join(names)} {have} no {placement} form: {are} measured {instead}"


def _placements(config: RunConfig, collective: str) -> tuple[Placement, ...]:
    """The placements asked for that ``collective`` has; the one it has where that is none of them."""
    has = COLLECTIVES[collective].placements
    return tuple(placement for placement in config.placements if placement in has) or has


def _timings(config: RunConfig) -> tuple[tuple[Timing, ...], list[str]]:
    """Those of the configuration that the device has, and a text for each that it has not."""
    missing = dict(config.device_spec.missing_timings)
    if config.caller_stream is CallerStream.DEFAULT:
        missing |= config.device_spec.missing_on_default_stream
    left_out = [f"{timing} timing is absent: {missing[timing]}" for timing in config.timings if timing in missing]
    timings = tuple(timing for timing in config.timings if timing not in missing)
    if not timings:
        raise UsageError("no timing is left to measure: " + "; ".join(left_out))
    if config.per_iteration and not any(TIMINGS[timing].per_iteration for timing in timings):
        fitting = " or ".join(timing for timing, spec in TIMINGS.items() if spec.per_iteration)
        raise UsageError(f"--per-iteration puts events between operations: add {fitting} to --timing")
    return timings, left_out
