"""The page of a run or of a comparison: which sections it has, and what stands in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.headline import Headline
from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.records.run import TOOL
from nccl_bench.report.charts.chart import Chart
from nccl_bench.report.charts.kinds import CasesOfKind, arms_of, kinds
from nccl_bench.report.html.answer import fact_block, headline_blocks
from nccl_bench.report.html.data import charts_of, plain
from nccl_bench.report.html.numbers import numbers
from nccl_bench.report.html.page import (
    Block,
    Charts,
    Numbers,
    Page,
    Paragraphs,
    Remarks,
    Section,
    render,
)
from nccl_bench.report.html.tables import bands_table, checked_results, environment, lowered_clocks
from nccl_bench.report.verdicts import heading as verdicts_heading

_HEADINGS: Mapping[str, str] = {
    "ratio": "Ratio by size",
    "saved": "Time saved by size",
    "latency": "Latency by size",
    "cost": "Where the time goes",
    "steady": "Was the machine steady?",
    "bandwidth": "Bus bandwidth from 1 MiB on",
    "results": "Results and stream order",
    "environment": "Environment",
    "numbers": "All numbers",
}
_TIME_GOES = (
    "Each chart shows one arm. eager is what a caller sees, with the cost of its calls. gated is the work of the "
    "device alone. graph is a replayed CUDA graph. enqueue is the CPU time of one call. Where eager lies on enqueue, "
    "the CPU limits the arm. Where eager lies on gated, the device does."
)
_STEADY = (
    "Every point is a round. On a steady machine, the points of a size lie on a line. Two lines of one arm are two "
    "speeds of the machine, usually of the CPU. A ratio compares times of the same round, so it does not depend on the "
    "speed."
)
_SPREAD = (
    "The slowest rank's time minus the fastest rank's time, as a share of the slowest rank's time: median over rounds."
)


def html_report(analysis: Analysis) -> str:
    """Return the page of ``analysis``."""
    return render(page_of(analysis))


def page_of(analysis: Analysis) -> Page:
    """Return the page of ``analysis`` as data."""
    headline = analysis.headline
    # The title of the headline can begin with that of the analysis, which stands below the heading.
    heading = headline.title.removeprefix(f"{analysis.title}: ") or TOOL
    of_kinds = kinds(analysis)
    charts = charts_of(analysis, of_kinds)
    arms = list(arms_of(analysis).values())
    return Page(
        title=f"{heading} - {TOOL}",
        heading=heading,
        subtitle=analysis.title,
        sections=[section for section in _sections(analysis, headline, charts, of_kinds) if section.blocks],
        arms=arms,
        kinds=[cases.name for cases in of_kinds],
        data={
            "arms": [{"name": arm.name, "note": arm.note, "style": arm.style} for arm in arms],
            "kinds": [cases.name for cases in of_kinds],
            "charts": {name: [list(map(plain, of_kind)) for of_kind in of_name] for name, of_name in charts.items()},
            "numbers": numbers(analysis),
        },
    )


def _sections(
    analysis: Analysis,
    headline: Headline,
    charts: Mapping[str, list[list[Chart]]],
    of_kinds: Sequence[CasesOfKind],
) -> Iterator[Section]:
    def drawn(name: str, title: str = "") -> list[Block]:
        return [Charts(name=name, title=title)] if any(charts[name]) else []

    def section(identifier: str, *blocks: Block, short: str = "") -> Section:
        return Section(identifier=identifier, title=_HEADINGS[identifier], short=short, blocks=blocks)

    yield Section(identifier="answer", title="Answer", blocks=list(_answer(analysis, headline, of_kinds)))
    ratio = drawn("ratio")
    if ratio:
        yield section(
            "ratio", Paragraphs(items=[verdicts_heading(analysis)]), *ratio, bands_table(analysis.bands), short="Ratio"
        )
    yield section("saved", *drawn("saved"), short="Saved")
    yield section("latency", *drawn("latency"), short="Latency")
    if drawn("cost"):
        yield section("cost", Paragraphs(items=[_TIME_GOES]), *drawn("cost"), short="Cost")
    yield section("steady", *_steadiness(analysis, charts), short="Steady?")
    yield section("bandwidth", *drawn("bandwidth"), short="Bandwidth")
    yield section("results", *_results(analysis, headline), short="Results")
    yield section("environment", *_environment(analysis))
    yield section("numbers", Numbers(name="nccl-bench.csv"), short="Numbers")


def _answer(analysis: Analysis, headline: Headline, of_kinds: Sequence[CasesOfKind]) -> Iterator[Block]:
    yield from headline_blocks(headline)
    for title, items in (
        ("Warnings", analysis.warnings),
        ("How to decide what is open", analysis.hints),
        ("Not compared", analysis.not_compared),
        ("Not measured", analysis.not_measured),
    ):
        if items:
            yield Remarks(title=f"{title} ({len(items)})", items=items, style="warning", folded=True)
    timings = [
        timing for timing in Timing if any(timing in cases.rows or timing in cases.comparisons for cases in of_kinds)
    ]
    if timings:
        questions = [f"{timing}: {TIMINGS[timing].question}" for timing in timings]
        yield Remarks(title="What the timings measure", items=questions, folded=True)


def _steadiness(analysis: Analysis, charts: Mapping[str, list[list[Chart]]]) -> Iterator[Block]:
    if analysis.steadiness is not None and analysis.steadiness.answer:
        yield Paragraphs(items=[analysis.steadiness.answer], style="answer")
    if any(charts["rounds"]):
        yield Paragraphs(items=[_STEADY])
        yield Charts(name="rounds", title="Time of each round")
    if any(charts["spread"]):
        yield Charts(name="spread", title="Difference between the ranks")
        yield Paragraphs(items=[_SPREAD])
    if any(charts["sensors"]):
        yield Charts(name="sensors", title="Clocks, temperature and power of the GPUs")
    yield from lowered_clocks(analysis.rows_of_runs)


def _results(analysis: Analysis, headline: Headline) -> Iterator[Block]:
    yield from checked_results(analysis.runs)
    order = [fact for fact in headline.facts if fact.name == "Order"]
    if order:
        yield fact_block(order)


def _environment(analysis: Analysis) -> Iterator[Block]:
    yield from environment(analysis.metas)
    if analysis.notes:
        yield Remarks(title="Notes", items=analysis.notes)
