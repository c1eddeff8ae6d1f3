"""The records of the headline: the answer of an analysis in a few lines, to read before any table."""

from dataclasses import dataclass
from enum import StrEnum

from nccl_bench.catalog.timings import Timing


class Label(StrEnum):
    """The first word of a line of the headline."""

    FASTEST = "FASTEST"  # among several arms, without a question about one of them
    FASTER = "FASTER"
    SLOWER = "SLOWER"
    NOT_SLOWER = "NOT SLOWER"  # no comparison is slower; the text says how many are surely not
    NOT_FASTER = "NOT FASTER"  # no comparison is faster; the text says how many are surely not
    NO_CHANGE = "NO CHANGE"  # every comparison is surely neither faster nor slower
    SAME = "SAME"
    OPEN = "OPEN"  # not decided
    STEP = "STEP"  # the communication time of a step of a workload, of an arm that is compared with no other
    # The words of a verification, which asks whether arms keep stream order.
    PASS = "PASS"
    WEAK = "WEAK"  # a pass of this probe is weak evidence
    LEAK = "LEAK"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadlineLine:
    """A verdict, and the sizes that have it."""

    about: str = ""  # the pair of arms, or the kind of case; empty if the title names them
    label: Label  # the verdict in one word
    timing: Timing | None  # the timing; None if the text names the timings
    sizes: str = ""  # the sizes with which the text begins, so that a report can align them; empty with several timings
    text: str  # the sizes and the differences


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A fact below the verdicts."""

    name: str  # Step, Kernels, Sure, Basis, Caution, Results, Machine, Steady, Next, Order or Command
    text: str  # the fact in words
    command: str = ""  # the command to copy, with which the text ends; empty if there is none
    side: str = ""  # the side that has the command; the text begins with it. Empty if there is only one command


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The answer of an analysis. All reports show these texts."""

    title: str  # the question: the arms, the kind of case and the device
    problems: tuple[str, ...]  # wrong results, hangs and crashes; they stand above everything else
    lines: tuple[HeadlineLine, ...]  # the verdicts; empty if nothing was compared
    facts: tuple[Fact, ...]  # facts in the order above; an unknown fact is absent, and two sides can have several
