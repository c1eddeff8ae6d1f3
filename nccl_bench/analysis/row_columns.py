"""The columns of the summary. A column is computed when it is first read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from nccl_bench.analysis.comparison import Comparison
from nccl_bench.analysis.measured_columns import Column, Numbers, attributes, measured_columns
from nccl_bench.records.columns import Indexes, SampleColumns

_OF_COMPARISONS = ("verdict", "noise_floor", "communicator_variance")


@dataclass(frozen=True, slots=True, kw_only=True)
class RowLines:
    """The data of the rows that have samples; entry i of each column is about row i."""

    samples: SampleColumns  # the samples, with the launches of a cell joined
    launches: Indexes  # the number of launches with a time
    baseline: str  # the name of the baseline
    comparisons: Sequence[Comparison]  # all comparisons of the arms of the run
    compared: Indexes  # the index of the row's own comparison; -1 for none
    other_ratios: NDArray[np.float64]  # the ratio to the baseline of a row without a comparison; NaN for none

    def take(self, lines: Indexes) -> RowLines:
        """Return the data of some rows."""
        return replace(
            self,
            samples=self.samples.take(lines),
            launches=self.launches[lines],
            compared=self.compared[lines],
            other_ratios=self.other_ratios[lines],
        )


def columns_of(lines: RowLines) -> dict[str, Column]:
    """Return the columns of ``lines`` that a row with samples has."""
    return measured_columns(lines.samples, lines.launches) | _comparison_columns(lines)


def _comparison_columns(lines: RowLines) -> dict[str, Column]:
    """Return the columns that compare each row with the baseline."""
    compared = cache(lambda: [None if at < 0 else lines.comparisons[at] for at in lines.compared.tolist()])
    intervals = cache(lambda: [each and each.interval for each in compared()])
    columns: dict[str, Column] = {name: partial(attributes, compared, name) for name in _OF_COMPARISONS}
    return columns | {
        "baseline": lambda: [lines.baseline] * len(lines.samples),
        "ratio": lambda: [
            each.ratio if each else other
            for each, other in zip(
                compared(), Numbers(lines.other_ratios, ~np.isnan(lines.other_ratios)).to_list(), strict=True
            )
        ],
        "ratio_low": partial(attributes, intervals, "low"),
        "ratio_high": partial(attributes, intervals, "high"),
    }
