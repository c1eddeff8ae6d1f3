"""Tables of verdicts: which sizes changed, by how much, and with what confidence.

Neighbouring sizes with the same verdict and the same threshold share a line. Nothing is averaged over sizes: a line
shows the smallest and the largest ratio, the span of all intervals, and the highest noise floor or communicator
variance. A size without a verdict has its own line.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.comparison import Basis, Comparison
from nccl_bench.analysis.statistics import FAMILYWISE_ERROR, Verdict
from nccl_bench.analysis.wording import case_name, compared_text, counted, format_ratios, format_share, significant
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.sizes import format_size
from nccl_bench.report.layout import Column, Remarks, Table, column

# Narrower than the gap of other tables, so that the interval and the noise floor fit in 80 columns.
_GAP = 2
# The comparisons that share a line.
_TableLine = Sequence[Comparison]


def heading(analysis: Analysis) -> str:
    """Return a text that explains the verdicts and how certain they are."""
    comparisons = analysis.comparisons
    if not _judged(comparisons):
        return "Ratios below 1 are faster."
    thresholds = sorted({each.threshold for each in comparisons})
    matters = f"{format_share(thresholds[0])} matters"
    if len(thresholds) > 1:
        matters = f"{format_share(thresholds[0])} to {format_share(thresholds[-1])} matters (see the column limit)"
    decided = sum(each.verdict not in (None, Verdict.INCONCLUSIVE) for each in comparisons)
    right = "the one decided verdict is right" if decided == 1 else f"all {decided} decided verdicts are right"
    launches = counted(max(each.launches for each in comparisons), "launch")
    evidence = {Basis.LAUNCHES: launches, Basis.RUNS: "runs"}.get(analysis.basis, "rounds")
    confidence = f" With {(1 - FAMILYWISE_ERROR) * 100:.0f} % confidence, {right}, as far as {evidence} can show."
    return f"Verdicts. Ratios below 1 are faster; a difference of {matters}.{confidence if decided else ''}"


def analysis_remarks(analysis: Analysis) -> Iterator[Remarks]:
    """Yield the warnings and gaps; leave out empty groups."""
    for title, items, style in (
        ("Warnings", (*analysis.warnings, *analysis.hints), "yellow"),
        ("Not compared", analysis.not_compared, ""),
        ("Not measured", analysis.not_measured, ""),
    ):
        if items:
            yield Remarks(title=title, items=items, style=style)


def verdict_tables(analysis: Analysis) -> Iterator[Table]:
    """Yield a table for each pair of arms and each kind of case.

    For a comparison of runs, if no sizes share a line, there are also columns with the times of both sides.
    """
    several_limits = len({each.threshold for each in analysis.comparisons}) > 1
    for title, comparisons in _by_title(analysis).items():
        lines = list(_lines(comparisons))
        judged = _judged(comparisons)
        times = _times(lines, analysis.sides) if analysis.run is None and all(len(line) == 1 for line in lines) else []
        columns = _places(lines)
        if judged:
            columns.append(column("verdict", ("verdict",), [line[0].verdict or "-" for line in lines], left=True))
        else:
            columns += times
        columns.append(_ratios(lines))
        keep = len(columns)
        if any(each.interval for each in comparisons):
            columns.append(column("interval", ("interval",), [_span(line) for line in lines]))
        if judged and several_limits:
            columns.append(column("limit", ("limit",), [format_share(line[0].threshold) for line in lines]))
        if analysis.basis is Basis.LAUNCHES:
            varies = [_largest_variance(line) for line in lines]
            columns.append(column("communicator variance", ("launch to", "launch"), varies))
        if any(each.noise_floor is not None for each in comparisons):
            columns.append(column("noise floor", ("noise", "floor"), [_highest_floor(line) for line in lines]))
        if judged:
            columns += times
        yield Table(title=title, notes=(), columns=tuple(columns), keep=keep, gap=_GAP)


def time_tables(analysis: Analysis) -> Iterator[Table]:
    """Yield the times of every size for a comparison of runs, if sizes share a line in ``verdict_tables``."""
    for title, comparisons in _by_title(analysis).items():
        lines = list(_lines(comparisons))
        if analysis.run is None and len(lines) < len(comparisons):
            of_sizes = [[each] for line in lines for each in line]
            columns = (*_places(of_sizes), *_times(of_sizes, analysis.sides), _ratios(of_sizes))
            yield Table(title=f"{title}, medians", notes=(), columns=columns, keep=len(columns), gap=_GAP)


def _by_title(analysis: Analysis) -> dict[str, list[Comparison]]:
    groups: dict[str, list[Comparison]] = {}
    for each in analysis.comparisons:
        name = case_name(each.case, {*each.placements})
        groups.setdefault(f"{compared_text(each, analysis.sides)}: {name}", []).append(each)
    return groups


def _lines(comparisons: Sequence[Comparison]) -> Iterator[_TableLine]:
    for timing in Timing:
        by_size = sorted((each for each in comparisons if each.timing is timing), key=lambda each: each.case.size_bytes)
        for _, line in groupby(by_size, key=lambda each: (each.verdict or each.case.size_bytes, each.threshold)):
            yield list(line)


def _judged(comparisons: Sequence[Comparison]) -> bool:
    return any(each.verdict is not None for each in comparisons)


def _places(lines: Sequence[_TableLine]) -> list[Column]:
    sizes = [[format_size(line[index].case.size_bytes) for index in (0, -1)] for line in lines]
    return [
        column("timing", ("timing",), [line[0].timing for line in lines], left=True),
        column("size", ("size",), [first if first == last else f"{first} to {last}" for first, last in sizes]),
    ]


def _times(lines: Sequence[_TableLine], sides: tuple[str, str]) -> list[Column]:
    before, after = sides
    return [
        column(before, (before, "us"), [significant(line[0].baseline_us) for line in lines]),
        column(after, (after, "us"), [significant(line[0].candidate_us) for line in lines]),
    ]


def _ratios(lines: Sequence[_TableLine]) -> Column:
    return column("ratio", ("ratio",), [format_ratios([each.ratio for each in line]) for line in lines])


def _span(line: _TableLine) -> str:
    intervals = [each.interval for each in line if each.interval]
    return format_ratios([end for interval in intervals for end in (interval.low, interval.high)])


def _largest_variance(line: _TableLine) -> str:
    known = [each.communicator_variance for each in line if each.communicator_variance is not None]
    return format_share(max(known)) if known else ""


def _highest_floor(line: _TableLine) -> str:
    floors = [each.noise_floor for each in line if each.noise_floor is not None]
    return format_share(max(floors)) if floors else ""
