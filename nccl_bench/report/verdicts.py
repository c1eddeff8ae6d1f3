"""Tables of verdicts: which bands of sizes changed, by how much, and with what confidence."""

from collections.abc import Iterator, Mapping, Sequence

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.bands import Band, OpenReason
from nccl_bench.analysis.comparison import Basis, Comparison
from nccl_bench.analysis.statistics import Verdict
from nccl_bench.analysis.verdict_words import VERDICT_WORDS
from nccl_bench.analysis.wording import (
    case_name,
    compared_case,
    compared_text,
    format_ratio,
    format_share,
    from_to,
    significant,
)
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.sizes import format_size
from nccl_bench.report.layout import Remarks, Table, column

# Narrower than the gap of other tables, so that all columns fit in 80 characters.
_GAP = 2
# The words for an open verdict, short enough for a column.
_OPEN: Mapping[OpenReason | None, str] = {
    OpenReason.BELOW_THRESHOLD: "open: under {threshold}?",
    OpenReason.WITHIN_NOISE: "open: noise",
    OpenReason.TOO_FEW_ROUNDS: "open: rounds",
    OpenReason.NO_TWIN: "open: no twin",
    OpenReason.DIFFERENT_PROCESSES: "open: processes",
    OpenReason.ONE_LAUNCH: "open: 1 launch",
    OpenReason.SHARED_ARM_MOVED: "open: machine",
    None: "open",
}


def heading(analysis: Analysis) -> str:
    """Return a text that explains the verdicts. How certain they are is a fact of the headline."""
    comparisons = analysis.comparisons
    if not _judged(comparisons):
        return "Ratios below 1 are faster."
    thresholds = sorted({each.threshold for each in comparisons})
    matters = f"{format_share(thresholds[0])} matters"
    if len(thresholds) > 1:
        matters = f"{format_share(thresholds[0])} to {format_share(thresholds[-1])} matters (see the column limit)"
    floor = ", after the noise floor is taken off" if any(each.noise_floor for each in comparisons) else ""
    return f"Ratios below 1 are faster; a difference of {matters}{floor}."


def analysis_remarks(analysis: Analysis, *, hints: bool = True) -> Iterator[Remarks]:
    """Yield the warnings, with advice about open verdicts if ``hints``, and the gaps; leave out empty groups."""
    for title, items, style in (
        ("Warnings", (*analysis.warnings, *(analysis.hints if hints else ())), "yellow"),
        ("Not compared", analysis.not_compared, ""),
        ("Not measured", analysis.not_measured, ""),
    ):
        if items:
            yield Remarks(title=title, items=items, style=style)


