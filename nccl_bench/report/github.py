"""Annotations, and the size of the summary, that GitHub Actions shows beside a result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain

from nccl_bench.analysis.headline import Headline, Label
from nccl_bench.report.escaping import annotation_text, annotation_title

# GitHub shows this many annotations of a level for each step, and drops the others.
MOST_ANNOTATIONS = 10
# GitHub refuses a larger summary of a step.
MOST_SUMMARY_BYTES = 1024 * 1024


class Level(StrEnum):
    """The level of an annotation; the workflow command has the same name."""

    ERROR = "error"
    WARNING = "warning"
    NOTICE = "notice"


# A line of the headline with one of these labels is a warning.
_WORSE = (Label.SLOWER, Label.WEAK, Label.LEAK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """A message that GitHub shows on the page of a workflow run."""

    level: Level  # how much it matters
    title: str  # the title
    message: str  # the text; it can have several lines

    def command(self) -> str:
        """Return the line that makes GitHub show the annotation."""
        return f"::{self.level} title={annotation_title(self.title)}::{annotation_text(self.message)}"


def annotations_of(headline: Headline, warnings: Sequence[str]) -> Iterator[Annotation]:
    """Yield annotations: the problems, the slower lines, the warnings, and one notice with the whole headline."""
    yield from _limited(Level.ERROR, "failure", headline.problems)
    lines = [" ".join(filter(None, (line.about, line.label, line.timing, line.text))) for line in headline.lines]
    worse = [text for line, text in zip(headline.lines, lines, strict=True) if line.label in _WORSE]
    yield from _limited(Level.WARNING, "warning", [*worse, *warnings])
    facts = (f"{fact.name}: {fact.text}" for fact in headline.facts)
    text = "\n".join(chain((headline.title,), headline.problems, lines, facts))
    yield Annotation(level=Level.NOTICE, title="nccl-bench", message=text)


def _limited(level: Level, title: str, messages: Sequence[str]) -> Iterator[Annotation]:
    shown = messages if len(messages) <= MOST_ANNOTATIONS else messages[: MOST_ANNOTATIONS - 1]
    for message in shown:
        yield Annotation(level=level, title=f"nccl-bench: {title}", message=message)
    if left := len(messages) - len(shown):
        yield Annotation(
            level=level, title=f"nccl-bench: {title}", message=f"{left} more like this: see the output of the step"
        )
