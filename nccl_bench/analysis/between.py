"""Two sides of one or more runs each, compared: runs are not paired, so the variation between runs has to be known.

Several runs a side tell it themselves. One run a side says nothing about it, so there an arm that both have stands in:
each side's times are taken relative to it, and what moved both arms alike, the machine, drops out. Without such an arm
there are ratios of plain medians and no verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from nccl_bench.analysis.change import Change, Estimate, Ground
from nccl_bench.analysis.sources import Cell, Luck, Place, Source, medians
from nccl_bench.analysis.statistics import FAMILYWISE_ERROR, decisive_error, holm
from nccl_bench.catalog.arms import TWIN_SUFFIX
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.timings import Timing


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """Everything that two sides have in common, and of the arms that were asked for the cells that only one has.

    A cell has to be in every run of a side, beside that of the ``shared`` arm that its times are relative to, if any:
    one that both sides have, and not so, is in ``only_before`` and ``only_after``. ``why`` says what the verdicts stand
    on, or why there are none. ``shared_ratios`` are those of the ``shared`` arm itself, which nothing judges: one for
    each place in ``changes``, empty without such an arm.
    """

    ground: Ground
    why: str
    shared: str | None
    shared_ratios: tuple[float, ...]
    changes: tuple[Change, ...]
    only_before: tuple[Cell, ...]
    only_after: tuple[Cell, ...]


def between(
    before: Sequence[Source],
    after: Sequence[Source],
    threshold: Callable[[Case, Timing], float],
    *,
    arms: tuple[str, str] | None = None,
    shared: str | None = None,
) -> Between:
    """``after`` against ``before``: every arm of both against itself, or the second of ``arms`` against the first.

    ``shared`` is an arm that the change does not touch. Without it, and with one run on either side, the baseline of
    all stands in if they have the same one; where that is no ground for verdicts either, nothing is relative to it.
    Ratios are of medians, after / before.
    """
    if shared is None and min(len(before), len(after)) == 1:
        shared = _shared_baseline(before, after, arms)
    ground, why = _ground(before, after, shared)
    if ground is Ground.NOTHING:
        shared = None
    keys = [
        (place, first, second)
        for first, second in ([arms] if arms else _pairs(before, after, shared))
        for place in _places(before, first)
        if _have(before, place, first, shared) and _have(after, place, second, shared)
    ]
    # Runs of one side vary by luck as well: there it is in the intervals.
    lucks = None
    if ground is Ground.SHARED_ARM and shared is not None:
        lucks = Luck(before[0], shared), Luck(after[0], shared)
    estimates = [Estimate(before, after, ground, shared, *key, lucks) for key in keys]
    limits = [threshold(*place) for place, _, _ in keys]
    least = [decisive_error(estimate.at, limit) for estimate, limit in zip(estimates, limits, strict=True)]
    changes = tuple(
        estimate.change(limit, level)
        for estimate, limit, level in zip(estimates, limits, holm(least, FAMILYWISE_ERROR), strict=True)
    )
    return Between(
        ground=ground,
        why=why,
        shared=shared,
        shared_ratios=tuple(
            median(medians(after, place, shared)) / median(medians(before, place, shared))
            for place in dict.fromkeys(place for place, _, _ in keys)
        )
        if shared is not None
        else (),
        changes=changes,
        only_before=_rest(before, shared, arms and arms[0], {(*place, first) for place, first, _ in keys}),
        only_after=_rest(after, shared, arms and arms[1], {(*place, second) for place, _, second in keys}),
    )


def _ground(before: Sequence[Source], after: Sequence[Source], shared: str | None) -> tuple[Ground, str]:
    if any(source.summary for source in (*before, *after)):
        return (
            Ground.NOTHING,
            "one of them has a single time for each cell, as a summary or a file of nccl-tests has, and how much times "
            "vary within it is not known: give the directories of all runs",
        )
    if max(len(before), len(after)) > 1:
        relative = f", relative to {shared}" if shared is not None else ""
        return Ground.RUNS, f"{len(before)} and {len(after)} runs a side{relative}"
    if shared is None:
        return (
            Ground.NOTHING,
            "two runs are not paired, and these have no unchanged arm in common that would tell what the machine did: "
            "give several runs a side, or have both measure an arm that the change does not touch (--shared)",
        )
    return Ground.SHARED_ARM, f"one run a side, relative to {shared} of the same round"


def _shared_baseline(before: Sequence[Source], after: Sequence[Source], arms: tuple[str, str] | None) -> str | None:
    baselines = {source.arms[0] for source in (*before, *after)}
    common = set.intersection(*(set(source.arms) for source in (*before, *after)))
    # An arm alone in common is what is to be compared.
    if len(baselines) == 1 and (arms or len(common) > 1) and not baselines & set(arms or ()):
        return baselines.pop()
    return None


def _pairs(before: Sequence[Source], after: Sequence[Source], shared: str | None) -> list[tuple[str, str]]:
    """Every arm that all runs have, with itself; where there is none, all that two sides have against each other.

    That is, besides the ``shared`` one.
    """
    first, second = (
        [arm for arm in side[0].arms if arm != shared and all(arm in source.arms for source in side)]
        for side in (before, after)
    )
    common = [(arm, arm) for arm in first if arm in second]
    return common or [(one, other) for one in first for other in second]


def _places(side: Sequence[Source], arm: str) -> list[Place]:
    return list(dict.fromkeys((case, timing) for source in side for case, timing, name in source.cells if name == arm))


def _have(side: Sequence[Source], place: Place, arm: str, shared: str | None) -> bool:
    """Whether every run has it; beside the shared arm in the same round, or there is nothing to be relative to."""
    return all(source.ratios(place, arm, arm if shared is None else shared) for source in side)


def _rest(side: Sequence[Source], shared: str | None, arm: str | None, used: set[Cell]) -> tuple[Cell, ...]:
    """The cells of a side, or of one ``arm``, that had no counterpart; the shared arm's and twins' are not meant to."""
    cells = dict.fromkeys(cell for source in side for cell in source.cells)
    return tuple(
        cell
        for cell in cells
        if cell not in used and cell[2] != shared and arm in (None, cell[2]) and not cell[2].endswith(TWIN_SUFFIX)
    )
