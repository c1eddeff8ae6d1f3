"""Pairs of arms as columns, and the function that compares the arms of each pair."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from typing import Any, NamedTuple, Protocol

import numpy as np

from nccl_bench.analysis.cells import Point
from nccl_bench.analysis.comparison import Basis, Comparison
from nccl_bench.analysis.estimates import EstimateColumns
from nccl_bench.analysis.judging import Claims, Mask, judge, unconfirmed_of
from nccl_bench.analysis.shared_arm import SharedTimes, unconfirmed
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import Placement
from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.config.limits import Limits
from nccl_bench.records.columns import Indexes, ValueColumn, common_codes
from nccl_bench.records.kernels import Kernels


# No slots: the instance keeps what its cached properties have computed.
@dataclass(frozen=True, eq=False, kw_only=True)
class ArmPairs:
    """Pairs of arms to compare, as columns: entry i of each column is about pair i."""

    case: ValueColumn[Case]  # the case of both arms
    timing: ValueColumn[Timing]  # the timing of both arms
    baseline: ValueColumn[str]  # the arm that the candidate is compared with
    candidate: ValueColumn[str]  # the arm that is judged
    baseline_us: Sequence[float]  # median time of the baseline, microseconds
    candidate_us: Sequence[float]  # median time of the candidate, microseconds
    estimates: EstimateColumns  # the estimated ratio, candidate / baseline
    placements: Sequence[tuple[Placement, Placement]]  # the placements in which baseline and candidate were called
    launches: Sequence[int]  # the number of launches of the run with a ratio; 1 for two sides
    in_different_processes: Mask  # True if the estimate divides times of different process sets
    # The kernels that NCCL ran for the baseline and the candidate; None if they are unknown.
    kernels: Sequence[tuple[Kernels, Kernels] | None]
    shared: Sequence[SharedTimes] | None = None  # the times of the shared arm; None if no arm is shared

    @cached_property
    def cpu_speeds_differ(self) -> Mask:
        """True if two processes with different CPU speeds can cause the ratio."""
        includes_launch_cost: Mask = self.timing.map(lambda timing: TIMINGS[timing].includes_launch_cost)
        return self.in_different_processes & includes_launch_cost

    @cached_property
    def kind(self) -> ValueColumn[PairKind]:
        """The kind of each pair."""
        columns = (self.case.changed(lambda case: case.kind), self.timing, self.baseline, self.candidate)
        _, first, codes = np.unique(common_codes(*columns), return_index=True, return_inverse=True)
        values = tuple(PairKind(*(column[at] for column in columns)) for at in first.tolist())
        return ValueColumn(values, codes.astype(np.int32))


class PairKind(NamedTuple):
    """The kind of a pair: the pairs of one kind differ only in size."""

    case: Case  # the case without its size
    timing: Timing  # the timing
    baseline: str  # the arm that the candidate is compared with
    candidate: str  # the arm that is judged

    @property
    def point(self) -> Point:
        """The case without its size, and the timing."""
        return self.case, self.timing


class _OwnTimes(NamedTuple):
    """The times of one pair, in the form that ``unconfirmed`` needs."""

    baseline_us: float  # median time of the arm before, microseconds
    candidate_us: float  # median time of the arm after, microseconds
    shared: SharedTimes  # the times of the shared arm


class Noise(Protocol):
    """The communicator variance that the intervals do not contain; all numbers are logarithms."""

    def floor(self, kind: PairKind, sizes: int) -> float | None:
        """Return the noise floor of a band with ``sizes`` sizes; ``None`` if no twin shows it."""

    def scatter(self, kind: PairKind) -> float:
        """Return by how much communicator variance alone makes the ratios of neighbouring sizes differ."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Evidence:
    """The data behind the comparisons of one analysis."""

    pairs: ArmPairs  # the arms, with the estimated ratios
    basis: Basis  # the kind of data
    noise: Noise | None  # the communicator variance; None if the intervals contain it

    def scatter(self, number: int) -> float:
        """Return by how much communicator variance alone makes the ratios of sizes near pair ``number`` differ."""
        return 0.0 if self.noise is None else self.noise.scatter(self.pairs.kind[number])

    def claims(self, thresholds: list[float], groups: Sequence[Sequence[int]] | None = None) -> Claims:
        """Return a claim about the common ratio of each group of pairs; without ``groups``, one about each pair."""
        firsts, sizes = np.arange(len(thresholds)), np.ones(len(thresholds), dtype=np.intp)
        estimates = self.pairs.estimates
        if groups is not None:
            firsts, sizes = np.array([group[0] for group in groups], dtype=np.intp), np.array([*map(len, groups)])
            estimates = estimates.pooled(groups)
        return Claims(
            estimates=estimates,
            thresholds=thresholds,
            noise_floors=self._floors(firsts, sizes),
            needs_noise_floor=np.full(len(thresholds), self.noise is not None),
            cpu_speeds_differ=self.pairs.cpu_speeds_differ[firsts] & (self.noise is not None),
            unconfirmed=self._unconfirmed(thresholds, groups),
        )

    def _floors(self, firsts: Indexes, sizes: Indexes) -> list[float | None]:
        """Return the noise floor of each group as a share; a group has ``sizes`` pairs, from the pair ``firsts`` on."""
        if self.noise is None:
            return [None] * len(firsts)
        kinds = self.pairs.kind
        # Most groups have the same floor, which depends only on their kind and their length.
        keys = kinds.codes[firsts] * (sizes.max(initial=0) + 1) + sizes
        _, first, which = np.unique(keys, return_index=True, return_inverse=True)
        floors = [self.noise.floor(kinds[firsts[at]], int(sizes[at])) for at in first.tolist()]
        shares = [None if floor is None else math.expm1(floor) for floor in floors]
        return [shares[index] for index in which.tolist()]

    def _unconfirmed(self, thresholds: Sequence[float], groups: Sequence[Sequence[int]] | None) -> Mask:
        pairs = self.pairs
        if pairs.shared is None:
            return unconfirmed_of([()] * len(thresholds))
        times = [*map(_OwnTimes, pairs.baseline_us, pairs.candidate_us, pairs.shared)]
        of_groups = [[each] for each in times] if groups is None else [[times[at] for at in of] for of in groups]
        return unconfirmed_of([*map(unconfirmed, of_groups, thresholds)])


