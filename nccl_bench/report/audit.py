"""An audit in a terminal, in Markdown and as JSON: the answer, each race with its remedy, and what was watched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, TextIO

from rich.text import Text

from nccl_bench.audit.findings.audit import Audit, Outcome
from nccl_bench.audit.findings.record import FoundAccess, FoundRace
from nccl_bench.audit.findings.remedies import remedy
from nccl_bench.report import NARROWEST_AUDIT, Detail, Format, Report
from nccl_bench.report.audit_texts import (
    KIND_MEANINGS,
    MISSES,
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
from nccl_bench.report.document import AuditReport, RaceRecord
from nccl_bench.report.escaping import markdown_code, markdown_text, visible_line
from nccl_bench.report.formats import encoded_json
from nccl_bench.report.text import TextReport

_STYLES = {Outcome.RACES: "bold red", Outcome.NONE: "bold green"}


def reports(stream: TextIO, width: int | None, detail: Detail = Detail.USUAL) -> dict[Format, Report[Audit]]:
    """Return the report of each format but the page; without ``width`` the width of ``stream`` applies.

    ``detail`` is the amount of text in a terminal.
    """
    return {
        Format.TERMINAL: replace(TerminalAudit.for_stream(stream, width), detail=detail).render,
        Format.MARKDOWN: markdown_audit,
        Format.JSON: json_audit,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalAudit(TextReport[Audit]):
    """Lists for a terminal. The text of a program's line is never broken."""

    detail: Detail = Detail.USUAL  # the amount of text

    narrowest: ClassVar[int] = NARROWEST_AUDIT

    def _lines(self, content: Audit) -> Iterator[Text]:
        yield from self._wrapped(f"nccl-bench audit: {content.program}", "bold")
        yield from self._wrapped(headline(content), _STYLES.get(content.outcome, "bold yellow"))
        for problem in filter(None, (content.hang, content.failure)):
            yield from self._wrapped(problem, "bold red")
        for number, race in enumerate(content.races, start=1):
            yield Text()
            yield from self._race(number, race)
        yield from self._suppressions(content)
        if self.detail is not Detail.QUIET:
            yield from self._watched(content)

    def races_text(self, races: Sequence[FoundRace]) -> str:
        """Return the text of the races alone."""
        lines = (line for number, race in enumerate(races, start=1) for line in self._race(number, race))
        return "\n".join(visible_line(line.plain) for line in lines)

    def _race(self, number: int, race: FoundRace) -> Iterator[Text]:
        """Yield a race with its two accesses and what would order them."""
        yield from self._wrapped(race_title(number, race), "bold red")
        yield from self._wrapped(KIND_MEANINGS[race.kind], "dim", bullet="   ")
        yield from self._access("first", race.first)
        if race.freed is not None:
            yield from self._wrapped(line_text(race.freed), bullet="   freed   ")
        yield from self._access("second", race.second)
        missing = remedy(race)
        yield from self._wrapped(f"`{missing.code}` {missing.place}", "bold", bullet="   remedy  ")
        yield from self._wrapped(missing.meaning, bullet=" " * 11)

    def _access(self, name: str, access: FoundAccess) -> Iterator[Text]:
        yield from self._wrapped(access_text(access), bullet=f"   {name:<8}")
        for place, source in access_lines(access):
            yield from self._wrapped(place, bullet=" " * 11)
            if source:
                yield Text(f"{' ' * 15}{source}", "cyan")

    def _suppressions(self, content: Audit) -> Iterator[Text]:
        if content.suppressed:
            yield Text()
            yield from self._wrapped("Suppressed", "bold")
            for each in content.suppressed:
                text = f"line {each.by.number}, {each.by.text}: {each.by.reason} ({times(each.race.count)})"
                yield from self._wrapped(text, bullet="- ")
        if content.unused:
            yield Text()
            yield from self._wrapped("Suppressions that suppressed no race; remove them", "bold yellow")
            for unused in content.unused:
                yield from self._wrapped(f"line {unused.number}, {unused.text}: {unused.reason}", bullet="- ")

    def _watched(self, content: Audit) -> Iterator[Text]:
        if not content.ranks:
            return
        yield Text()
        yield from self._wrapped(f"Watched: {watched(content)}", "bold")
        if content.collectives:
            yield from self._wrapped(collective_counts(content), bullet="  ")
        for text in sample_texts(content):
            yield from self._wrapped(text, bullet="- ")
        yield from self._wrapped(f"By: {', '.join(source.name for source in sources_on(content))}.", bullet="- ")
        yield from self._wrapped(sources_off(content), bullet="- ")
        yield Text()
        yield from self._wrapped(
            "What the watch sees and misses" if self.detail is Detail.FULL else "What the watch misses", "bold"
        )
        for source in sources_on(content):
            for name, text in source_texts(source):
                label = f" {name}" if self.detail is Detail.FULL else ""
                if name == MISSES or self.detail is Detail.FULL:
                    yield from self._wrapped(f"{source.name}{label}: {text}", "dim", bullet="- ")
        yield Text()
        yield from self._wrapped("Cost", "bold")
        for text in cost_texts(content):
            yield from self._wrapped(text, bullet="- ")


