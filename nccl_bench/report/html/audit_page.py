"""The page of an audit: the answer, each race with its remedy, and what was watched."""

from __future__ import annotations

from collections.abc import Iterator

from nccl_bench.audit.findings.audit import Audit, Outcome
from nccl_bench.audit.findings.record import FoundRace
from nccl_bench.audit.findings.remedies import remedy
from nccl_bench.records.run import TOOL
from nccl_bench.report.audit_texts import (
    KIND_MEANINGS,
    access_lines,
    access_text,
    collective_counts,
    cost_texts,
    headline,
    line_text,
    race_title,
    sample_texts,
    source_texts,
    sources_off,
    sources_on,
    times,
    watched,
)
from nccl_bench.report.html.page import (
    Block,
    Calls,
    Facts,
    NamedCalls,
    NamedText,
    Page,
    PageTable,
    Paragraphs,
    Remarks,
    Section,
    render,
)


def audit_html(audit: Audit) -> str:
    """Return the page of ``audit``."""
    return render(audit_page(audit))


def audit_page(audit: Audit) -> Page:
    """Return the page of ``audit`` as data."""
    races = [block for number, race in enumerate(audit.races, start=1) for block in _race(number, race)]
    sections = (
        Section(identifier="answer", title="Answer", blocks=list(_answer(audit))),
        Section(identifier="races", title="Races", blocks=races),
        Section(identifier="suppressions", title="Suppressions", blocks=list(_suppressions(audit))),
        Section(identifier="watched", title="What was watched", blocks=list(_watched(audit))),
    )
    return Page(
        title=f"audit of {audit.program} - {TOOL}",
        heading=f"Audit of {audit.program}",
        subtitle="Stream order by construction: two accesses to the same memory that nothing orders are a race.",
        sections=[section for section in sections if section.blocks],
    )


def _answer(audit: Audit) -> Iterator[Block]:
    yield Paragraphs(items=[headline(audit)], style="answer")
    problems = [problem for problem in (audit.hang, audit.failure) if problem]
    if audit.outcome is Outcome.BLIND:
        problems.append("This is no pass.")
    if problems:
        yield Remarks(title="The program", items=problems, style="problem")


def _race(number: int, race: FoundRace) -> Iterator[Block]:
    items = [NamedCalls(name="first", text=access_text(race.first), calls=list(access_lines(race.first)))]
    if race.freed is not None:
        freed = (line_text(race.freed), race.freed.source)
        items.append(NamedCalls(name="freed", text="the memory of the first access", calls=[freed]))
    items.append(NamedCalls(name="second", text=access_text(race.second), calls=list(access_lines(race.second))))
    yield Calls(title=race_title(number, race), items=items)
    missing = remedy(race)
    meaning = missing.meaning.replace("`", "'")
    text = f"{missing.place}; {meaning}: {missing.code}"
    yield Facts(
        items=[
            NamedText(name="remedy", text=text, command=missing.code),
            NamedText(name="meaning", text=KIND_MEANINGS[race.kind]),
        ]
    )


def _suppressions(audit: Audit) -> Iterator[Block]:
    rows = [
        (f"{each.by.number}", each.by.text, each.by.reason, f"suppressed a race, {times(each.race.count)}")
        for each in audit.suppressed
    ]
    rows += [(f"{each.number}", each.text, each.reason, "suppressed no race: remove it") for each in audit.unused]
    if rows:
        yield PageTable(
            caption="Lines of the file of accepted races", header=("line", "patterns", "reason", "use"), rows=rows
        )


def _watched(audit: Audit) -> Iterator[Block]:
    if not audit.ranks:
        return
    counts = f": {collective_counts(audit)}" if audit.collectives else ""
    yield Paragraphs(items=[f"Watched: {watched(audit)}{counts}.", *sample_texts(audit), *cost_texts(audit)])
    yield PageTable(
        caption="Each source that watched, and what it cannot see",
        header=("source", "", "what"),
        rows=[(source.name, name, text) for source in sources_on(audit) for name, text in source_texts(source)],
    )
    if sources_off(audit):
        yield Paragraphs(items=[sources_off(audit)])