def verdict_tables(analysis: Analysis, *, only_answers: bool = False) -> Iterator[Table]:
    """Yield a table of bands for each kind of case that was judged. The candidates of one run share a table.

    With ``only_answers``, the table has only the arms in question, and no column about one size alone.
    """
    answered = {(each.baseline, each.candidate) for each in analysis.answers}
    groups: dict[tuple[str, str], list[Band]] = {}
    for band in analysis.bands:
        if band.verdict is not None and (not only_answers or (band.baseline, band.candidate) in answered):
            comparison = band.comparisons[0]
            pair = "" if analysis.basis.of_one_run else compared_text(comparison, analysis.sides)
            groups.setdefault((pair, compared_case(comparison)), []).append(band)
    several_limits = len({each.threshold for each in analysis.comparisons}) > 1
    for (_, name), of_kind in groups.items():
        arms = list(dict.fromkeys(band.candidate for band in of_kind))
        order = [*Timing]
        bands = sorted(of_kind, key=lambda band: (arms.index(band.candidate), order.index(band.timing)))
        columns = []
        if len(arms) == 1:
            first = bands[0].comparisons[0]
            title = f"{compared_text(first, analysis.sides)}: {case_name(first.case, {*first.placements})}"
        else:
            title = f"Against {bands[0].baseline}: {name}"
            columns.append(column("arm", ("arm",), _once([band.candidate for band in bands]), left=True))
        columns.append(column("timing", ("timing",), [band.timing for band in bands], left=True))
        columns.append(column("size", ("size",), [_sizes(band) for band in bands]))
        columns.append(column("verdict", ("verdict",), [_verdict(band) for band in bands], left=True))
        columns.append(column("ratio", ("ratio",), [_decimals(band.ratio) for band in bands]))
        keep = len(columns)
        if any(band.interval for band in bands):
            columns.append(column("interval", ("interval", "over sizes"), [interval_text(band) for band in bands]))
        if several_limits:
            columns.append(column("limit", ("limit",), [format_share(band.threshold) for band in bands]))
        if analysis.basis is Basis.LAUNCHES:
            columns.append(
                column("communicator variance", ("launch to", "launch"), [_variance(band) for band in bands])
            )
        if any(band.noise_floor is not None for band in bands):
            floors = ["" if band.noise_floor is None else format_share(band.noise_floor) for band in bands]
            columns.append(column("noise floor", ("noise", "floor"), floors))
        if not only_answers and any(band.hidden_change is not None for band in bands):
            hidden = ["" if band.hidden_change is None else format_share(band.hidden_change) for band in bands]
            columns.append(column("one size alone", ("one size", "alone"), hidden))
        yield Table(title=title, notes=(), columns=tuple(columns), keep=keep, gap=_GAP)


def time_tables(analysis: Analysis) -> Iterator[Table]:
    """Yield the times and the ratio of every size for a comparison of runs."""
    if analysis.run is not None:
        return
    groups: dict[str, list[Comparison]] = {}
    for each in analysis.comparisons:
        name = case_name(each.case, {*each.placements})
        groups.setdefault(f"{compared_text(each, analysis.sides)}: {name}", []).append(each)
    order = [*Timing]
    for title, comparisons in groups.items():
        cells = sorted(comparisons, key=lambda each: (order.index(each.timing), each.case.size_bytes))
        before, after = analysis.sides
        columns = (
            column("timing", ("timing",), [each.timing for each in cells], left=True),
            column("size", ("size",), [format_size(each.case.size_bytes) for each in cells]),
            column(before, (before, "us"), [significant(each.baseline_us) for each in cells]),
            column(after, (after, "us"), [significant(each.candidate_us) for each in cells]),
            column("ratio", ("ratio",), [format_ratio(each.ratio) for each in cells]),
        )
        yield Table(title=f"{title}, medians", notes=(), columns=columns, keep=len(columns), gap=_GAP)


def _once(names: Sequence[str]) -> list[str]:
    """Return ``names`` with an empty text in place of a name that stands in the line above."""
    return [name if not index or name != names[index - 1] else "" for index, name in enumerate(names)]


def _judged(comparisons: Sequence[Comparison]) -> bool:
    return any(each.verdict is not None for each in comparisons)


def _sizes(band: Band) -> str:
    return from_to(*(format_size(band.comparisons[index].case.size_bytes) for index in (0, -1)))


def _verdict(band: Band) -> str:
    if band.verdict is not Verdict.INCONCLUSIVE:
        return VERDICT_WORDS[band.verdict]
    return _OPEN[band.reason].format(threshold=format_share(band.threshold).replace(".0", ""))


def interval_text(band: Band) -> str:
    """Return the interval of ``band``, which spans all its sizes: 0.706 to 0.900; empty without an interval."""
    if band.interval is None:
        return ""
    return from_to(_decimals(band.interval.low), _decimals(band.interval.high))


def _decimals(ratio: float) -> str:
    """Return ``ratio`` with three decimals, large ratios with three digits: 0.978, 1.013, 12.3."""
    return f"{ratio:.3f}" if ratio < 9.9995 else significant(ratio)


def _variance(band: Band) -> str:
    known = [each.communicator_variance for each in band.comparisons if each.communicator_variance is not None]
    return format_share(max(known)) if known else ""
