"""A diagnosis: a fact about this machine, its effect on a benchmark, and the command that helps."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """The effects of a fact on a benchmark, the worst first."""

    STOPS = "stops"  # a benchmark of all GPUs fails
    CHANGES = "changes"  # figures differ from the best of this machine, or some benchmarks fail
    FINE = "fine"  # a fact, with no harm


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """A fact about this machine, with its effect and the remedy."""

    severity: Severity  # the kind of effect
    seen: str  # the fact
    effect: str = ""  # the effect on a benchmark; empty if the fact does no harm
    command: str = ""  # the command that helps, to copy; empty if the fact does no harm, or if no command helps
    subject: str = ""  # the subject that was examined; `examine` sets it


def fine(seen: str) -> Diagnosis:
    """Return a fact that does no harm."""
    return Diagnosis(severity=Severity.FINE, seen=seen)


def changes(seen: str, effect: str, command: str = "") -> Diagnosis:
    """Return something that changes figures, or that makes some benchmarks fail."""
    return Diagnosis(severity=Severity.CHANGES, seen=seen, effect=effect, command=command)


def stops(seen: str, effect: str, command: str = "") -> Diagnosis:
    """Return something that makes a benchmark of all GPUs fail."""
    return Diagnosis(severity=Severity.STOPS, seen=seen, effect=effect, command=command)
