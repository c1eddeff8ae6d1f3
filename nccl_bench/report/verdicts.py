"""Tables of verdicts: which sizes changed, by how much, and with what confidence.

A line is a band, so the tables have the verdicts of the headline. A line shows the smallest and the largest ratio of
the sizes, the interval and the noise floor of the band, and the largest communicator variance of a size. A size without
a verdict has its own line.
"""

from collections.abc import Iterator, Sequence

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.bands import Band
from nccl_bench.analysis.comparison import Basis, Comparison
from nccl_bench.analysis.statistics import FAMILYWISE_ERROR, Verdict
from nccl_bench.analysis.wording import case_name, compared_text, counted, format_ratios, format_share, significant
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.sizes import format_size
from nccl_bench.report.layout import Column, Remarks, Table, column

# Narrower than the gap of other tables, so that the interval and the noise floor fit in 80 columns.
_GAP = 2
# The comparisons of one line.
_Sizes = Sequence[Comparison]


def heading(analysis: Analysis) -> str:
    """Return a text that explains the verdicts and how certain they are."""
    comparisons = analysis.comparisons
    if not _judged(comparisons):
        return "Ratios below 1 are faster."
    thresholds = sorted({each.threshold for each in comparisons})
    matters = f"{format_share(thresholds[0])} matters"
    if len(thresholds) > 1:
        matters = f"{format_share(thresholds[0])} to {format_share(thresholds[-1])} matters (see the column limit)"
    decided = sum(len(band.comparisons) for band in analysis.bands if band.verdict not in (None, Verdict.INCONCLUSIVE))
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
    for title, bands in _by_title(analysis).items():
        lines = _lines(bands)
        judged = any(band.verdict is not None for band in bands)
        one_size = all(len(line) == 1 for line, _ in lines)
        sizes = [line for line, _ in lines]
        times = _times(sizes, analysis.sides) if analysis.run is None and one_size else []
        columns = _places(sizes)
        if judged:
            columns.append(column("verdict", ("verdict",), [band.verdict or "-" for _, band in lines], left=True))
        else:
            columns += times
        columns.append(_ratios(sizes))
        keep = len(columns)
        if any(band.interval for band in bands):
            columns.append(column("interval", ("interval",), [_interval(band) for _, band in lines]))
        if judged and several_limits:
            columns.append(column("limit", ("limit",), [format_share(band.threshold) for _, band in lines]))
        if analysis.basis is Basis.LAUNCHES:
            varies = [_largest_variance(line) for line in sizes]
            columns.append(column("communicator variance", ("launch to", "launch"), varies))
        if any(band.noise_floor is not None for band in bands):
            columns.append(column("noise floor", ("noise", "floor"), [_floor(band) for _, band in lines]))
        if judged:
            columns += times
        yield Table(title=title, notes=(), columns=tuple(columns), keep=keep, gap=_GAP)


def time_tables(analysis: Analysis) -> Iterator[Table]:
    """Yield the times of every size for a comparison of runs, if sizes share a line in ``verdict_tables``."""
    for title, bands in _by_title(analysis).items():
        of_sizes = [[each] for band in bands for each in band.comparisons]
        if analysis.run is None and len(_lines(bands)) < len(of_sizes):
            columns = (*_places(of_sizes), *_times(of_sizes, analysis.sides), _ratios(of_sizes))
            yield Table(title=f"{title}, medians", notes=(), columns=columns, keep=len(columns), gap=_GAP)


def _by_title(analysis: Analysis) -> dict[str, list[Band]]:
    """Return the bands of each pair of arms and kind of case, in the order of timings and sizes."""
    groups: dict[str, list[Band]] = {}
    for band in analysis.bands:
        first = band.comparisons[0]
        name = case_name(first.case, {*first.placements})
        groups.setdefault(f"{compared_text(first, analysis.sides)}: {name}", []).append(band)
    timings = list(Timing)
    return {title: sorted(bands, key=lambda band: timings.index(band.timing)) for title, bands in groups.items()}


def _lines(bands: Sequence[Band]) -> list[tuple[_Sizes, Band]]:
    """Return the sizes of each line with their band."""
    return [
        (sizes, band)
        for band in bands
        for sizes in ([[each] for each in band.comparisons] if band.verdict is None else [band.comparisons])
    ]


def _judged(comparisons: Sequence[Comparison]) -> bool:
    return any(each.verdict is not None for each in comparisons)


def _places(lines: Sequence[_Sizes]) -> list[Column]:
    sizes = [[format_size(line[index].case.size_bytes) for index in (0, -1)] for line in lines]
    return [
        column("timing", ("timing",), [line[0].timing for line in lines], left=True),
        column("size", ("size",), [first if first == last else f"{first} to {last}" for first, last in sizes]),
    ]


def _times(lines: Sequence[_Sizes], sides: tuple[str, str]) -> list[Column]:
    before, after = sides
    return [
        column(before, (before, "us"), [significant(line[0].baseline_us) for line in lines]),
        column(after, (after, "us"), [significant(line[0].candidate_us) for line in lines]),
    ]


def _ratios(lines: Sequence[_Sizes]) -> Column:
    return column("ratio", ("ratio",), [format_ratios([each.ratio for each in line]) for line in lines])


def _interval(band: Band) -> str:
    return format_ratios([band.interval.low, band.interval.high]) if band.interval else ""


def _largest_variance(line: _Sizes) -> str:
    known = [each.communicator_variance for each in line if each.communicator_variance is not None]
    return format_share(max(known)) if known else ""


def _floor(band: Band) -> str:
    return "" if band.noise_floor is None else format_share(band.noise_floor)
