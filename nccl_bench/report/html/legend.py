"""The words of a page that a new reader does not know, in a few words each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.report.charts.chart import Chart
from nccl_bench.report.charts.kinds import CasesOfKind
from nccl_bench.report.html.page import Block, Facts, NamedText

# What `TimingSpec.in_short` leaves out.
_MORE: Mapping[Timing, str] = {
    Timing.EAGER: ", launch cost included",
    Timing.GATED: ", launch cost excluded",
    Timing.GRAPH: ", which is replayed",
    Timing.ENQUEUE: ", until it returns",
}
_ARM = "a communicator, with one way of ordering its calls"
_CELL = "an arm, a timing and a case such as all_reduce of 8 B"
_COMPARISON = "two such cells: of an arm and its baseline, or before and after"
_TWIN = "the baseline made a second time; how far the two differ is the noise floor"


def legend(of_kinds: Sequence[CasesOfKind], *, unit: str, has_twin: bool) -> Iterator[Block]:
    """Yield the words of a page whose cases are ``of_kinds``; nothing if nothing was timed.

    ``unit`` is the work that one time belongs to.
    """
    present = {timing for cases in of_kinds for timing in (*cases.measured, *cases.comparisons)}
    if present:
        words = {
            str(timing): f"a {unit} {spec.in_short}{_MORE.get(timing, '')}"
            for timing, spec in TIMINGS.items()
            if timing in present
        }
        words |= {"arm": _ARM, "cell": _CELL}
        words |= {"comparison": _COMPARISON} if any(cases.comparisons for cases in of_kinds) else {}
        words |= {"twin": _TWIN} if has_twin else {}
        yield Facts(items=[NamedText(name=name, text=text) for name, text in words.items()], style="legend")


def eager_below_enqueue(latencies: Sequence[Chart]) -> bool:
    """Return True if any median of ``eager`` is below the median of ``enqueue``."""
    times = {
        chart.title: {
            (line.label, size): value
            for line in chart.lines
            for size, value in zip(chart.positions, line.values, strict=True)
            if value is not None
        }
        for chart in latencies
    }
    enqueue = times.get(Timing.ENQUEUE, {})
    return any(value < enqueue.get(cell, 0.0) for cell, value in times.get(Timing.EAGER, {}).items())
