"""The range of each kind of value that a record can have.

A record can come from another person, and a value outside its range would make a report crash or take for ever. The
ranges are far wider than anything that was ever measured. No library is imported here, because ranks import the schema.
"""

from dataclasses import dataclass
from typing import Annotated, Any

# The largest integer that the tables of a report can hold.
LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The range of a number, or of the length of a text or a list."""

    least: float | None = None  # the smallest number; None for texts and lists
    most: float | None = None  # the largest number; None for texts and lists
    longest: int | None = None  # the most characters or items; None for numbers

    def contain(self, value: Any) -> bool:
        """Return True if ``value`` is in the range."""
        if self.longest is not None:
            return len(value) <= self.longest
        return self.least is not None and self.most is not None and bool(self.least <= value <= self.most)

    @property
    def text(self) -> str:
        """The range in the words of messages."""
        if self.longest is not None:
            return f"it can have at most {self.longest:,} characters or items"
        return f"it has to be between {_number(self.least)} and {_number(self.most)}"


def _number(number: float | None) -> str:
    if number in (-LARGEST - 1, LARGEST):
        return "-2^63" if number < 0 else "2^63"
    return f"{number:,}" if isinstance(number, int) else f"{number:,f}".rstrip("0").rstrip(".")


Count = Annotated[int, Bounds(least=0, most=LARGEST)]
# A message size in bytes, or the elements of a message. A float can hold it exactly.
Size = Annotated[int, Bounds(least=0, most=2**53)]
# A number of ranks, launches, nodes, cases or arms.
Few = Annotated[int, Bounds(least=0, most=1_000_000)]
AtLeastOne = Annotated[int, Bounds(least=1, most=1_000_000)]
# The index of a case in a plan; -1 during set-up.
CaseIndex = Annotated[int, Bounds(least=-1, most=1_000_000)]
# Microseconds from a picosecond to twelve days. A ratio of two such times is a usual number.
TimeUs = Annotated[float, Bounds(least=1e-6, most=1e12)]
# Microseconds that a coarse clock can round to 0.
TimeOrZeroUs = Annotated[float, Bounds(least=0.0, most=1e12)]
# A difference of two times.
DifferenceUs = Annotated[float, Bounds(least=-1e12, most=1e12)]
Seconds = Annotated[float, Bounds(least=0.0, most=1e9)]
# A share of the time. Two clocks measured it, so it can be a little more than 1.
Share = Annotated[float, Bounds(least=0.0, most=1000.0)]
Clock = Annotated[int, Bounds(least=0, most=1_000_000)]
Temperature = Annotated[int, Bounds(least=-300, most=10_000)]
Watts = Annotated[float, Bounds(least=0.0, most=1e6)]
# The name of an arm, a host, a version, a path or a setting.
Name = Annotated[str, Bounds(longest=4096)]
