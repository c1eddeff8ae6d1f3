"""JSON for Bencher (bencher.dev), which follows measures from commit to commit: Bencher Metric Format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.comparison import Comparison
from nccl_bench.analysis.summary import Row
from nccl_bench.catalog.arms import TWIN_SUFFIX
from nccl_bench.catalog.cases import Case, root_word, scenario_words
from nccl_bench.records.schema import Status
from nccl_bench.report.escaping import visible_line
from nccl_bench.report.formats import encoded_json


class Metric(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A value with its range."""

    value: float
    lower_value: float | None = None
    upper_value: float | None = None


# The name of a benchmark, the slug of a measure, and the metric.
_Entry = tuple[str, str, Metric]
# Enough digits for the largest size, so that names sort by size.
_DIGITS = 12


def bencher_report(analysis: Analysis) -> str:
    """Return the measures of every cell with times.

    A run has ``latency`` in nanoseconds, as Bencher expects it, with the quartiles over the rounds, and the ``ratio``
    to the baseline with its interval. A comparison of runs has the ``ratio`` alone.
    """
    entries = _of_rows(analysis.rows) if analysis.run is not None else _of_comparisons(analysis)
    benchmarks: dict[str, dict[str, Metric]] = {}
    for name, measure, metric in entries:
        benchmarks.setdefault(name, {})[measure] = metric
    return encoded_json(dict(sorted(benchmarks.items())))


def _of_rows(rows: Sequence[Row]) -> Iterator[_Entry]:
    for row in rows:
        if row.time_us is None or row.status != Status.OK or str(row.arm).endswith(TWIN_SUFFIX):
            continue
        name = _name(row, row.arm, row.timing, row.arm_placement)
        yield name, "latency", _metric(row.time_us * 1000, row.q1_us, row.q3_us, 1000)
        if row.ratio is not None:
            yield name, "ratio", _metric(row.ratio, row.ratio_low, row.ratio_high)


def _of_comparisons(analysis: Analysis) -> Iterator[_Entry]:
    for each in analysis.comparisons:
        low, high = (each.interval.low, each.interval.high) if each.interval else (None, None)
        name = _name(each.case, _arms(each), each.timing, each.placements[1])
        yield name, "ratio", _metric(each.ratio, low, high)


def _arms(comparison: Comparison) -> str:
    """Return the name of the candidate, and also the name of the baseline if both differ."""
    baseline, candidate = comparison.baseline, comparison.candidate
    return candidate if baseline == candidate else f"{candidate} against {baseline}"


def _metric(value: float, low: float | None, high: float | None, factor: float = 1) -> Metric:
    return Metric(
        value=value,
        lower_value=None if low is None else low * factor,
        upper_value=None if high is None else high * factor,
    )


def _name(of: Case | Row, arm: str | None, timing: str | None, placement: str | None) -> str:
    """Return a name that stays the same from run to run: ``all_reduce/bfloat16/sum/in-place/torch/graph/0...01024``."""
    words = (scenario_words(of), of.collective, of.dtype, of.redop, placement, root_word(of.root), arm, timing)
    return visible_line("/".join((*filter(None, words), f"{of.size_bytes or 0:0{_DIGITS}d}")))
