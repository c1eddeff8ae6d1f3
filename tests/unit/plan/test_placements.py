"""The placement in which each arm is called."""

from __future__ import annotations

import pytest

from nccl_bench.catalog.collectives import Placement
from nccl_bench.config.run import resolve
from nccl_bench.plan.cases import make_plan


def user_arms_plan(able: dict[str, str], collective: str = "all_reduce", **options: object) -> dict[str, str]:
    """Return the placement of each arm; ``able`` has those of each user arm, as letters, the preferred one first."""
    letters = {"i": Placement.IN_PLACE, "o": Placement.OUT_OF_PLACE, "r": Placement.RETURNED}
    user_arms = [{"name": name, "target": f"{name}.py:Made"} for name in able]
    layer = {"collectives": collective, "sizes": "1K", "user_arms": user_arms, "arms": [*able, "stream-free"]}
    config = resolve("cpu", layer, options)
    plan = make_plan(config, 2)
    placements: dict[str, list[list[Placement]]] = {
        name: [
            [letters[each] for each in able[name.removesuffix(":twin")] if letters[each] in planned.able[name]]
            if name.removesuffix(":twin") in able
            else [*planned.able[name]]
            for planned in plan.cases
        ]
        for name in config.measured_arms
    }
    (planned,) = plan.only(config.baseline, placements).cases
    return {name: placement[0] for name, placement in planned.placements.items() if not name.endswith(":twin")}


@pytest.mark.parametrize(
    ("able", "collective", "chosen"),
    [
        ({"before": "i", "after": "r"}, "all_reduce", {"before": "i", "after": "r", "stream-free": "i"}),
        ({"before": "io", "after": "rio"}, "all_reduce", {"before": "i", "after": "r", "stream-free": "i"}),
        ({"before": "r", "after": "r"}, "all_reduce", {"before": "r", "after": "r", "stream-free": "i"}),
        ({"before": "o", "after": "o"}, "all_reduce", {"before": "o", "after": "o", "stream-free": "o"}),
        ({"before": "i", "after": "o"}, "all_reduce", {"before": "i", "after": "o", "stream-free": "i"}),
        ({"before": "io", "after": "io"}, "all_gather", {"before": "i", "after": "i", "stream-free": "i"}),
        ({"before": "io", "after": "r"}, "all_gather", {"before": "o", "after": "r", "stream-free": "o"}),
        ({"before": "o", "after": "r"}, "all_to_all", {"before": "o", "after": "r", "stream-free": "o"}),
        ({"before": "", "after": "r"}, "all_reduce", {"after": "r", "stream-free": "i"}),
    ],
)
def test_each_arm_is_called_in_a_placement_that_it_has_and_the_caller_could_exchange(
    able: dict[str, str], collective: str, chosen: dict[str, str]
) -> None:
    assert user_arms_plan(able, collective) == chosen


def test_a_configured_placement_is_the_only_one() -> None:
    able = {"before": "i", "after": "rio"}
    assert user_arms_plan(able, placements="in-place") == {"before": "i", "after": "i", "stream-free": "i"}
    assert user_arms_plan(able, placements="returned") == {"after": "r", "stream-free": "r"}
