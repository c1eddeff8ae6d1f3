"""The conclusion of the ranks from one call of a user arm: its placement, or that the arm has declined."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nccl_bench.catalog.collectives import Placement
from nccl_bench.communicators import observations
from nccl_bench.communicators.observations import Observation, conclude, observe_placement, observe_silence, tally
from nccl_bench.errors import SetupError

IN, OUT, RETURNED = Placement.IN_PLACE, Placement.OUT_OF_PLACE, Placement.RETURNED


def concluded(*ranks: set[Observation], expected: Placement = IN) -> Placement | None:
    """Return what the ranks conclude, and ranks that do not have the arm."""
    return conclude([sum(marks) for marks in zip(*map(tally, (*ranks, set())), strict=True)], expected)


@pytest.mark.parametrize(
    ("seen", "facts", "expected", "placement"),
    [
        ([Observation.IN_PLACE] * 2, set(), RETURNED, IN),
        ([Observation.RETURNED] * 2, set(), IN, RETURNED),
        ([Observation.OUT_OF_PLACE] * 2, set(), OUT, OUT),
        ([Observation.REFUSED] * 2, set(), IN, None),
        # Nothing was returned.
        ([Observation.CHANGED, Observation.CHANGED], set(), IN, IN),
        ([Observation.CHANGED, Observation.UNCHANGED], set(), RETURNED, IN),
        ([Observation.CHANGED, Observation.RIGHT], set(), OUT, OUT),
        ([Observation.UNCHANGED] * 2, set(), IN, None),
        ([Observation.UNCHANGED] * 2, set(), OUT, None),
        # The root of a broadcast has nothing to change, and one rank alone has the sum already.
        ([Observation.NOTHING, Observation.RIGHT], set(), IN, IN),
        ([Observation.NOTHING, Observation.UNCHANGED], set(), IN, None),
        ([Observation.NOTHING, Observation.RETURNED], set(), RETURNED, RETURNED),
        ([Observation.NOTHING], set(), IN, IN),
        ([Observation.NOTHING], {Observation.RETURNS}, RETURNED, None),
        # An annotation of None means in place, even if nothing was done: the check then finds wrong results.
        ([Observation.UNCHANGED] * 2, {Observation.RETURNS_NOTHING}, IN, IN),
        # It returned tensors at other sizes, so only a right result counts as in place.
        ([Observation.CHANGED] * 2, {Observation.RETURNS}, RETURNED, None),
        ([Observation.RIGHT] * 2, {Observation.RETURNS}, RETURNED, IN),
        ([Observation.UNCHANGED] * 2, {Observation.RETURNS}, RETURNED, None),
    ],
)
def test_the_ranks_conclude_together(
    seen: list[Observation], facts: set[Observation], expected: Placement, placement: Placement | None
) -> None:
    assert concluded(*({observation} | facts for observation in seen), expected=expected) is placement


def test_ranks_that_do_different_things_are_named_with_them() -> None:
    with pytest.raises(SetupError, match="did not do the same on all ranks: returned and unchanged"):
        concluded({Observation.RETURNED}, {Observation.UNCHANGED})


def changing(*answers: bool) -> Callable[[], bool]:
    """Return a function that gives these answers in turn, and the last one for ever."""
    remaining = list(answers)
    return lambda: remaining.pop(0) if len(remaining) > 1 else remaining[0]


def test_silence_is_told_apart_by_the_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(observations.time, "sleep", slept.append)
    assert observe_silence(changing(False), changing(True)) is Observation.RIGHT
    assert observe_silence(changing(False), changing(False)) is Observation.CHANGED
    assert observe_silence(changing(True), changing(True)) is Observation.NOTHING
    assert not slept
    assert observe_silence(changing(True), changing(False)) is Observation.UNCHANGED
    # Work that nobody waited for ends while this rank is patient.
    assert observe_silence(changing(True, False), changing(False)) is Observation.CHANGED
    assert slept == [observations.PATIENCE_S] * 2
    assert [observe_placement(each) for each in Placement] == [
        Observation.IN_PLACE,
        Observation.OUT_OF_PLACE,
        Observation.RETURNED,
    ]