def races_text(races: Sequence[FoundRace], width: int) -> str:
    """Return the races alone, as a terminal without colours shows them."""
    return TerminalAudit(width=width, styled=False).races_text(races)


def markdown_audit(content: Audit) -> str:
    """Return GitHub's Markdown, to paste into a pull request."""
    lines = [f"**nccl-bench audit: {markdown_text(content.program)}**", "", markdown_text(headline(content)), ""]
    for problem in filter(None, (content.hang, content.failure)):
        lines += [markdown_text(problem), ""]
    for number, race in enumerate(content.races, start=1):
        lines += _markdown_race(number, race)
    if content.suppressed:
        lines += ["**Suppressed**", ""]
        lines += [
            f"- line {each.by.number}, {markdown_code(each.by.text)}: {markdown_text(each.by.reason)} "
            f"({times(each.race.count)})"
            for each in content.suppressed
        ] + [""]
    if content.unused:
        lines += ["**Suppressions that suppressed no race; remove them**", ""]
        lines += [
            f"- line {each.number}, {markdown_code(each.text)}: {markdown_text(each.reason)}" for each in content.unused
        ] + [""]
    if content.ranks:
        sources = sample_texts(content)
        sources += [f"{each.name} {name}: {text}" for each in sources_on(content) for name, text in source_texts(each)]
        sources += filter(None, [sources_off(content)])
        for title, texts in (
            (f"Watched: {watched(content)}", sources),
            ("Cost", cost_texts(content)),
        ):
            lines += [f"**{markdown_text(title)}**", "", *(f"- {markdown_text(text)}" for text in texts), ""]
    return "\n".join(lines)


def _markdown_race(number: int, race: FoundRace) -> Iterator[str]:
    missing = remedy(race)
    yield from (f"**{markdown_text(race_title(number, race))}**", "", markdown_text(KIND_MEANINGS[race.kind]), "")
    for name, access in (("First", race.first), ("Second", race.second)):
        yield f"- {name}: {markdown_text(access_text(access))}"
        for place, source in access_lines(access):
            yield f"  - {markdown_text(place)}{': ' + markdown_code(source) if source else ''}"
        if name == "First" and race.freed is not None:
            yield f"- Freed: {markdown_text(line_text(race.freed))}"
    yield f"- Remedy: {markdown_code(missing.code)} {markdown_text(missing.place)}; {markdown_text(missing.meaning)}"
    yield ""


def json_audit(content: Audit) -> str:
    """Return the whole audit as JSON; the module ``document`` has its schema."""
    return encoded_json(
        AuditReport(
            outcome=content.outcome,
            exit_code=int(content.exit_code),
            headline=headline(content),
            program=content.program,
            world_size=content.world_size,
            races=[RaceRecord(race=race, remedy=remedy(race)) for race in content.races],
            suppressed=list(content.suppressed),
            unused=list(content.unused),
            hang=content.hang,
            failure=content.failure,
            ranks=list(content.ranks),
        )
    )
