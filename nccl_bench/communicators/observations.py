"""The observations of each rank about a call of a user arm, and the conclusion: a placement, or that the call declined.

A call that returns nothing has worked in place, or it has declined: engines' custom all-reduces return ``None`` for a
message that they do not take. A changed tensor shows that the call has worked. But not every rank has a changed tensor:
a broadcast changes nothing on its root. So the ranks decide together.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import IntEnum

from nccl_bench.catalog.collectives import Placement
from nccl_bench.errors import SetupError
from nccl_bench.safety.secrets import masked

# The seconds after which a call with unchanged tensors counts as a call that did nothing. Before that, its collective
# can still be at work, because the caller has not waited for it.
PATIENCE_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The reply of a communicator to the question whether it takes a call."""

    declined: str | None = None  # the question and its answer if the call is declined; None if it is taken
    placements: frozenset[Placement] | None = None  # the placements that are allowed; None if unknown


class Observation(IntEnum):
    """The observation of one rank about a call."""

    IN_PLACE = 0  # the call returned its input
    OUT_OF_PLACE = 1  # the call wrote into the output that it got
    RETURNED = 2  # the call returned a new tensor
    REFUSED = 3  # the object declined before the call
    UNCHANGED = 4  # the call returned nothing, and no tensor has changed
    CHANGED = 5  # the call returned nothing, and a tensor has changed
    RIGHT = 6  # the call returned nothing, and its input is now the right output
    NOTHING = 7  # the call shows nothing: this rank gets no output, or its tensors were right before
    # Two facts about the method. A rank adds them to what the call shows.
    RETURNS = 8  # other calls of the method have returned a tensor, or its annotation promises one
    RETURNS_NOTHING = 9  # the annotation says that the method returns nothing, so it never declines


_PLACEMENTS = {
    Observation.IN_PLACE: Placement.IN_PLACE,
    Observation.OUT_OF_PLACE: Placement.OUT_OF_PLACE,
    Observation.RETURNED: Placement.RETURNED,
}
_SILENT = frozenset({Observation.UNCHANGED, Observation.CHANGED, Observation.RIGHT})
_FACTS = frozenset({Observation.RETURNS, Observation.RETURNS_NOTHING})


def observe_silence(is_unchanged: Callable[[], bool], is_right: Callable[[], bool]) -> Observation:
    """Return the observation for a call that returned nothing. Both functions look at this rank's tensors."""
    if not is_unchanged():
        return Observation.RIGHT if is_right() else Observation.CHANGED
    if is_right():
        return Observation.NOTHING
    time.sleep(PATIENCE_S)
    return Observation.UNCHANGED if is_unchanged() else Observation.CHANGED


def observe_placement(placement: Placement) -> Observation:
    """Return the observation for a call that worked in ``placement``."""
    return next(observation for observation, shown in _PLACEMENTS.items() if shown is placement)


def tally(observed: Collection[Observation]) -> list[int]:
    """Return 1 for each observation that this rank made, else 0. ``conclude`` takes the sums over all ranks."""
    return [int(observation in observed) for observation in Observation]


def conclude(marks: Sequence[int], expected: Placement) -> Placement | None:
    """Return the placement of a call; ``None`` if the call has declined. ``expected`` is the case's placement.

    Raises ``SetupError`` if the ranks differ.
    """
    seen = {observation for observation, count in zip(Observation, marks, strict=True) if count}
    facts, seen = seen & _FACTS, seen - _FACTS - {Observation.NOTHING}
    if seen == {Observation.REFUSED}:
        return None
    if len(seen) == 1 and not seen & _SILENT:
        return _PLACEMENTS[seen.pop()]
    if not seen <= _SILENT:
        different = " and ".join(sorted(observation.name.lower().replace("_", " ") for observation in seen))
        raise SetupError(f"the call did not do the same on all ranks: {different}; make it do the same on every rank")
    silent = Placement.OUT_OF_PLACE if expected is Placement.OUT_OF_PLACE else Placement.IN_PLACE
    if Observation.RETURNS_NOTHING in facts:
        return silent
    if seen == {Observation.UNCHANGED}:
        return None
    # Other calls have returned a tensor, and this call has not. So it has declined, unless its input is now the right
    # output.
    return None if Observation.RETURNS in facts and seen != {Observation.RIGHT} else silent


def refusal_by(error: NotImplementedError, method: str) -> str:
    """Return the reason why an arm declines, if its ``method`` raised ``error``. torch raises such errors too."""
    text = next(iter(masked(str(error)).strip().splitlines()), "")
    return f"{method} raised NotImplementedError{f': {text}' if text else ''}"
