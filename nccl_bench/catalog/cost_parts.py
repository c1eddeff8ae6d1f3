"""The table of the parts of a call. The CPU thread makes the parts one after another. Each part is measured alone."""

from collections.abc import Mapping
from enum import StrEnum


class CostPart(StrEnum):
    """The names of the parts, in the order in which a call makes them."""

    STREAM = "stream"
    FORK = "fork"
    CALL = "call"
    JOIN = "join"


# The meaning of each part.
COST_PARTS: Mapping[CostPart, str] = {
    CostPart.STREAM: "the fetch of the stream",
    CostPart.FORK: "the fork to the private stream",
    CostPart.CALL: "the call of the library alone, with prepared arguments",
    CostPart.JOIN: "the join of the private stream",
}
