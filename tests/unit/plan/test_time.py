"""The length of batches, and the estimated time of a plan."""

from __future__ import annotations

import pytest

from nccl_bench.catalog.arms import ARMS
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.config.run import resolve
from nccl_bench.plan.batches import LAUNCH_QUEUE_ENTRIES, most_ops_per_batch
from nccl_bench.plan.cases import make_plan
from nccl_bench.plan.time import deadline_s, estimate_s, most_rounds


def test_a_batch_takes_at_most_half_of_the_launch_queue() -> None:
    config = resolve("cuda", {"user_arms": [{"name": "mine", "target": "mine.py:Mine"}]})
    assert most_ops_per_batch(config, ["stream-free"]) == 500
    assert most_ops_per_batch(config, ["stream-free", "dedicated-stream"]) == 100
    assert most_ops_per_batch(config, ["stream-free", "mine"]) == 100
    # torch.distributed makes an uneven form of a collective for each rank and a copy, NCCL of one group.
    assert most_ops_per_batch(config, ["stream-free"], uneven_ranks=4) == 500
    assert most_ops_per_batch(config, ["stream-free", "torch"], uneven_ranks=4) == 20
    assert most_ops_per_batch(config, ["torch"], uneven_ranks=1000) == 1
    assert most_ops_per_batch(config, ARMS) * max(arm.launch_entries for arm in ARMS.values()) <= LAUNCH_QUEUE_ENTRIES


def test_the_estimate_grows_with_the_sweep() -> None:
    def estimate(layer: dict[str, object]) -> float:
        config = resolve("cuda", layer)
        return estimate_s(config, make_plan(config, 4))[0]

    small = estimate({"sizes": "8", "rounds": 9, "timings": "eager", "arms": "torch,stream-free"})
    assert small > DEVICES["cuda"].setup_s
    for more in (
        {"sizes": "8,16"},
        {"rounds": 90},
        {"timings": "eager,gated"},
        {"arms": "torch,stream-free,dedicated-stream"},
        {"sizes": "1G"},
    ):
        base = {"sizes": "8", "rounds": 9, "timings": "eager", "arms": "torch,stream-free"}
        assert estimate({**base, **more}) > small, more


def test_the_estimate_ranges_from_the_fewest_to_the_most_rounds_and_a_case_has_time_for_the_most() -> None:
    def estimate(**more: object) -> tuple[float, float]:
        config = resolve("cuda", {"sizes": "1G", "arms": "torch,stream-free", "rounds": 10}, more)
        return estimate_s(config, make_plan(config, 4))

    least, most = estimate(max_rounds=40)
    assert least == pytest.approx(estimate(max_rounds=10)[1])
    assert most == pytest.approx(estimate(rounds=40, max_rounds=40)[0])
    assert least < most
    assert estimate(max_rounds=40, max_seconds=(least + most) / 2) == pytest.approx((least, (least + most) / 2))
    # The fewest rounds are done whatever max_seconds is, and no run lasts longer than the most rounds.
    assert estimate(max_rounds=40, max_seconds=1) == pytest.approx((least, least))
    assert estimate(max_rounds=40, max_seconds=10**6) == pytest.approx((least, most))

    def deadline(**more: object) -> float:
        config = resolve("cuda", {"sizes": "1G", "rounds": 10}, more)
        (planned,) = make_plan(config, 4).cases
        return deadline_s(config, planned)

    assert deadline(max_rounds=400) == deadline(rounds=400, max_rounds=400) > deadline(max_rounds=10)
    assert deadline(arms="torch", max_rounds=400) == deadline(arms="torch", max_rounds=10)


def test_without_a_comparison_the_fewest_rounds_are_also_the_most() -> None:
    config = resolve(
        "cuda", {"sizes": "8", "placements": "in-place,out-of-place", "arms": "stream-free,torch", "rounds": 5}
    )
    in_place, out_of_place = make_plan(config, 2).cases
    assert [most_rounds(config, planned) for planned in (in_place, out_of_place)] == [60, 5]
