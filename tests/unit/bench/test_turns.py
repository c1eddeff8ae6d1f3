"""Arms in several process sets: whose turn it is, what is merged, and how often the sets wait for each other."""

from __future__ import annotations

from typing import Any, cast

import pytest

from nccl_bench.arms.arm import Arm
from nccl_bench.bench.turns import ArmsInTurn
from nccl_bench.plan.process_sets import ProcessSet
from nccl_bench.ranks.control import Control
from nccl_bench.ranks.joining import Ranks
from nccl_bench.ranks.progress import Progress


class CountingControl:
    """A control group that counts its barriers; rank ``n`` broadcasts ``values[n]``."""

    def __init__(self, values: dict[int, Any] | None = None) -> None:
        self.barriers = 0
        self._values = values or {}

    def barrier(self) -> None:
        self.barriers += 1

    def broadcast(self, _value: object, source: int) -> Any:
        return self._values[source]


def in_turn(control: CountingControl, *sets: str, set_index: int = 0) -> tuple[ArmsInTurn, Progress]:
    """Arms named by letters, each string a process set of two ranks."""
    process_sets = [ProcessSet(arms=tuple(names), variables={}, reason=None) for names in sets]
    ranks = Ranks(
        all_ranks=cast(Control, control),
        own_set=cast(Control, control),
        set_index=set_index,
        first_ranks=tuple(range(0, 2 * len(sets), 2)),
    )
    progress = Progress(None, 0, 0)
    return ArmsInTurn({name: cast(Arm, name) for name in sets[set_index]}, process_sets, ranks, progress), progress


@pytest.mark.parametrize(
    ("sets", "set_index", "visited"), [(("abc",), 0, "abcca"), (("ab", "c"), 0, "aba"), (("ab", "c"), 1, "cc")]
)
def test_an_arm_waits_until_the_other_process_set_is_done(sets: tuple[str, ...], set_index: int, visited: str) -> None:
    control = CountingControl()
    arms, _ = in_turn(control, *sets, set_index=set_index)
    assert "".join(arms.visit("abcca", "phase")) == visited
    # Every process waits as often: before the first turn, and wherever the process set changes.
    assert control.barriers == (3 if len(sets) > 1 else 0)


def test_a_process_that_waits_is_a_step_ahead_of_the_process_at_work() -> None:
    steps = []
    for set_index in (0, 1):
        arms, progress = in_turn(CountingControl(), "a", "b", set_index=set_index)
        for _ in arms.visit("a", "pilot"):
            pass
        steps.append((progress.position.step, progress.position.phase))
    assert steps == [(1, "pilot"), (2, "pilot, by other processes")]


@pytest.mark.parametrize(("sets", "barriers"), [(("ab",), 0), (("a", "b"), 3)])
def test_process_sets_work_exclusively_one_after_the_other(sets: tuple[str, ...], barriers: int) -> None:
    control = CountingControl()
    arms, _ = in_turn(control, *sets)
    assert arms.exclusively(lambda: control.barriers) == min(1, barriers)
    assert control.barriers == barriers


def test_findings_of_all_process_sets_are_merged() -> None:
    arms, _ = in_turn(CountingControl({0: {"a": 1}, 2: {"b": 2}}), "a", "b")
    assert arms.merge({"a": 1}) == {"a": 1, "b": 2}
    assert arms.present("ab") == ["a"]
