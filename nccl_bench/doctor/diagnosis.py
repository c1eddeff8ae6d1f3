"""What was seen on this machine, and what that does to a benchmark."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """What a benchmark suffers from something that was seen, the worst first."""

    STOPS = "stops"  # a benchmark of all GPUs fails
    CHANGES = "changes"  # figures are not those of this machine at its best, or some benchmarks fail
    FINE = "fine"  # a fact, with no harm


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """One thing that was seen."""

    severity: Severity  # what a benchmark suffers
    seen: str  # what was seen
    effect: str = ""  # what it does to a benchmark; empty if it does no harm
    command: str = ""  # the command that helps, to copy; empty if it does no harm, or if no command helps
    subject: str = ""  # what was examined; the table of subjects fills it in


def fine(seen: str) -> Diagnosis:
    """Return a fact that does no harm."""
    return Diagnosis(severity=Severity.FINE, seen=seen)


def changes(seen: str, effect: str, command: str = "") -> Diagnosis:
    """Return something that changes figures, or that makes some benchmarks fail."""
    return Diagnosis(severity=Severity.CHANGES, seen=seen, effect=effect, command=command)


def stops(seen: str, effect: str, command: str = "") -> Diagnosis:
    """Return something that makes a benchmark of all GPUs fail."""
    return Diagnosis(severity=Severity.STOPS, seen=seen, effect=effect, command=command)
