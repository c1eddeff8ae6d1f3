"""The page of a run or of a comparison: which sections it has, and what stands in them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from msgspec import Raw

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.headline import Headline
from nccl_bench.catalog.arms import TWIN_SUFFIX
from nccl_bench.records.run import TOOL
from nccl_bench.report.charts.kinds import CasesOfKind, arms_of, kinds
from nccl_bench.report.cost_split import cost_tables
from nccl_bench.report.html.answer import fact_block, headline_blocks
from nccl_bench.report.html.data import chart_json, charts_of
from nccl_bench.report.html.legend import eager_below_enqueue, legend
from nccl_bench.report.html.numbers import numbers
from nccl_bench.report.html.page import (
    Block,
    Charts,
    Numbers,
    Page,
    Paragraphs,
    Remarks,
    Section,
    TimesTable,
    render,
)
from nccl_bench.report.html.tables import bands_table, checked_results, environment, lowered_clocks, text_tables
from nccl_bench.report.kernels import kernel_tables
from nccl_bench.report.memory import memory_tables
from nccl_bench.report.scenarios import scenario_tables
from nccl_bench.report.step_tables import step_tables
from nccl_bench.report.verdicts import heading as verdicts_heading

_HEADINGS: Mapping[str, str] = {
    "answer": "Answer",
    "step": "Step time",
    "times": "Times",
    "scenario": "Around the collective",
    "ratio": "Ratio",
    "saved": "Time saved",
    "latency": "Latency",
    "cost": "Where the time goes",
    "kernels": "What NCCL ran",
    "steady": "Was the machine steady?",
    "bandwidth": "Bus bandwidth",
    "results": "Results and order",
    "environment": "Environment",
    "numbers": "All numbers",
}
_TIME_GOES = (
    "Each chart shows one arm. eager is what a caller sees, with the cost of its calls. gated is the work of the "
    "device alone. graph is a replayed CUDA graph. enqueue is the CPU time of one call. Where eager lies on enqueue, "
    "the CPU limits the arm. Where eager lies on gated, the device does."
)
_TIMES = "The median time of a {unit}, in us. The verdicts say which differences are more than noise."
_SAME_ROUND = "Their percentages compare times of the same round, not these medians."
_SMALLEST = "The smallest time of each size and timing is bold."
_SHARED = "{arm} is the arm to which all changes are relative; it shows what the machine did."
_BELOW_ENQUEUE = (
    "eager can be below enqueue. The two come from different batches: the device times eager while it works, and the "
    "CPU times enqueue while a gate holds the device. A CPU that is slower during one of the batches changes only one "
    "of the times. So compare arms within a timing."
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
    heading = headline.title or analysis.title or TOOL
    of_kinds = kinds(analysis)
    charts: dict[str, list[list[Raw]]] = {}
    below_enqueue = False
    for name, of_name in charts_of(analysis, of_kinds):
        charts[name] = [[chart_json(name, chart) for chart in of_kind] for of_kind in of_name]
        below_enqueue |= name == "latency" and any(map(eager_below_enqueue, of_name))
    arms = list(arms_of(analysis).values())
    present = {name for name, of_name in charts.items() if any(of_name)}
    sections = _sections(analysis, headline, present, of_kinds, below_enqueue=below_enqueue)
    return Page(
        title=f"{heading} - {TOOL}",
        heading=heading,
        # The heading of a comparison names its records.
        subtitle="" if analysis.title in heading else analysis.title,
        sections=[section for section in sections if section.blocks],
        arms=arms,
        kinds=[cases.name for cases in of_kinds],
        data={
            "arms": [{"name": arm.name, "note": arm.note, "style": arm.style} for arm in arms],
            "kinds": [cases.name for cases in of_kinds],
            "charts": charts,
            "numbers": numbers(analysis),
        },
    )


def _sections(
    analysis: Analysis,
    headline: Headline,
    charts: Collection[str],
    of_kinds: Sequence[CasesOfKind],
    *,
    below_enqueue: bool,
) -> Iterator[Section]:
    """Yield the sections; ``charts`` are the names of those that are present."""

    def drawn(name: str) -> list[Block]:
        return [Charts(name=name)] if name in charts else []

    def section(identifier: str, *blocks: Block) -> Section:
        return Section(identifier=identifier, title=_HEADINGS[identifier], blocks=blocks)

    yield section("answer", *_answer(analysis, headline, of_kinds))
    yield section("step", *text_tables(step_tables(analysis)))
    if drawn("latency"):
        one_run = analysis.basis.of_one_run
        more = [_SAME_ROUND, _SMALLEST] if one_run else []
        more += [_SHARED.format(arm=analysis.shared_arm)] if analysis.shared_arm is not None else []
        notes = [" ".join([_TIMES.format(unit=analysis.unit), *more]), *([_BELOW_ENQUEUE] if below_enqueue else [])]
        yield section("times", Paragraphs(items=notes), TimesTable(charts="latency", emphasised=one_run))
    yield section("scenario", *text_tables(scenario_tables(analysis)))
    ratio = drawn("ratio")
    if ratio:
        heading = Paragraphs(items=[verdicts_heading(analysis)])
        yield section("ratio", heading, *ratio, bands_table(analysis.bands, analysis.sides))
    yield section("saved", *drawn("saved"))
    yield section("latency", *drawn("latency"))
    costs = list(text_tables(cost_tables(analysis, every_size=True)))
    if drawn("cost") or costs:
        charts_of_cost = [Paragraphs(items=[_TIME_GOES]), *drawn("cost")] if drawn("cost") else []
        yield section("cost", *charts_of_cost, *costs)
    yield section("kernels", *text_tables(kernel_tables(analysis)))
    yield section("steady", *_steadiness(analysis, charts))
    yield section("bandwidth", *drawn("bandwidth"))
    yield section("results", *_results(analysis, headline))
    yield section("environment", *_environment(analysis))
    yield section("numbers", Numbers(name="nccl-bench.csv"))


def _answer(analysis: Analysis, headline: Headline, of_kinds: Sequence[CasesOfKind]) -> Iterator[Block]:
    yield from headline_blocks(headline)
    yield from legend(of_kinds, unit=analysis.unit, has_twin=_has_twin(analysis))
    for title, items in (
        ("Warnings", analysis.warnings),
        ("How to decide what is open", analysis.hints),
        ("Not compared", analysis.not_compared),
        ("Not measured", analysis.not_measured),
    ):
        if items:
            yield Remarks(title=f"{title} ({len(items)})", items=items, style="warning", folded=True)


def _has_twin(analysis: Analysis) -> bool:
    return any(str(arm).endswith(TWIN_SUFFIX) for _, rows in analysis.rows_of_runs for arm in {*rows.column("arm")})


def _steadiness(analysis: Analysis, charts: Collection[str]) -> Iterator[Block]:
    if analysis.steadiness is not None and analysis.steadiness.answer:
        yield Paragraphs(items=[analysis.steadiness.answer], style="answer")
    if "rounds" in charts:
        yield Paragraphs(items=[_STEADY])
        yield Charts(name="rounds", title="Time of each round")
    if "spread" in charts:
        yield Charts(name="spread", title="Difference between the ranks")
        yield Paragraphs(items=[_SPREAD])
    if "sensors" in charts:
        yield Charts(name="sensors", title="Clocks, temperature and power of the GPUs")
    yield from lowered_clocks(analysis.rows_of_runs)


def _results(analysis: Analysis, headline: Headline) -> Iterator[Block]:
    yield from checked_results(analysis.runs)
    order = [fact for fact in headline.facts if fact.name == "Order"]
    if order:
        yield fact_block(order)


def _environment(analysis: Analysis) -> Iterator[Block]:
    yield from environment(analysis.metas)
    yield from text_tables(memory_tables(analysis.metas))
    if analysis.notes:
        yield Remarks(title="Notes", items=analysis.notes)