def compare_pairs(pairs: ArmPairs, limits: Limits, basis: Basis, noise: Noise | None = None) -> tuple[Comparison, ...]:
    """Return a comparison for each pair. With probability 1 - ``FAMILYWISE_ERROR`` or more, no verdict is wrong.

    Omit ``noise`` if the intervals already contain communicator variance; intervals over several runs do. With
    ``noise``, a pair whose ``cpu_speeds_differ`` is never called faster or slower. The reason: one twin is one example
    of the difference in CPU speed, which is too few.
    """
    evidence = Evidence(pairs=pairs, basis=basis, noise=noise)
    cases, timings = pairs.case.to_list(), pairs.timing.to_list()
    thresholds = [
        limits.threshold(case.collective, timing, case.size_bytes) for case, timing in zip(cases, timings, strict=True)
    ]
    claims = evidence.claims(thresholds)
    judged, unknown = judge(claims), basis is Basis.NOTHING
    columns: Mapping[str, Iterable[Any]] = {
        "case": cases,
        "timing": timings,
        "baseline": pairs.baseline.to_list(),
        "candidate": pairs.candidate.to_list(),
        "baseline_us": pairs.baseline_us,
        "candidate_us": pairs.candidate_us,
        "ratio": pairs.estimates.ratios,
        "threshold": thresholds,
        "interval": judged.intervals,
        "verdict": repeat(None) if unknown else judged.verdicts,
        "placements": pairs.placements,
        "pairs_needed": judged.pairs_needed,
        "reason": repeat(None) if unknown else judged.reasons,
        "noise_floor": claims.noise_floors,
        "kernels": pairs.kernels,
        "launches": pairs.launches,
        "communicator_variance": pairs.estimates.communicator_variances,
        "shared": repeat(None) if pairs.shared is None else pairs.shared,
        "evidence": repeat(evidence),
        "number": range(len(cases)),
    }
    return tuple(map(Comparison, *(columns[name] for name in Comparison.__struct_fields__)))
