"""Scenarios: the options that each of them reads, and its own defaults."""

from __future__ import annotations

import pytest

from nccl_bench.catalog.devices import DEVICES
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.run import resolve
from nccl_bench.config.sizes import parse_sizes
from nccl_bench.errors import UsageError


@pytest.mark.parametrize(
    ("scenario", "option"),
    [
        ("chain", {"sizes": "8"}),
        ("chain", {"ops_per_batch": 4}),
        ("isolated", {"layers": 8}),
        ("isolated", {"delays": 0}),
    ],
)
def test_an_option_that_the_scenario_does_not_read_is_refused(scenario: str, option: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f"is given, and the scenario {scenario} does not read it: leave it out"):
        resolve("cpu", {"scenario": scenario}, option)


@pytest.mark.parametrize("device", DEVICES)
def test_a_scenario_has_its_own_timings_and_no_value_of_what_it_does_not_read(device: str) -> None:
    config = resolve(device, {"scenario": "chain"})
    assert Timing.ENQUEUE not in config.timings
    assert config.sizes is None
    assert config.layers is not None


def test_an_overlap_has_the_collective_and_the_sizes_that_are_worth_it_unless_others_are_given() -> None:
    config = resolve("cuda", {"scenario": "overlap"})
    assert (config.collectives, config.sizes, config.product) == (
        ("all_gather",),
        tuple(4**at << 20 for at in range(5)),
        None,
    )
    given = {"scenario": "overlap", "collectives": "all_reduce", "sizes": "8"}
    assert (resolve("cuda", given).collectives, resolve("cuda", given).sizes) == (("all_reduce",), (8,))


@pytest.mark.parametrize("device", DEVICES)
def test_a_scenario_that_varies_more_than_sizes_has_few_of_them(device: str) -> None:
    config = resolve(device, {"scenario": "skew"})
    assert config.sizes == parse_sizes("sizes", DEVICES[device].few_sizes)
    assert config.timings == (Timing.GATED,)
    assert resolve(device, {"scenario": "skew", "sizes": "4K"}).sizes == (4096,)
