"""A case: one point of the sweep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from operator import attrgetter
from typing import Any

from nccl_bench.catalog.bounds import AtLeastOne, Few, Size
from nccl_bench.catalog.collectives import COLLECTIVES, Collective, Placement, RedOp
from nccl_bench.catalog.dtypes import DTYPES


class Scenario(StrEnum):
    """The work around the collective while it is timed."""

    ISOLATED = "isolated"  # no other work
    CHAIN = "chain"  # matrix products before and after the collective, as in the layers of a decoder
    SKEW = "skew"  # no other work, but one rank comes late
    OVERLAP = "overlap"  # a matrix product beside the collective, on another stream
    CONTENDED = "contended"  # a collective of a second communicator, on the same stream or on another one


# Field of a case -> its words in the name of the case. A field that a scenario does not have is ``None``.
CASE_SETTINGS: Mapping[str, str] = {
    "hidden": "hidden {}",
    "layers": "{} layers",
    "delay_us": "{} us late",
    "streams": "streams {}",
}
# Returns the values that distinguish the scenarios of cases, from a case or from an object with the same attributes.
scenario_of = attrgetter("scenario", *CASE_SETTINGS)
# The fields that name the kind of a case: all but its size.
KIND_FIELDS = ("scenario", *CASE_SETTINGS, "collective", "dtype", "redop", "placement", "root")
# Returns a value that is equal for cases of one kind. The argument can be another object with these attributes.
kind_of = attrgetter(*KIND_FIELDS)


def scenario_words(of: Any) -> str:
    """Return the words for the scenario in the name of a case; an empty text for ``isolated``.

    ``of`` is a case, or another object with its attributes.
    """
    scenario, *values = scenario_of(of)
    if scenario in (None, Scenario.ISOLATED):
        return ""
    texts = zip(CASE_SETTINGS.values(), values, strict=True)
    settings = ", ".join(text.format(value) for text, value in texts if value is not None)
    return f"{scenario} ({settings})" if settings else str(scenario)


# One object for each kind, because Python compares an object with itself at once, and two equal cases field by field. A
# process sees few kinds.
_KINDS: dict[Case, Case] = {}


def root_word(root: int | None) -> str | None:
    """Return the words for ``root`` in the name of a case; ``None`` for no root."""
    return None if root is None else f"root {root}"


def tokens_of(of: Any) -> int | None:
    """Return the number of tokens in the message of a case, or of another object with its attributes."""
    return None if not of.hidden else int(of.size_bytes // (of.hidden * DTYPES[of.dtype].itemsize))


# Without `slots=True`, so that a case can keep its hash and its kind: a run looks up its cases many times.
@dataclass(frozen=True, kw_only=True)
class Case:
    """A point of the sweep."""

    scenario: Scenario  # the work around the collective
    collective: str  # a name in the table of collectives
    dtype: str  # a name in the table of data types
    redop: RedOp | None  # None: the collective reduces nothing
    placement: Placement  # the placement of its calls; an arm without this placement can be called in another one
    root: Few | None  # a rank; None if the collective has no root
    size_bytes: Size  # the message size, after nccl-tests' rounding
    count: Size  # elements in one block
    hidden: AtLeastOne | None = None  # the elements of a token in a chain; None in other scenarios
    layers: AtLeastOne | None = None  # the number of layers of a chain; None in other scenarios
    delay_us: Few | None = None  # the requested delay of one rank, microseconds; None in other scenarios than skew
    streams: AtLeastOne | None = None  # the number of streams of contended collectives; None in other scenarios

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.collective, self.dtype, self.redop, self.placement, self.size_bytes))

    @cached_property
    def kind(self) -> Case:
        """The case without its size. Cases that differ only in their size have the same object as their kind."""
        kind = replace(self, size_bytes=0, count=0)
        return _KINDS.setdefault(kind, kind)

    @property
    def row(self) -> Collective:
        """The row of this case's collective."""
        return COLLECTIVES[self.collective]

    @property
    def placement_word(self) -> str | None:
        """The placement in the label; ``None`` for the default one, because some arms can then have another one."""
        return None if self.placement is self.row.placements[0] else self.placement

    @property
    def root_word(self) -> str | None:
        """The root as text; ``None`` if the collective has no root."""
        return root_word(self.root)

    @property
    def tokens(self) -> int | None:
        """The number of tokens in a message; ``None`` if the scenario has no tokens."""
        return tokens_of(self)

    @property
    def label(self) -> str:
        """A name for messages, different for every case of a run."""
        words = (
            scenario_words(self),
            self.collective,
            self.dtype,
            self.redop,
            self.placement_word,
            self.root_word,
        )
        return f"{' '.join(filter(None, words))} {self.size_bytes} B"
