"""What the ranks conclude from one call of a user arm: its placement, or that the arm has declined."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nccl_bench.catalog.collectives import Placement
from nccl_bench.communicators import sights
from nccl_bench.communicators.sights import Sight, conclude, sight_of_placement, sight_of_silence, tally
from nccl_bench.errors import SetupError

IN, OUT, RETURNED = Placement.IN_PLACE, Placement.OUT_OF_PLACE, Placement.RETURNED


def concluded(*ranks: set[Sight], expected: Placement = IN) -> Placement | None:
    """Return what the ranks conclude about an arm; another arm is called too, and lives in other processes."""
    names = ["other", "mine"]
    sums = [sum(column) for column in zip(*(tally({"mine": rank}, names) for rank in ranks), strict=True)]
    sums = [mark + 2 * (index == Sight.IN_PLACE) for index, mark in enumerate(sums)]
    both = conclude(sums, names, {"mine": expected, "other": IN})
    assert both["other"] is IN
    return both["mine"]


@pytest.mark.parametrize(
    ("seen", "facts", "expected", "placement"),
    [
        ([Sight.IN_PLACE] * 2, set(), RETURNED, IN),
        ([Sight.RETURNED] * 2, set(), IN, RETURNED),
        ([Sight.OUT_OF_PLACE] * 2, set(), OUT, OUT),
        ([Sight.REFUSED] * 2, set(), IN, None),
        # Nothing was returned.
        ([Sight.CHANGED, Sight.CHANGED], set(), IN, IN),
        ([Sight.CHANGED, Sight.UNCHANGED], set(), RETURNED, IN),
        ([Sight.CHANGED, Sight.RIGHT], set(), OUT, OUT),
        ([Sight.UNCHANGED] * 2, set(), IN, None),
        ([Sight.UNCHANGED] * 2, set(), OUT, None),
        # The root of a broadcast has nothing to change, and one rank alone has the sum already.
        ([Sight.NOTHING, Sight.RIGHT], set(), IN, IN),
        ([Sight.NOTHING, Sight.UNCHANGED], set(), IN, None),
        ([Sight.NOTHING, Sight.RETURNED], set(), RETURNED, RETURNED),
        ([Sight.NOTHING], set(), IN, IN),
        ([Sight.NOTHING], {Sight.RETURNS}, RETURNED, None),
        # An annotation of None means in place, even if nothing was done: the check then finds wrong results.
        ([Sight.UNCHANGED] * 2, {Sight.RETURNS_NOTHING}, IN, IN),
        # It returned tensors at other sizes, so only a right result counts as in place.
        ([Sight.CHANGED] * 2, {Sight.RETURNS}, RETURNED, None),
        ([Sight.RIGHT] * 2, {Sight.RETURNS}, RETURNED, IN),
        ([Sight.UNCHANGED] * 2, {Sight.RETURNS}, RETURNED, None),
    ],
)
def test_the_ranks_conclude_together(
    seen: list[Sight], facts: set[Sight], expected: Placement, placement: Placement | None
) -> None:
    assert concluded(*({sight} | facts for sight in seen), expected=expected) is placement


def test_ranks_that_do_different_things_are_named_with_them() -> None:
    with pytest.raises(SetupError, match="mine did not do the same on all ranks: returned and unchanged"):
        concluded({Sight.RETURNED}, {Sight.UNCHANGED})


def changing(*answers: bool) -> Callable[[], bool]:
    """Return a function that gives these answers in turn, and the last one for ever."""
    remaining = list(answers)
    return lambda: remaining.pop(0) if len(remaining) > 1 else remaining[0]


def test_silence_is_told_apart_by_the_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(sights.time, "sleep", slept.append)
    assert sight_of_silence(changing(False), changing(True)) is Sight.RIGHT
    assert sight_of_silence(changing(False), changing(False)) is Sight.CHANGED
    assert sight_of_silence(changing(True), changing(True)) is Sight.NOTHING
    assert not slept
    assert sight_of_silence(changing(True), changing(False)) is Sight.UNCHANGED
    # Work that nobody waited for ends while this rank is patient.
    assert sight_of_silence(changing(True, False), changing(False)) is Sight.CHANGED
    assert slept == [sights.PATIENCE_S] * 2
    assert [sight_of_placement(each) for each in Placement] == [Sight.IN_PLACE, Sight.OUT_OF_PLACE, Sight.RETURNED]
