"""The headline of a page: problems, verdicts, and facts with commands to copy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from nccl_bench.analysis.headline import Fact, Headline
from nccl_bench.report.html.page import Block, Facts, NamedText, Remarks, VerdictLine, Verdicts


def headline_blocks(headline: Headline) -> Iterator[Block]:
    """Yield the problems, then the verdicts about each pair of arms, then the facts."""
    if headline.problems:
        yield Remarks(title="Failures", items=headline.problems, style="problem")
    for about, lines in groupby(headline.lines, key=lambda line: line.about):
        verdicts = [VerdictLine(label=line.label, timing=line.timing or "", text=line.text) for line in lines]
        yield Verdicts(title=about, lines=verdicts)
    if headline.facts:
        yield fact_block(headline.facts)


def fact_block(facts: Sequence[Fact]) -> Facts:
    """Return ``facts`` as names with their texts and commands."""
    return Facts(items=[NamedText(name=fact.name, text=fact.text, command=fact.command) for fact in facts])
