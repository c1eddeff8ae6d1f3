"""The headline of an analysis as aligned lines for a terminal."""

import shlex
from collections.abc import Iterator
from itertools import groupby

from nccl_bench.analysis.headline import Headline, HeadlineLine, Label
from nccl_bench.report.layout import Entry

_STYLES = {
    Label.FASTEST: "bold green",
    Label.FASTER: "bold green",
    Label.SLOWER: "bold red",
    Label.OPEN: "yellow",
    Label.PASS: "bold green",
    Label.WEAK: "yellow",
    Label.LEAK: "yellow",
}
# The widths of the columns of labels, of timings and of names of facts; the latter two with the space behind them.
# A longer label moves its text to the right.
_LABEL, _TIMING, _FACT = 7, 8, 9
# Longer sizes stand before the text and not in a column.
_SIZES = 18


def headline_entries(headline: Headline) -> Iterator[Entry]:
    """Yield the title, the problems, the verdicts and the facts as entries for a terminal."""
    yield Entry(text=headline.title, style="bold")
    for problem in headline.problems:
        yield Entry(mark="  ", text=problem, style="bold red")
    width = max((len(line.sizes) for line in headline.lines if len(line.sizes) <= _SIZES), default=0) + 2
    for about, lines in groupby(headline.lines, key=lambda line: line.about):
        if about:
            yield Entry(mark="  ", text=about, style="bold")
        for line in lines:
            yield _line(line, width)
    for name, facts in groupby(headline.facts, key=lambda fact: fact.name):
        for number, fact in enumerate(facts):
            # The name stands once before several facts.
            yield fact_entry("" if number else name, fact.text.removesuffix(fact.command).strip(), fact.command)


def fact_entry(name: str, text: str, command: str = "") -> Entry:
    """Return an entry for a fact: its name, its text, and the command with which it ends."""
    words = tuple(map(shlex.quote, shlex.split(command)))
    return Entry(mark=f"  {name:<{_FACT}}", text=text, command=words, mark_style="bold")


def _line(line: HeadlineLine, width: int) -> Entry:
    mark = f"  {line.label:<{_LABEL}} "
    text = line.text
    if line.timing:
        mark += f"{line.timing:<{_TIMING}}"
        if 0 < len(line.sizes) <= _SIZES:
            # The sizes are a column of their own.
            mark += f"{line.sizes:<{width}}"
            text = text.removeprefix(f"{line.sizes}, ")
    return Entry(mark=mark, text=text, mark_style=_STYLES.get(line.label, "bold"))
