"""The columns of a summary that need no other arm, from each line of samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache, partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from nccl_bench.analysis.kernels import KERNEL_COLUMNS
from nccl_bench.analysis.parts import PartFigures
from nccl_bench.analysis.spread import SPREADS, spreads_of
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import COLLECTIVES
from nccl_bench.catalog.scenarios import SCENARIOS
from nccl_bench.catalog.timings import TIMINGS
from nccl_bench.records.columns import SampleColumns, ValueColumn
from nccl_bench.records.cost_split import CostSplit
from nccl_bench.records.schema import GpuState

# A function that returns the value of a column in each line. It is called only if the column is read.
Column = Callable[[], "Sequence[Any] | Numbers"]
CASE_COLUMNS = tuple(column.name for column in fields(Case))
_OF_PARTS = tuple(column.name for column in fields(PartFigures))
# The column `throttled` has the reasons as a text.
_OF_GPUS = tuple(column.name for column in fields(GpuState) if column.name != "throttle_reasons")
Value = TypeVar("Value")
_VALUES = ("arm", "timing", "status", "reason", "registered")
_SKEWS = ("measured_delay_us", "transfer_us", "wait_us")
_BANDWIDTHS = ("algbw_gb_s", "busbw_gb_s")


@dataclass(frozen=True, slots=True)
class Numbers:
    """A column of numbers. Some numbers can be absent."""

    numbers: NDArray[Any]  # the number of each line; any number where it is absent
    known: NDArray[np.bool_]  # False where the number is absent

    @property
    def floats(self) -> NDArray[np.float64]:
        """The numbers; NaN stands for an absent number."""
        return np.where(self.known, self.numbers, np.nan)

    def to_list(self) -> list[Any]:
        """Return the numbers; ``None`` stands for an absent number."""
        values = self.numbers.astype(object)
        values[~self.known] = None
        known_values: list[Any] = values.tolist()
        return known_values


def measured_columns(samples: SampleColumns, launches: NDArray[np.intp]) -> dict[str, Column]:
    """Return the columns of ``samples`` that need no other arm; ``launches`` counts the launches with a time."""
    # If nothing was timed, some numbers are absent, not 0.
    timed = samples.ops_per_batch > 0
    spreads, skews = cache(partial(spreads_of, samples)), cache(partial(_skews, samples))
    bandwidths = cache(lambda: _bandwidths(samples, spreads()["time_us"]))

    def spread(name: str) -> Numbers:
        numbers = spreads()[name]
        is_known = ~np.isnan(numbers)
        # Only a rank is a whole number.
        whole = np.where(is_known, numbers, -1).astype(np.int64) if name == "slowest_rank" else numbers
        return Numbers(whole, is_known)

    figures = cache(partial(_mapped, samples.parts, lambda times: times and PartFigures.of(times)))
    columns: dict[str, Column] = {name: partial(_of, samples.case, name) for name in CASE_COLUMNS}
    columns |= {name: getattr(samples, name).to_list for name in _VALUES}
    columns |= {
        "arm_placement": samples.placement.to_list,
        "world_size": samples.world_size.tolist,
        "ops_per_batch": lambda: Numbers(samples.ops_per_batch, timed),
        "rounds": lambda: Numbers(samples.samples_us.lengths, timed),
        "discarded": lambda: Numbers(samples.discarded, timed),
        "launches": lambda: Numbers(launches, launches > 0),
        "wrong": lambda: Numbers(samples.wrong, samples.wrong >= 0),
        "tolerance_ulp": lambda: Numbers(samples.tolerance_ulp, (samples.wrong >= 0) & (samples.tolerance_ulp >= 0)),
        "throttled": partial(_mapped, samples.gpus, _throttled),
        "per_iteration_cost_us": partial(_of, samples.per_iteration, "cost_us"),
        "per_token_us": lambda: _per_token(samples, spreads()["time_us"]),
    }
    columns |= {name: partial(_of, samples.gpus, name) for name in _OF_GPUS}
    columns |= {each.name: partial(_of, samples.cost, each.name) for each in fields(CostSplit)}
    columns |= {name: partial(_of, samples.per_iteration, name) for name in ("p50_us", "p90_us", "p99_us")}
    columns |= {name: partial(_mapped, samples.kernels, part_of) for name, part_of in KERNEL_COLUMNS.items()}
    columns |= {name: partial(attributes, figures, name) for name in _OF_PARTS}
    columns |= {name: partial(spread, name) for name in SPREADS}
    columns |= {name: partial(_part, skews, name) for name in _SKEWS}
    columns |= {name: partial(_part, bandwidths, name) for name in _BANDWIDTHS}
    return columns


def attributes(objects: Callable[[], Sequence[Any]], name: str) -> list[Any]:
    """Return the attribute ``name`` of each of ``objects``; an object that is ``None`` gives ``None``."""
    return [each and getattr(each, name) for each in objects()]


def _part(columns: Callable[[], Mapping[str, Value]], name: str) -> Value:
    return columns()[name]


def _mapped(column: ValueColumn[Any], function: Callable[[Any], Any]) -> list[Any]:
    """Return the result of ``function`` for the value of each line; for a line without a value, pass it ``None``."""
    values: list[Any] = column.map(function, object).tolist()
    return values


def _of(column: ValueColumn[Any], attribute: str) -> list[Any]:
    """Return an attribute of the value of each line, ``None`` for a line without a value."""
    return _mapped(column, lambda value: getattr(value, attribute, None))


def _throttled(state: GpuState | None) -> str | None:
    return None if state is None else ", ".join(state.lowering_reasons) or None


def _per_token(samples: SampleColumns, time_us: NDArray[np.float64]) -> Numbers:
    """Return the time of all layers per token, for each line that has layers."""

    def layers_per_token_of(case: Case) -> float:
        # A damaged record can have a message that is shorter than a token.
        return case.layers / case.tokens if case.layers and case.tokens else np.nan

    layers_per_token = samples.case.map(layers_per_token_of, np.float64)
    per_token_us = time_us * layers_per_token
    return Numbers(per_token_us, ~np.isnan(per_token_us))


def _skews(samples: SampleColumns) -> dict[str, list[float | None]]:
    """Return the times of each line's late rank; all values are ``None`` in a line without a late rank."""
    columns: dict[str, list[float | None]] = {name: [None] * len(samples) for name in _SKEWS}
    for line in np.flatnonzero(samples.skew.codes >= 0).tolist():
        skew, late = samples.skew[line], np.array(samples.skew[line].late_rank_us)
        columns["measured_delay_us"][line] = float(np.median(skew.delay_us))
        columns["transfer_us"][line] = float(np.median(late))
        columns["wait_us"][line] = round(float(np.median(samples.samples_us[line] - late)), 6)
    return columns


def _bandwidths(samples: SampleColumns, times_us: NDArray[np.float64]) -> dict[str, Numbers]:
    """Return both bandwidths of each line. A line has them if its timing moves bytes and its scenario is isolated."""
    algbw, busbw = np.empty((2, len(samples)))
    sizes = samples.case.map(lambda case: case.size_bytes, np.int64)
    collectives = samples.case.map(lambda case: case.collective, object)
    moves_bytes = samples.timing.map(lambda timing: TIMINGS[timing].moves_bytes) & samples.is_timed
    moves_bytes &= samples.case.map(lambda case: SCENARIOS[case.scenario].has_bandwidth)
    for collective in {*collectives[moves_bytes].tolist()}:
        for ranks in np.unique(samples.world_size).tolist():
            lines = moves_bytes & (collectives == collective) & (samples.world_size == ranks)
            row, of_lines = COLLECTIVES[collective], (sizes[lines], times_us[lines])
            algbw[lines], busbw[lines] = row.algbw_gb_s(*of_lines), row.busbw_gb_s(*of_lines, ranks)
    return {name: Numbers(numbers, moves_bytes) for name, numbers in zip(_BANDWIDTHS, (algbw, busbw), strict=True)}
